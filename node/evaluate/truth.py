"""What people say is true of a study: segmentations, structured reports, a table.

The table is ``truth.csv`` in the folder of all studies, with the columns ``study`` (Study
Instance UID, or name of the study's folder), ``concept`` (code or meaning of what it is about)
and ``value`` (yes, no, or a number). ``of`` names the finding or segment that a number is about,
where several have one; ``patient`` tells patients apart where Patient ID does not.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK
from pydicom import dcmread

from node.errors import UsageError
from node.load.prior import planes
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, name_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.load.source import Source
    from pipelines.contract import Code
    from pipelines.outline import Mask

TABLE = "truth.csv"
_COLUMNS = {"study", "concept", "of", "value", "patient"}
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Stated:
    """One line of the table, or one item of a report.

    Attributes:
        concept: Code value or meaning, in any case.
        of: Which finding or segment a number is about; empty: the only one that has it.
        value: Whether it is there, or how much it is.
    """

    concept: str
    value: bool | float
    of: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Truth:
    """What is true of one study.

    Attributes:
        outlines: What is outlined -> each lesion or structure, as a mask on the source.
        stated: What is said of it.
    """

    outlines: Mapping[Code, tuple[Mask, ...]] = field(default_factory=dict)
    stated: tuple[Stated, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.outlines or self.stated)


def read_table(folder: Path) -> dict[str, tuple[Stated, ...]]:
    """Return study -> what ``truth.csv`` says of it; nothing where there is no such file.

    Raises:
        UsageError: It is not laid out as this module says.
    """
    path = folder / TABLE
    if not path.exists():
        return {}
    found: defaultdict[str, list[Stated]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = set(rows.fieldnames or ())
        if not {"study", "concept", "value"} <= columns <= _COLUMNS:
            raise UsageError(
                f"{TABLE} has the columns {', '.join(sorted(columns)) or 'none'}.",
                do="Give it study, concept and value; of and patient where they are needed.",
            )
        for number, row in enumerate(rows, start=2):
            found[row["study"]].append(_stated(row, number))
    return {study: tuple(lines) for study, lines in found.items()}


def _stated(row: dict[str, str], number: int) -> Stated:
    text = (row["value"] or "").strip()
    value: bool | float | None = _WORDS.get(text.casefold())
    if value is None:
        with suppress(ValueError):
            value = float(text)
    if value is None or not math.isfinite(value):
        raise UsageError(
            f"Line {number} of {TABLE} has a value that is neither yes, no nor a number.",
            do="Write yes or no, or a number in the unit of the pipeline's report.",
        )
    return Stated(row["concept"].strip(), value, row.get("of") or "", row.get("patient") or "")


def read_truth(
    source: Source, segmentations: Iterable[Path], reports: Iterable[Path], lines: Sequence[Stated]
) -> Truth:
    """Return what is true of a study.

    Args:
        source: Its images, as the pipeline gets them.
        segmentations: Of its images; others are passed over.
        reports: Structured reports on it (TID 1500).
        lines: What the table says of it.
    """
    outlines: defaultdict[Code, list[Mask]] = defaultdict(list)
    for path in segmentations:
        for code, mask in _outlines(dcmread(path), source):
            outlines[code] += [mask]
    stated = [one for path in reports for one in _reported(dcmread(path))]
    return Truth({code: tuple(masks) for code, masks in outlines.items()}, (*stated, *lines))


def _outlines(segmentation: Dataset, source: Source) -> list[tuple[Code, Mask]]:
    """Return what each segment is, and its mask on the source.

    Raises:
        CouldNotLook: It was drawn on other images, or is damaged.
    """
    labelmap = segmentation.get("SegmentationType") == "LABELMAP"
    shape = source.study.shape  # type: ignore[union-attr]
    masks = {
        int(item.SegmentNumber): np.zeros(shape, np.bool_) for item in segmentation.SegmentSequence
    }
    for k, number, plane in planes(segmentation, source):
        down, right = map(round, source.shifts_px[k]) if source.shifts_px else (0, 0)
        rows, columns = plane.shape
        place = (k, slice(down, down + rows), slice(right, right + columns))
        for segment in masks if labelmap else (number,):
            masks[segment][place] |= plane == segment if labelmap else plane > 0
    return [
        (
            code_of(item.SegmentedPropertyTypeCodeSequence[0]),
            masks[int(item.SegmentNumber)],
        )
        for item in segmentation.SegmentSequence
    ]


def _reported(report: Dataset) -> list[Stated]:
    """Return the findings of a report's measurement groups, and their numbers."""
    stated = []
    for group in walk(report):
        if not is_named(group, codes.MEASUREMENT_GROUP):
            continue
        findings = [
            code_of(item.ConceptCodeSequence[0]) for item in children_named(group, codes.FINDING)
        ]
        absent = any(
            code_of(item.ConceptCodeSequence[0]).value == codes.ABSENT.value
            for item in group.ContentSequence
            if item.get("ValueType") == "CODE"
        )
        stated += [Stated(finding.value, not absent) for finding in findings]
        of = findings[0].value if findings else ""
        stated += [
            Stated(name_of(item).value, float(item.MeasuredValueSequence[0].NumericValue), of)
            for item in group.ContentSequence
            if item.get("ValueType") == "NUM" and item.get("MeasuredValueSequence")
        ]
    return stated


def lesions_of(masks: Iterable[Mask]) -> tuple[Mask, ...]:
    """Return each connected piece of what was outlined, over faces, edges and corners."""
    found: list[Mask] = []
    for mask in masks:
        pieces = SimpleITK.ConnectedComponent(
            SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True
        )
        numbered = SimpleITK.GetArrayViewFromImage(pieces)
        found += [numbered == number for number in range(1, int(numbered.max(initial=0)) + 1)]
    return tuple(found)
