"""Between a result and the PACS: does it belong to this patient, and does it say what it shows?

The validators of the field look at one object at a time and pass a segmentation of another
patient, with another frame of reference, or a report on a segment that does not exist. What
they miss is checked here, on the files as they were read back from disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import (
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.errors import GateClosed
from node.gate.agreement import agreement_problems
from node.gate.belonging import (
    author_problems,
    code_problems,
    device_uid,
    identity_of,
    identity_problems,
    known_of,
    reference_problems,
    uid_problems,
)
from node.gate.contents import contents_of
from node.gate.derived_images import image_problems, series_problems
from node.gate.documents import documents_of
from node.gate.parametric_map import map_problems
from node.gate.pictures import pdf_problems, picture_problems
from node.gate.report import report_problems
from node.gate.segmentation import outlines_of, segmentation_problems
from node.gate.selection import is_rejection_note, presentation_problems, selection_problems
from node.profiles import IMAGE_CLASSES, LABEL_MAP_SEGMENTATION_STORAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydicom import Dataset

    from node.gate.belonging import Known

    Problems = Callable[[Dataset, Sequence[Dataset]], Iterator[str]]

_SEGMENTATIONS = {
    str(SegmentationStorage): "The segmentation",
    LABEL_MAP_SEGMENTATION_STORAGE: "The label map",
}

_SELECTIONS = (GrayscaleSoftcopyPresentationStateStorage, KeyObjectSelectionDocumentStorage)
"""What only points at images of the source."""

_OTHERS: dict[str, tuple[str, Problems]] = {
    ParametricMapStorage: ("The parametric map", map_problems),
    GrayscaleSoftcopyPresentationStateStorage: ("The presentation state", presentation_problems),
    KeyObjectSelectionDocumentStorage: (
        "The key object selection",
        lambda selection, _: selection_problems(selection),
    ),
    SecondaryCaptureImageStorage: (
        "The secondary capture",
        picture_problems,
    ),
    MultiFrameTrueColorSecondaryCaptureImageStorage: (
        "The secondary capture",
        picture_problems,
    ),
    EncapsulatedPDFStorage: ("The PDF", pdf_problems),
    **dict.fromkeys(IMAGE_CLASSES, ("A derived image", image_problems)),
}
"""SOP class -> what a message calls it, and what is checked of it alone."""


@dataclass(frozen=True)
class _Against:
    """What each object of a result is held against.

    Attributes:
        sources: Headers of the instances that the result lies on.
        identity: What all that was analysed says of whose it is.
        images: The sources, as what may be referred to.
        known: All that was analysed, and the result.
        superseded: Objects of the result that this one replaces.
    """

    sources: Sequence[Dataset]
    identity: Mapping[str, set[str]]
    images: Known
    known: Known
    superseded: Known


def verify(
    objects: Sequence[Dataset],
    sources: Sequence[Dataset],
    superseded: Sequence[Dataset] = (),
    tick: Callable[[], None] = lambda: None,
    *,
    beside: Sequence[Dataset] = (),
) -> None:
    """Hold the objects of one result against the instances they were made from.

    Args:
        objects: As read back from disk, of every kind a result may have.
        sources: Headers of the instances that were analysed, of the series that the result lies on.
        superseded: Headers of the objects of the result that this one replaces: what a rejection
            note may reject, and a report may call its predecessor.
        tick: Called between objects; keeps the lease.
        beside: Headers of the other series that were analysed: evidence of the same patient and
            study, on which nothing is drawn.

    Raises:
        GateClosed: With every problem found, each a sentence without patient data.
    """
    problems = tuple(dict.fromkeys(_problems(objects, sources, superseded, tick, beside)))
    if problems:
        raise GateClosed(problems)


def _problems(
    objects: Sequence[Dataset],
    sources: Sequence[Dataset],
    superseded: Sequence[Dataset],
    tick: Callable[[], None],
    beside: Sequence[Dataset],
) -> Iterator[str]:
    if not objects or not sources:
        yield "There is no result object or no source instance to compare."
        return
    images = known_of(sources)
    analysed = images | known_of(beside)
    yield from uid_problems(objects, analysed)
    if len(set(map(device_uid, objects))) > 1:
        yield "The objects name different algorithms as their maker (Device UID)."
    yield from series_problems(objects, sources)
    documents = documents_of(objects)
    if not documents:
        yield "The result has no report."
    segmentations = []
    for one in objects:
        if one.SOPClassUID in _SEGMENTATIONS:
            tick()
            segmentations.append(outlines_of(one))
    against = _Against(
        sources,
        identity_of((*sources, *beside)),
        images,
        analysed | known_of(objects),
        known_of(superseded),
    )
    names = {id(one.dataset): one.name for one in documents}
    for one in objects:
        tick()
        name = names.get(id(one)) or _name(one)
        if name is None:
            yield f"An object of the result is of a kind that no result has ({one.SOPClassUID})."
            continue
        yield from _each(one, name, against)
    for document in documents:
        tick()
        yield from _said_of(document.name, report_problems(document, sources))
    for outlines in segmentations:
        tick()
        name = _SEGMENTATIONS[outlines.dataset.SOPClassUID]
        yield from _said_of(name, segmentation_problems(outlines, sources))
    tick()
    yield from agreement_problems(documents, segmentations)


def _each(one: Dataset, name: str, against: _Against) -> Iterator[str]:
    """Yield what is wrong with one object of any kind, as sentences."""
    contents = contents_of(one)
    known, what = against.known, "neither source nor result"
    if is_rejection_note(one):
        known, what = against.superseded, "not superseded"
    elif one.SOPClassUID in _SELECTIONS:
        known, what = against.images, "not images of the source"
    yield from _said_of(name, identity_problems(one, against.identity))
    yield from _said_of(name, reference_problems(one, contents, known, against.superseded, what))
    yield from _said_of(name, author_problems(one))
    yield from (f"{name}: {problem}" for problem in code_problems(contents))
    if one.SOPClassUID in _OTHERS:
        _, problems = _OTHERS[one.SOPClassUID]
        yield from _said_of(name, problems(one, against.sources))


def _said_of(name: str, predicates: Iterator[str]) -> Iterator[str]:
    return (f"{name} {predicate}." for predicate in predicates)


def _name(one: Dataset) -> str | None:
    if is_rejection_note(one):
        return "The rejection note"
    if one.SOPClassUID in _OTHERS:
        return _OTHERS[one.SOPClassUID][0]
    return _SEGMENTATIONS.get(str(one.SOPClassUID))
