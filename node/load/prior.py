"""An earlier result, from its files to what a follow-up compares: images, places, volumes.

A segmentation is read frame by frame by what each frame refers to, never into masks: what a
comparison needs of a lesion is where it is and how large.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import date
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from node.load.pixels import stored_frames
from node.load.source import DAMAGED, Source, load, read_headers
from node.malformed import MALFORMED
from node.uids import is_uid
from pipelines.contract import Code, CouldNotLook, Volume
from pipelines.follow_up import Lesion, Prior, follow_up
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipelines.contract import Result

FloatArray = npt.NDArray[np.float64]

_DATES = ("AcquisitionDate", "AcquisitionDateTime", "StudyDate")
"""When images were taken, the best first."""


@dataclass(frozen=True)
class PriorFiles:
    """The files of one earlier result.

    Attributes:
        sources: The images that it was made from, all of them.
        segmentation: What it outlines; None: it looked and found nothing.
        reports: Its reports, in any order.
    """

    sources: tuple[Path, ...]
    segmentation: Path | None
    reports: tuple[Path, ...]


@dataclass(frozen=True)
class Earlier:
    """What was found of earlier results.

    Attributes:
        results: The latest first.
        problems: Sentences for the reader: what could not be looked up, and why.
        reports: What people wrote of earlier studies of the patient, in any order.
    """

    results: tuple[PriorFiles, ...] = ()
    problems: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return {
            "results": [
                {
                    "sources": [str(path) for path in one.sources],
                    "segmentation": None if one.segmentation is None else str(one.segmentation),
                    "reports": [str(path) for path in one.reports],
                }
                for one in self.results
            ],
            "problems": list(self.problems),
            "reports": [str(path) for path in self.reports],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Earlier:
        """Read what ``to_json`` wrote."""
        return cls(
            tuple(
                PriorFiles(
                    tuple(map(Path, one["sources"])),
                    None if one["segmentation"] is None else Path(one["segmentation"]),
                    tuple(map(Path, one["reports"])),
                )
                for one in written["results"]
            ),
            tuple(written["problems"]),
            tuple(map(Path, written["reports"])),
        )


def compared(source: Source, result: Result, earlier: Earlier) -> Result:
    """Return a result with what earlier ones add to it, and a note on those that add nothing.

    Args:
        source: What the pipeline saw.
        result: What it found there.
        earlier: What to compare it with.
    """
    acquired = acquired_on(source.instances[0])
    if not isinstance(source.study, Volume):
        return _with_notes(result, "Earlier results were not compared: this is no volume.")
    if acquired is None:
        why = "the images do not say when they were taken"
        return _with_notes(result, f"Earlier results were not compared: {why}.")
    priors, problems = [], list(earlier.problems)
    for one in earlier.results:
        try:
            priors.append(read_prior(one))
        except CouldNotLook as error:
            problems.append(f"One earlier result could not be compared. {error.reason}")
    if priors or not problems:
        try:
            imaged = imaged_of(source)
            result = follow_up(source.study, result, priors, acquired, imaged)
        except RuntimeError:  # of ITK, on images that it cannot align
            problems.append("Earlier results could not be compared: aligning the images failed.")
    return _with_notes(result, *problems)


def _with_notes(result: Result, *notes: str) -> Result:
    return replace(result, notes=(*result.notes, *notes))


def read_prior(files: PriorFiles) -> Prior:
    """Read an earlier result.

    Raises:
        CouldNotLook: It cannot be compared; the reason says why.
    """
    try:
        return _read(files)
    except (OSError, *MALFORMED) as error:
        raise CouldNotLook(DAMAGED) from error


def _read(files: PriorFiles) -> Prior:
    source = load(files.sources)
    acquired = acquired_on(source.instances[0])
    if not isinstance(source.study, Volume):
        raise CouldNotLook("Only volumes are compared with earlier ones.")
    if acquired is None:
        raise CouldNotLook("The earlier images do not say when they were taken.")
    lesions: tuple[Lesion, ...] = ()
    if files.segmentation is not None:
        findings = findings_of(read_headers(files.reports))
        lesions = read_lesions(dcmread(files.segmentation), source, findings)
    return Prior(acquired, source.study, lesions, imaged_of(source))


def imaged_of(source: Source) -> npt.NDArray[np.bool_] | None:
    """Return where in a volume the images lie that it was straightened of; None: everywhere."""
    if not source.shifts_px:
        return None
    return source.within_images(np.ones(source.study.shape, np.bool_))  # type: ignore[union-attr]


def acquired_on(image: Dataset) -> date | None:
    """Return the day on which an image was taken; None where its header does not say."""
    for keyword in _DATES:
        text = str(image.get(keyword) or "")[:8]
        if len(text) == 8 and text.isdigit():
            try:
                return date(int(text[:4]), int(text[4:6]), int(text[6:]))
            except ValueError:  # a day that no calendar has
                continue
    return None


def findings_of(reports: Iterable[Dataset]) -> dict[str, Code]:
    """Return tracking UID -> what is found there, from the measurement groups of reports."""
    found = {}
    for report in reports:
        for group in walk(report):
            if is_named(group, codes.MEASUREMENT_GROUP):
                for uid in children_named(group, codes.TRACKING_UID):
                    for finding in children_named(group, codes.FINDING):
                        found[str(uid.UID)] = code_of(finding.ConceptCodeSequence[0])
    return found


def read_lesions(
    segmentation: Dataset, source: Source, findings: Mapping[str, Code]
) -> tuple[Lesion, ...]:
    """Return what a segmentation outlines on the images that it was made from.

    Args:
        segmentation: BINARY, LABELMAP, or FRACTIONAL with each voxel occupied wholly or not at
            all; with pixel data and file meta information.
        source: Its images, as loaded.
        findings: Tracking UID -> what is found there; others are what their segment says.

    Raises:
        CouldNotLook: It is of another kind, or of other images.
    """
    kind = segmentation.get("SegmentationType")
    occupancy = segmentation.get("SegmentationFractionalType") == "OCCUPANCY"
    if kind not in ("BINARY", "LABELMAP") and not (kind == "FRACTIONAL" and occupancy):
        raise CouldNotLook("The earlier segmentation is neither binary nor a label map.")
    voxels: defaultdict[int, int] = defaultdict(int)
    index_sums: defaultdict[int, FloatArray] = defaultdict(lambda: np.zeros(3))
    for k, number, plane in planes(segmentation, source):
        if kind == "FRACTIONAL" and (plane[plane > 0] != segmentation.MaximumFractionalValue).any():
            raise CouldNotLook("The earlier segmentation has voxels that are occupied in part.")
        down, right = map(round, source.shifts_px[k]) if source.shifts_px else (0, 0)
        for segment in np.unique(plane[plane > 0]) if kind == "LABELMAP" else (number,):
            rows, columns = np.nonzero(plane == segment if kind == "LABELMAP" else plane)
            count = len(rows)
            voxels[int(segment)] += count
            index_sums[int(segment)] += (
                k * count,
                rows.sum() + down * count,
                columns.sum() + right * count,
            )
    grid = source.study.grid  # type: ignore[union-attr]
    tracked = Counter(str(one.get("TrackingUID", "")) for one in segmentation.SegmentSequence)
    lesions = []
    for item in segmentation.SegmentSequence:
        number = int(item.SegmentNumber)
        if not voxels[number]:
            continue
        x, y, z, _ = (grid.affine @ (*index_sums[number] / voxels[number], 1.0)).tolist()
        tracking_uid = str(item.get("TrackingUID", ""))
        lesions.append(
            Lesion(
                str(item.SegmentLabel),
                findings.get(tracking_uid) or code_of(item.SegmentedPropertyTypeCodeSequence[0]),
                # Else it would make this result contradict itself.
                tracking_uid if is_uid(tracking_uid) and tracked[tracking_uid] == 1 else "",
                (x, y, z),
                voxels[number] * grid.voxel_volume_ml,
            )
        )
    return tuple(lesions)


def planes(segmentation: Dataset, source: Source) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Yield slice, segment number and values of each frame with a voxel; a label map's number is 0.

    Raises:
        CouldNotLook: A frame was drawn on an image that is not in ``source``.
    """
    slices = {
        (str(image.SOPInstanceUID), number): k
        for k, (image, number) in enumerate(
            zip(source.instances, repeat(1), strict=False)
            if not source.frame_numbers
            else zip(repeat(source.instances[0]), source.frame_numbers, strict=False)
        )
    }
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    groups = segmentation.PerFrameFunctionalGroupsSequence
    for group, plane in zip(groups, stored_frames(segmentation), strict=True):
        if not plane.any():
            continue
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        key = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 1))
        if key not in slices:
            raise CouldNotLook("The earlier segmentation was drawn on other images.")
        segments = (
            group.get("SegmentIdentificationSequence")
            or shared.get("SegmentIdentificationSequence")
            or (Dataset(),)
        )
        yield slices[key], int(segments[0].get("ReferencedSegmentNumber", 0)), plane
