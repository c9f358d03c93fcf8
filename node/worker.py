"""Worker: claim the most urgent job, have it inferred, publish what came of it.

The main thread hears Celery's bells; the one job thread works. A bell only wakes it, and
without bells it looks into the ledger every ``POLL_S``: a broker that is away makes work
slower, never stops it.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from node import bell, profiles, publish, route, wake
from node.crashpoint import reach
from node.derive import digest_of, parameters_of
from node.domain import Lease, Outcome, Role
from node.errors import DiskFailed, LeaseLost, ModelFailed, NodeError, disk_failed
from node.inference import InferenceProcess
from node.load.inputs import headers_of, in_order
from node.load.source import read_headers
from node.log import get_logger, short
from node.priors.fetch import deadline_s, looked_up
from node.profiles import DEFAULT_PROFILE, PROFILES
from node.store import deliveries, jobs, rejections, studies, workers
from pipelines.explain.explained import explained, method_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from node.domain import PlannedJob
    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

POLL_S = 5.0
RENEW_S = 15.0
TOUCH_S = 5.0
RETRY_S = 5.0
DISK_RETRY_S = 60.0
WARM_UP_DEADLINE_S = 300.0


class Stopping(Exception):
    """This worker shall end; the job at hand goes back."""


class Overtaken(Exception):
    """A series has grown since the job was planned; its result would be of no revision."""


class Worker:
    """One device's worth of work: at most one job at a time."""

    def __init__(self, settings: Settings, ledger: Ledger, name: str) -> None:
        self._settings = settings
        self._ledger = ledger
        self._name = name
        self._inference = InferenceProcess(
            settings.work, settings.models_folder, settings.run_folder / "gpus"
        )
        self._wake = threading.Event()
        self._waker = wake.Waker(settings)
        self._stop = threading.Event()
        self._touched_at = 0.0

    def run(self) -> None:
        """Work until SIGTERM."""
        app = bell.make_app(self._settings)
        bell.on_ring(app, self._wake.set)
        thread = threading.Thread(target=self._work, name="jobs")
        thread.start()
        try:
            bell.listen(app, self._name)
        finally:
            self._stop.set()
            self._wake.set()
            thread.join()

    def _work(self) -> None:
        """What the job thread does: nothing but ``Stopping`` ends it."""
        try:
            self._guarded(self._sweep)
            self._guarded(self._warm_up)
            while not self._stop.is_set():
                self._wake.clear()
                self._guarded(self._drain)
                self._wake.wait(POLL_S)
        except Stopping:
            pass
        finally:
            self._inference.kill()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run one step of the job thread; what it cannot handle is told, and tried again later."""
        try:
            step()
        except Stopping:
            raise
        except Exception as error:
            log.error("worker_failed", what=type(error).__name__, do="Run 'radnode check'.")

    def _drain(self) -> None:
        """Do jobs until none waits."""
        while not self._stop.is_set() and self.run_next():
            pass
        self._sweep()
        self._touch(None)

    def _sweep(self) -> None:
        """Remove what workers that were killed have left in the work folder.

        At the start the lease of such a worker still runs, as a rule: so also when none waits.
        """
        for left in self._settings.work_folder.glob("*-*"):
            with self._ledger.read() as db:
                if not workers.holds_lease(db, left.name.rpartition("-")[2]):
                    shutil.rmtree(left, ignore_errors=True)

    def _warm_up(self) -> None:
        """Load the models of every route before the first study needs them."""
        wanted = sorted({name for route in self._settings.routes for name in route.run})
        try:
            self._inference.ask(
                {"warm": wanted},
                deadline_s=WARM_UP_DEADLINE_S,
                tick=lambda: self._tick(None),
            )
        except ModelFailed as error:
            log.error("warm_up_failed", what=error.what, do="Run 'radnode check'.")
        else:
            gc.collect()
            gc.freeze()  # as the inference process does
            log.info("worker_ready", pipelines=wanted)

    def run_next(self) -> bool:
        """Do one job, if one waits. False if none does."""
        with self._ledger.write() as db:
            lease = jobs.claim(db, self._name)
        if lease is None:
            return False
        reach("worker.claimed")
        about = {
            "job": lease.job.id,
            "study": short(lease.job.study_uid),
            "pipeline": lease.job.pipeline,
            "attempt": lease.attempt,
        }
        log.info("job_started", **about)
        folder = self._settings.work_folder / f"{lease.job.id}-{lease.token}"
        try:
            outcome = self._do(lease, folder)
            self._waker.wake(wake.Stage.DELIVER)
            log.info("job_completed", outcome=outcome.value, **about)
        except Stopping:
            with contextlib.suppress(LeaseLost), self._ledger.write() as db:
                jobs.release(db, lease)
            raise
        except Overtaken:
            log.info("job_overtaken", **about)
            with contextlib.suppress(LeaseLost), self._ledger.write() as db:
                jobs.overtake(db, lease)
        except LeaseLost as error:
            log.warning("lease_lost", what=error.what, **about)
        except NodeError as error:
            self._give_back(lease, error)
        except OSError as error:
            self._give_back(lease, disk_failed(error))
        finally:
            for left in (folder, _scratch_beside(folder)):
                shutil.rmtree(left, ignore_errors=True)
        return True

    def _do(self, lease: Lease, folder: Path) -> Outcome:
        """Infer and publish; the outcome."""
        self._check_version(lease)
        with self._ledger.read() as db:
            instances = studies.instances_by_input(db, lease.job)
            superseded, rejected = self._earlier_results(db, lease)
        if digest_of(instances) != lease.job.input_digest:
            raise Overtaken
        inputs = in_order(
            route.pipeline(lease.job.pipeline),
            {
                name: [self._settings.spool_folder / one.path for one in of]
                for name, of in instances.items()
            },
        )
        first = next(iter(inputs))
        calling_aes = self._calling_aes(lease.job, first)
        send_to = {name: self._wanted_by(name) for name in lease.job.send_to}
        tick = self._keep(lease)
        priors = folder.with_name(f"priors-{lease.token}")
        with (
            ThreadPoolExecutor(1) as beside_the_model,
            looked_up(
                self._settings, lease, inputs[first], calling_aes, folder=priors, tick=tick
            ) as earlier,
        ):
            headers = beside_the_model.submit(headers_of, inputs)
            answer = self._inference.ask(
                {
                    "job_id": lease.job.id,
                    "pipeline": lease.job.pipeline,
                    "explain": method_in(lease.job.parameters),
                    "inputs": {name: [*map(str, paths)] for name, paths in inputs.items()},
                    "superseded": [str(path) for path in superseded],
                    "rejected": [str(path) for path in rejected],
                    "roles": sorted(profiles.to_make(send_to.values())),
                    "analysed_at": lease.first_started_at,
                    "folder": str(folder),
                    "scratch": str(_scratch_beside(folder)),
                    "priors": None if earlier is None else earlier.to_json(),
                },
                deadline_s=lease.job.deadline_s + deadline_s(earlier),
                tick=tick,
            )
        reach("worker.inferred")
        outcome = Outcome(answer["outcome"])
        sources, beside = headers.result()
        publish.publish(
            self._ledger,
            lease,
            outcome=outcome,
            made={role: Path(path) for role, path in answer["files"].items()},
            sources=sources,
            beside=beside,
            superseded=read_headers([*{*superseded, *rejected}]),
            send_to=send_to,
            folder=self._settings.artifact_folder,
            seconds=answer["seconds"],
            tick=tick,
        )
        return outcome

    def _calling_aes(self, job: PlannedJob, name: str) -> tuple[str, ...]:
        """Return who sent the series of one input of a job."""
        by_input = {one.name: one.series_uid for one in job.inputs}
        with self._ledger.read() as db:
            return studies.calling_aes_of(db, job.study_uid, by_input.get(name, job.series_uid))

    def _keep(self, lease: Lease) -> Callable[[], None]:
        """Return what to call once a second while a job runs: it renews the lease."""
        renewed_at = time.monotonic()

        def tick() -> None:
            nonlocal renewed_at
            self._tick(lease.job.id)
            if time.monotonic() - renewed_at >= RENEW_S:
                renewed_at = time.monotonic()
                with self._ledger.write() as db:
                    jobs.renew(db, lease)

        return tick

    def _check_version(self, lease: Lease) -> None:
        installed = explained(route.pipeline(lease.job.pipeline), method_in(lease.job.parameters))
        if (installed.version, installed.model.weights_sha256, parameters_of(installed)) != (
            lease.job.pipeline_version,
            lease.job.model_sha256,
            lease.job.parameters,
        ):
            raise ModelFailed(
                f"The job was planned for {lease.job.pipeline} {lease.job.pipeline_version}, "
                f"this worker has {installed.version}.",
                do="Give every host the same version and restart radnode: such jobs are then "
                "planned anew.",
            )

    def _wanted_by(self, name: str) -> frozenset[Role]:
        """Return what a destination gets, as far as it still is one."""
        destination = self._settings.destinations.get(name)
        return PROFILES[DEFAULT_PROFILE] if destination is None else destination.roles

    def _earlier_results(self, db: Connection, lease: Lease) -> tuple[list[Path], list[Path]]:
        """Return the files of the result that this job's replaces, and those to be rejected."""
        folder = self._settings.artifact_folder
        made = deliveries.artifacts_of(db, lease.supersedes) if lease.supersedes else ()
        rejecting = [
            name for name, one in self._settings.destinations.items() if one.reject_superseded
        ]
        earlier = rejections.superseded(db, lease.job.id)
        rejected = rejections.to_reject(db, earlier, rejecting)
        return [folder / one.path for one in made], [folder / one.path for one in rejected]

    def _give_back(self, lease: Lease, error: NodeError) -> None:
        """Schedule another attempt if that may help, else set the job aside for a person."""
        try:
            with self._ledger.write() as db:
                if isinstance(error, DiskFailed):  # no fault of the job: it waits, however long
                    jobs.postpone(db, lease, what=error.what, do=error.do, retry_in_s=DISK_RETRY_S)
                elif error.retry:
                    wait_s = RETRY_S * 2 ** (lease.attempt - 1)
                    jobs.fail(db, lease, what=error.what, do=error.do, retry_in_s=wait_s)
                else:
                    jobs.quarantine(db, lease, what=error.what, do=error.do)
        except LeaseLost as lost:  # that is why: who has the job now removes what it leaves behind
            log.warning("lease_lost", job=lease.job.id, what=lost.what)
            return
        log.error("job_failed", job=lease.job.id, what=error.what, do=error.do)

    def _tick(self, job_id: str | None) -> None:
        if self._stop.is_set():
            raise Stopping
        self._touch(job_id)

    def _touch(self, job_id: str | None) -> None:
        """Tell the supervisor that the job thread is alive."""
        now = time.monotonic()
        if now - self._touched_at >= TOUCH_S:
            self._touched_at = now
            with self._ledger.write() as db:
                workers.touch_worker(db, self._name, job_id)


def _scratch_beside(folder: Path) -> Path:
    """Return where a model may write for itself: ``_sweep`` knows it by the same lease token."""
    return folder.with_name(f"scratch-{folder.name.rpartition('-')[2]}")
