"""Analyse: files of one series in, result objects as files out. No ledger, no network.

What the inference process does for a job, and ``radnode run`` for a folder.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.crashpoint import reach
from node.domain import Outcome
from node.encode.objects import encode, encode_could_not_look
from node.encode.write import write
from node.load.source import load, read_headers
from pipelines.contract import CouldNotLook, Presence, Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from node.encode.work import Encoded, Work
    from pipelines.contract import Pipeline


@dataclass(frozen=True)
class Analysis:
    """What came of one series.

    Attributes:
        files: Role ("seg", "sr") -> file of each object, in the order they must be sent.
        seconds: Stage -> how long it took.
    """

    outcome: Outcome
    files: dict[str, Path]
    seconds: dict[str, float]


def analyse(pipeline: Pipeline, paths: Sequence[Path], work: Work, folder: Path) -> Analysis:
    """Run ``pipeline`` on one series and write the objects that say what it found.

    Args:
        pipeline: Warmed up.
        paths: Files of the series, in any order.
        work: What the objects have in common.
        folder: Where to write them.
    """
    started = time.perf_counter()
    loaded = ran = started
    try:
        source = load(paths)
        loaded = time.perf_counter()
        reach("inference.running")
        result = pipeline.run(source.study)
        ran = time.perf_counter()
        outcome = outcome_of(result)
        objects = encode(source, result, work)
    except CouldNotLook as reason:
        loaded, ran = max(loaded, started), time.perf_counter()
        outcome = Outcome.COULD_NOT_LOOK
        objects = encode_could_not_look(read_headers(paths), reason.reason, work)
    files = _write(objects, folder)
    done = time.perf_counter()
    seconds = {"load": loaded - started, "model": ran - loaded, "encode": done - ran}
    return Analysis(outcome, files, seconds)


def outcome_of(result: Result) -> Outcome:
    """Return whether a result says that something is there."""
    present = any(finding.presence is not Presence.ABSENT for finding in result.findings)
    return Outcome.FOUND if present else Outcome.NOTHING_FOUND


def _write(objects: Sequence[Encoded], folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for one in objects:
        files[one.role] = folder / f"{one.role}.dcm"
        write(one.dataset, files[one.role])
    return files
