"""Analyse: files of one or more series in, result objects as files out. No ledger, no network.

What the inference process does for a job, and ``radnode run`` for a folder.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from node.crashpoint import reach
from node.domain import Outcome
from node.encode.contradictions import contradictions
from node.encode.objects import each_encoded, encode_could_not_look, within_images
from node.encode.write import write
from node.load.history import with_history
from node.load.inputs import headers_of, in_order, load_inputs, run, source_of
from node.load.prior import compared
from pipelines.contract import CouldNotLook, Presence, Result
from pipelines.knowledge.graph import advice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from node.encode.work import Encoded, Work
    from node.load.prior import Earlier
    from node.load.source import Source
    from pipelines.contract import AnyPipeline


@dataclass(frozen=True)
class Analysis:
    """What came of one series, or of several together.

    Attributes:
        files: Role ("seg", "sr") -> file of each object, in the order they must be sent.
        seconds: "load", "model" and "encode" -> how long it took; 0 where it was not reached;
            "wait" for a turn on the graphics card, where there is one;
            "compare" where earlier results were looked for.
    """

    outcome: Outcome
    files: dict[str, Path]
    seconds: dict[str, float]


def analyse(  # noqa: PLR0913, PLR0917 - what a job consists of
    pipeline: AnyPipeline,
    inputs: Mapping[str, Sequence[Path]],
    work: Work,
    folder: Path,
    earlier: Earlier | None = None,
    turn: AbstractContextManager[None] | None = None,
) -> Analysis:
    """Run ``pipeline`` and write the objects that say what it found.

    Args:
        pipeline: Warmed up.
        inputs: Name of each input that came -> files of its series, in any order; "" is the name
            where the pipeline judges one series.
        work: What the objects have in common.
        folder: Where to write them.
        earlier: Results to compare with; None: nobody asked for it.
        turn: Entered while the model runs: its share of a graphics card. Studies are loaded and
            results encoded while another process has its turn.

    Raises:
        GateClosed: The result contradicts itself or its source.
        UnreadableSeries: No file can be read at all.
    """
    seconds = dict.fromkeys(("load", "model", "encode"), 0.0)
    try:
        with _timed(seconds, "load"):
            sources = load_inputs(pipeline, inputs)
        reach("inference.running")
        with _taken(turn, seconds), _timed(seconds, "model"):
            result = run(pipeline, sources)
    except CouldNotLook as refusal:
        with _timed(seconds, "encode"):
            # What judges nothing takes back nothing: it names no predecessor.
            unlinked = replace(work, superseded={}, rejected=())
            first, beside = headers_of(in_order(pipeline, inputs))
            objects = encode_could_not_look(first, refusal.reason, unlinked, beside)
            files = _write(objects, folder)
        return Analysis(Outcome.COULD_NOT_LOOK, files, seconds)
    source = source_of(sources)
    if earlier is not None and not any(contradictions(source, result, work.report)):
        with _timed(seconds, "compare"):
            result = _followed_up(source, result, earlier, work.report)
            result = with_history(result, earlier.reports)
    result = _advised(result)
    with _timed(seconds, "encode"):
        files = _write(each_encoded(source, result, work), folder)
    return Analysis(outcome_of(result), files, seconds)


def _followed_up(source: Source, result: Result, earlier: Earlier, report: str) -> Result:
    """Return the result as compared with earlier ones, or with a note where that went wrong."""
    result = within_images(source, result)
    followed = compared(source, result, earlier)
    if not any(contradictions(source, followed, report)):
        return followed
    why = "Earlier results were not compared: an earlier one holds what no result may say."
    return replace(result, notes=(*result.notes, *earlier.problems, why))


def _advised(result: Result) -> Result:
    """Return the result with what guidelines recommend for it, each with its source."""
    notes = (f"Guideline: {sentence} ({source})" for sentence, source in advice(result))
    return replace(result, notes=(*result.notes, *notes))


def outcome_of(result: Result) -> Outcome:
    """Return whether a result says that something is there which is not normal, or made images.

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
    if unmentioned or not all(normal):
        return Outcome.FOUND
    return Outcome.PROCESSED if result.images else Outcome.NOTHING_FOUND


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took, also where it fails."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - started


@contextlib.contextmanager
def _taken(turn: AbstractContextManager[None] | None, seconds: dict[str, float]) -> Iterator[None]:
    """Wait for a turn, if there is one to wait for, and note how long that took."""
    with contextlib.ExitStack() as stack:
        if turn is not None:
            with _timed(seconds, "wait"):
                stack.enter_context(turn)
        yield


def _write(objects: Iterable[Encoded], folder: Path) -> dict[str, Path]:
    """Write each object while the next is made; the role and the file of each."""
    folder.mkdir(parents=True, exist_ok=True)
    files, written = {}, []
    with ThreadPoolExecutor(1) as disk:
        for one in objects:
            files[one.role] = folder / f"{one.role}.dcm"
            written.append(disk.submit(write, one.dataset, files[one.role]))
    for one_written in written:
        one_written.result()
    return files
