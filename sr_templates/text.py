"""Any structured report as plain text, for people: a line an item, indented like the tree."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from sr_templates.tree import code_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydicom import Dataset

_REFERENCES = ("IMAGE", "COMPOSITE", "WAVEFORM")


def as_text(sr: Dataset) -> str:
    """Return the content of a report; nothing of the patient, and UIDs by their ends only."""
    title = name_of(sr).meaning or "Structured report"
    flags = [str(sr.get(keyword, "")) for keyword in ("CompletionFlag", "VerificationFlag")]
    said = ", ".join(flag.lower() for flag in flags if flag)
    heading = f"{title} ({said})" if said else title
    return "\n".join([heading, *_lines(sr, 1)]) + "\n"


def _lines(node: Dataset, depth: int) -> Iterator[str]:
    for is_bare, run in groupby(node.get("ContentSequence") or (), _is_bare_reference):
        siblings = list(run)
        if is_bare and len(siblings) > 3:
            name = name_of(siblings[0]).meaning or "Referenced"
            yield f"{'  ' * depth}{name}: {len(siblings)} instances"
            continue
        for item in siblings:
            yield f"{'  ' * depth}{_line(item)}"
            yield from _lines(item, depth + 1)


def _is_bare_reference(item: Dataset) -> bool:
    return item.get("ValueType") in _REFERENCES and "ContentSequence" not in item


def _line(item: Dataset) -> str:
    name = name_of(item).meaning
    value = " ".join(_value(item).split())
    return f"{name}: {value}" if name and value else name or value or "(unnamed)"


def _value(item: Dataset) -> str:
    """Return what the item says; value types as in PS3.3 table C.17.3-7."""
    write = _WRITERS.get(str(item.get("ValueType")))
    return write(item) if write else ""


def _plain(item: Dataset) -> str:
    for keyword in ("TextValue", "DateTime", "Date", "Time"):
        if keyword in item:
            return str(item[keyword].value)
    return ""


def _region(item: Dataset) -> str:
    points = ", ".join(f"{float(value):g}" for value in item.GraphicData)
    return f"{item.GraphicType} ({points})"


def _number(item: Dataset) -> str:
    measured = item.get("MeasuredValueSequence") or ()
    if not measured:
        reasons = item.get("NumericValueQualifierCodeSequence") or ()
        return code_of(reasons[0]).meaning.lower() if reasons else "not measured"
    units = measured[0].get("MeasurementUnitsCodeSequence") or ()
    ucum = code_of(units[0]).value if units else "(no unit)"
    value = f"{float(measured[0].NumericValue):.6g}"
    return value if ucum == "1" else f"{value} {ucum.replace('{pixels}', 'pixels')}"


def _reference(item: Dataset) -> str:
    reference = item.ReferencedSOPSequence[0]
    parts = [
        reference.ReferencedSOPClassUID.name.removesuffix(" Storage"),
        _short(reference.ReferencedSOPInstanceUID),
    ]
    for keyword, word in (
        ("ReferencedSegmentNumber", "segment"),
        ("ReferencedFrameNumber", "frame"),
    ):
        if keyword in reference:
            element = reference[keyword]
            numbers = element.value if element.VM > 1 else [element.value]
            parts.append(f"{word} {', '.join(map(str, numbers))}")
    channels = reference.get("ReferencedWaveformChannels")
    if channels:
        pairs = zip(channels[::2], channels[1::2], strict=True)
        parts.append("channels " + ", ".join(f"{group}/{channel}" for group, channel in pairs))
    return " ".join(parts)


def _time_range(item: Dataset) -> str:
    for keyword, word in (
        ("ReferencedSamplePositions", "samples"),
        ("ReferencedTimeOffsets", "seconds"),
        ("ReferencedDateTime", "times"),
    ):
        if keyword in item:
            values = item[keyword].value
            listed = values if item[keyword].VM > 1 else [values]
            return f"{word} {' to '.join(str(value) for value in listed)}"
    return ""


def _short(uid: str) -> str:
    """Return the end of a UID: enough to tell two apart, too little to look a patient up."""
    return f"...{str(uid)[-6:]}"


_WRITERS: Mapping[str, Callable[[Dataset], str]] = {
    "CODE": lambda item: code_of(item.ConceptCodeSequence[0]).meaning,
    "NUM": _number,
    "UIDREF": lambda item: _short(item.UID),
    **dict.fromkeys(_REFERENCES, _reference),
    "TCOORD": _time_range,
    **dict.fromkeys(("SCOORD", "SCOORD3D"), _region),
    "PNAME": lambda _: "(a person)",
    **dict.fromkeys(("TEXT", "DATETIME", "DATE", "TIME"), _plain),
}
