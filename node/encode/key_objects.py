"""TID 2010 Key Object Selection: the images to look at, and the results no longer to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highdicom as hd
from highdicom import sr
from pydicom.uid import (
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.domain import Role
from node.encode import identity
from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE
from pipelines.contract import Presence, Waveform
from sr_templates import codes, context, items, places
from sr_templates.report import Subject
from sr_templates.tree import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom import Dataset

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Code, Result

_IMAGES = frozenset(
    map(
        str,
        (
            SegmentationStorage,
            LABEL_MAP_SEGMENTATION_STORAGE,
            ParametricMapStorage,
            SecondaryCaptureImageStorage,
            MultiFrameTrueColorSecondaryCaptureImageStorage,
        ),
    )
)
"""Result objects with pixels: an IMAGE item refers to them, a COMPOSITE item to any other."""

_REJECTIONS = (
    codes.REJECTED_FOR_QUALITY,
    codes.REJECTED_FOR_SAFETY,
    codes.INCORRECT_WORKLIST_ENTRY,
    codes.RETENTION_EXPIRED,
)
"""Titles of rejection notes (IHE RAD TF-3 4.66.4.1.3)."""


def encode_key_objects(source: Source, result: Result, work: Work) -> Dataset | None:
    """Return the images that show the findings best, or None where nothing is shown.

    Of each segment the image on which it is largest, of each region the image it is drawn on.
    Findings that are absent or normal are no reason to look.
    """
    if isinstance(source.study, Waveform):
        return None
    masks = places.masks_of(result)
    shown = [
        finding
        for finding in places.spoken_findings(result)
        if finding.presence is not Presence.ABSENT
        and not finding.normal
        and places.images_of(finding, masks)
    ]
    key = {region.image for finding in shown for region in finding.regions}
    key |= {places.best_image(masks[one.segment]) for one in shown if one.segment in masks}
    if not key:
        return None
    subject = Subject(
        source.instances, source.study, work.author, work.uid, frame_numbers=source.frame_numbers
    )
    references = places.image_items(subject, sorted(key), codes.SOURCE, items.CONTAINS)
    evidence = {str(one.SOPInstanceUID): one for one, _ in map(subject.image, sorted(key))}
    said = [*map(context.statement, shown), context.provenance(work.author)[0]]
    return _document(
        _root(codes.OF_INTEREST, (), " ".join(said), references, work),
        tuple(evidence.values()),
        source.instances[0],
        work,
        Role.KO,
    )


def encode_rejection_note(
    instances: Sequence[Dataset], superseded: Iterable[Dataset], work: Work
) -> Dataset:
    """Return the note that takes an earlier result out of use, object by object.

    Its title is Rejected for Quality Reasons: the objects were made from less than the whole
    study, or by an earlier model, and are right for their patient and order. Archives then hide
    them, or still show them to those who ask. The other titles of IOCM say more than is true:
    Patient Safety that nobody may ever see them, Incorrect Modality Worklist Entry that they
    belong to another patient or order, Data Retention Policy Expired that they may be deleted.

    Args:
        instances: Headers of what was analysed; the first gives patient and study.
        superseded: Headers of the earlier result's objects, of the same study. Rejection notes
            among them are passed over: to reject one would bring back what it rejected.
        work: The job.

    Raises:
        ValueError: Nothing is superseded.
    """
    rejected = tuple(one for one in superseded if not _is_rejection_note(one))
    if not rejected:
        raise ValueError("A rejection note needs an object to reject.")
    said = (
        f"Superseded: a later result of {work.pipeline} takes the place of these objects. "
        f"It was made by {work.model.name} {work.model.version}."
    )
    # TID 2010 row 3: a note titled so says which reason of CID 7011; the nearest to superseded.
    reason = items.code(codes.TITLE_MODIFIER, codes.INAPPROPRIATE_PROCESSING, items.HAS_CONCEPT_MOD)
    root = _root(codes.REJECTED_FOR_QUALITY, (reason,), said, map(_reference, rejected), work)
    return _document(root, rejected, instances[0], work, Role.REJECTION)


def _is_rejection_note(header: Dataset) -> bool:
    title = name_of(header)
    return header.SOPClassUID == KeyObjectSelectionDocumentStorage and any(
        (title.value, title.scheme) == (one.value, one.scheme) for one in _REJECTIONS
    )


def _reference(header: Dataset) -> Any:
    kind = sr.ImageContentItem if header.SOPClassUID in _IMAGES else sr.CompositeContentItem
    return kind(
        items.concept(codes.SOURCE),
        header.SOPClassUID,
        header.SOPInstanceUID,
        relationship_type=items.CONTAINS,
    )


def _root(
    title: Code, modifiers: Iterable[Any], said: str, references: Iterable[Any], work: Work
) -> Any:
    children = [
        *modifiers,
        *context.language(),
        *context.observer(work.author),
        items.text(codes.KEY_OBJECT_DESCRIPTION, said),
        *references,
    ]
    return items.root(title, children, "2010")


def _document(
    root: Any, evidence: Sequence[Dataset], source: Dataset, work: Work, role: Role
) -> Dataset:
    """Return a document that refers to all of ``evidence``, and to nothing else."""
    document: Dataset = hd.ko.KeyObjectSelectionDocument(
        evidence=[identity.blank_identity(one) for one in evidence],
        content=hd.ko.KeyObjectSelection.from_sequence([root]),
        series_instance_uid=work.uid(f"{role}-series"),
        series_number=1,
        sop_instance_uid=work.uid(role),
        instance_number=1,
        manufacturer=identity.MANUFACTURER,
        specific_character_set="ISO_IR 192",
    )
    for item in document.ContentSequence:
        if item.ValueType in ("IMAGE", "COMPOSITE"):
            # highdicom names them, where TID 2010 forbids a purpose of reference.
            del item.ConceptNameCodeSequence
    identity.stamp(document, source, work, role)
    return document
