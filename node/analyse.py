"""Analyse: files of one series in, result objects as files out. No ledger, no network.

What the inference process does for a job, and ``radnode run`` for a folder.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from node.crashpoint import reach
from node.domain import Outcome
from node.encode.contradictions import contradictions
from node.encode.objects import encode, encode_could_not_look, within_images
from node.encode.write import write
from node.load.prior import compared
from node.load.source import load, readable_headers
from pipelines.contract import CouldNotLook, Presence, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from node.encode.work import Encoded, Work
    from node.load.prior import Earlier
    from node.load.source import Source
    from pipelines.contract import Pipeline


@dataclass(frozen=True)
class Analysis:
    """What came of one series.

    Attributes:
        files: Role ("seg", "sr") -> file of each object, in the order they must be sent.
        seconds: "load", "model" and "encode" -> how long it took; 0 where it was not reached;
            "compare" where earlier results were looked for.
    """

    outcome: Outcome
    files: dict[str, Path]
    seconds: dict[str, float]


def analyse(
    pipeline: Pipeline,
    paths: Sequence[Path],
    work: Work,
    folder: Path,
    earlier: Earlier | None = None,
) -> Analysis:
    """Run ``pipeline`` on one series and write the objects that say what it found.

    Args:
        pipeline: Warmed up.
        paths: Files of the series, in any order.
        work: What the objects have in common.
        folder: Where to write them.
        earlier: Results to compare with; None: nobody asked for it.

    Raises:
        GateClosed: The result contradicts itself or its source.
        UnreadableSeries: No file of the series can be read at all.
    """
    seconds = dict.fromkeys(("load", "model", "encode"), 0.0)
    try:
        with _timed(seconds, "load"):
            source = load(paths)
        reach("inference.running")
        with _timed(seconds, "model"):
            result = pipeline.run(source.study)
    except CouldNotLook as refusal:
        with _timed(seconds, "encode"):
            # What judges nothing takes back nothing: it names no predecessor.
            unlinked = replace(work, superseded={}, rejected=())
            objects = encode_could_not_look(readable_headers(paths), refusal.reason, unlinked)
            files = _write(objects, folder)
        return Analysis(Outcome.COULD_NOT_LOOK, files, seconds)
    if earlier is not None and not any(contradictions(source, result, work.report)):
        with _timed(seconds, "compare"):
            result = _followed_up(source, result, earlier, work.report)
    with _timed(seconds, "encode"):
        files = _write(encode(source, result, work), folder)
    return Analysis(outcome_of(result), files, seconds)


def _followed_up(source: Source, result: Result, earlier: Earlier, report: str) -> Result:
    """Return the result as compared with earlier ones, or with a note where that went wrong."""
    result = within_images(source, result)
    followed = compared(source, result, earlier)
    if not any(contradictions(source, followed, report)):
        return followed
    why = "Earlier results were not compared: an earlier one holds what no result may say."
    return replace(result, notes=(*result.notes, *earlier.problems, why))


def outcome_of(result: Result) -> Outcome:
    """Return whether a result says that something is there which is not normal.

    A finding that is undecided counts, and so does an outline that no finding speaks of.
    """
    normal = [
        finding.presence is Presence.ABSENT
        or (finding.normal and finding.presence is Presence.PRESENT)
        for finding in result.findings
    ]
    mentioned = {finding.segment for finding in result.findings}
    unmentioned = any(
        segment.label not in mentioned and segment.mask.any() for segment in result.segments
    )
    return Outcome.FOUND if unmentioned or not all(normal) else Outcome.NOTHING_FOUND


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took, also where it fails."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - started


def _write(objects: Sequence[Encoded], folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for one in objects:
        files[one.role] = folder / f"{one.role}.dcm"
        write(one.dataset, files[one.role])
    return files
