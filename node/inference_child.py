"""The inference process: keeps models warm, answers one JSON line for each JSON line.

It alone decodes pixels and runs networks, so it alone can crash, hang or fill the memory by
them. It has no ledger and no network; when its worker is gone it ends.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from node import __version__
from node.analyse import analyse
from node.domain import Role
from node.encode.work import Work
from node.errors import GateClosed, GpuTooSmall
from node.gpus import Seat, gpus
from node.load.prior import Earlier
from pipelines import models, registry
from pipelines.explain.explained import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom import Dataset

    from pipelines.contract import AnyPipeline


_OUT_OF_MEMORY = {"error": "It ran out of memory.", "memory": True}


@cache
def _warm(name: str) -> AnyPipeline:
    pipeline = registry.get(name)
    pipeline.warm_up()
    return pipeline


def _header(path: str) -> Dataset:
    return dcmread(path, stop_before_pixels=True)


def _answer(
    request: dict[str, Any], seat: Seat | None, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Do what one request asks: warm models up, or analyse the inputs of a job."""
    if "warm" in request:
        for name in request["warm"]:
            _warm(name)
        if seat is not None:
            seat.hold()
        # What was loaded stays: no job shall wait for the collector to look through all of it.
        gc.collect()
        gc.freeze()
        return {"ready": True}
    warm = _warm(request["pipeline"])
    pipeline = explained(warm, request.get("explain"))
    turn = None if seat is None else seat.turn(warm, lambda waits: tell({"waits": waits}))
    work = Work(
        job_id=request["job_id"],
        uid_parts=(request["job_id"],),
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        title=pipeline.title,
        report=pipeline.report,
        model=pipeline.model,
        parameters=pipeline.parameters,
        analysed_at=datetime.fromtimestamp(request["analysed_at"], UTC).astimezone(),
        software_version=__version__,
        roles=frozenset(map(Role, request["roles"])),
        superseded={Path(path).stem: _header(path) for path in request["superseded"]},
        rejected=tuple(map(_header, request["rejected"])),
    )
    priors = request.get("priors")
    with _scratch(Path(request["scratch"])):
        analysis = analyse(
            pipeline,
            {name: [Path(path) for path in paths] for name, paths in request["inputs"].items()},
            work,
            Path(request["folder"]),
            None if priors is None else Earlier.from_json(priors),
            turn,
        )
    return {
        "outcome": analysis.outcome.value,
        "files": {role: str(path) for role, path in analysis.files.items()},
        "seconds": analysis.seconds,
    }


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Have what a model, or a program that it starts, writes for itself lie in ``folder``.

    It may be images of the patient. If this process is killed, the worker removes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    usual = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None
        if usual is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = usual
        shutil.rmtree(folder, ignore_errors=True)


def _where(error: BaseException) -> str:
    """Return type and place of an error. Its message may quote the data set: never that."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} at {Path(code.co_filename).name}:{trace.tb_lineno}"


def _failure(error: Exception) -> dict[str, Any]:
    """Tell a failed disk, which the job may wait for, from a failed model."""
    if isinstance(error, OSError) and error.errno is not None:
        return {"errno": error.errno, "strerror": error.strerror}
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not loaded for the question
        return _OUT_OF_MEMORY
    return {"error": f"It failed: {_where(error)}."}


def _read_requests(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # The worker is gone: nobody waits for what is being computed, here or in a process that
    # the model has started.
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main(
    memory_bytes: int, models_folder: Path | None = None, gpus_folder: Path | None = None
) -> None:
    """Answer requests from standard input until it closes."""
    models.use(models_folder)
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would be patient data on disk
    warnings.simplefilter("ignore")  # pydicom's warnings quote values
    logging.disable(logging.CRITICAL)
    # Libraries print to standard output; the answers go where only we write.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()

    def tell(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    there = () if gpus_folder is None else gpus()
    seat = Seat(gpus_folder, there) if gpus_folder is not None and there else None
    while True:
        request = json.loads(requests.get())
        try:
            answer = _answer(request, seat, tell)
        except GateClosed as error:
            answer = {"problems": error.problems}
        except GpuTooSmall as error:
            answer = {"too_large": error.what}
        except MemoryError:
            answer = _OUT_OF_MEMORY
        except Exception as error:
            answer = _failure(error)
        tell(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(Path, sys.argv[2:]))
