"""A node whose roles run one by one, between a broker, a database and a PACS that can be hurt.

No supervisor: whoever tortures says when a process that died starts again, or lets ``kept_alive``
start it at once, without the pauses by which a supervisor spares its host.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from node.domain import OPEN_JOB_STATES, DeliveryState, JobState, StudyState
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool, Work
from node.store.ledger import open_ledger
from node.store.migrate import migrate
from node.store.tables import association, delivery, job, series, study
from tests.peers import accepts, free_port, valkey, wait_until
from tests.peers.pacs import Pacs
from tests.peers.radnode import Node, write_config
from tests.torture import harm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.peers.valkey import Broker

HOST = "127.0.0.1"
ROLES = ("listen", "relay", "work", "deliver")
PACS = "pacs"
LEASE_S = 60.0
"""Of a job, of a delivery, and of an association that says nothing."""


@dataclass
class NodeUnderTest:
    """The node, and everything around it."""

    node: Node
    ledger: Ledger
    broker: Broker
    pacs: Pacs

    @property
    def settings(self) -> Settings:
        """Of the node."""
        return self.node.settings

    @property
    def port(self) -> int:
        """Where scanners send to."""
        return self.settings.listen.port

    # --- processes -----------------------------------------------------------------------------

    def restart(self, role: str, *, crash_at: str = "") -> None:
        """End a role and start it again, with or without a crash point."""
        if role in self.node.processes:
            self.node.stop(role)
        self.node.start(role, crash_at=crash_at)

    def revive(self, roles: Iterable[str] = ROLES) -> None:
        """Start every role that does not run."""
        for role in roles:
            if not self.runs(role):
                self.node.start(role)

    def runs(self, role: str) -> bool:
        """Whether the process of a role is alive."""
        process = self.node.processes.get(role)
        return process is not None and process.poll() is None

    def log(self) -> str:
        """Return what the processes said."""
        path = self.settings.data.parent / "node.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def kept_alive(self, roles: Iterable[str] = ROLES) -> Iterator[None]:
        """Start each of these again as soon as it has died, until the block ends."""
        roles, end = tuple(roles), threading.Event()

        def keep() -> None:
            while not end.wait(0.05):
                self.revive(roles)

        thread = threading.Thread(target=keep, name="keeper")
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    # --- time ----------------------------------------------------------------------------------

    def let_leases_end(self) -> None:
        """A minute passes: leases, silent associations and pauses run out."""
        with self.ledger.write() as db:
            running = job.c.state == JobState.IN_PROGRESS
            db.execute(update(job).where(running).values(lease_until=0.0))
            db.execute(update(association).values(seen_at=0.0))
            db.execute(update(job).values(next_attempt_at=0.0))
            db.execute(update(delivery).values(next_attempt_at=0.0))

    # --- what the ledger says ------------------------------------------------------------------

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job, in the order of their planning."""
        with self.ledger.read() as db:
            query = select(job).order_by(job.c.planned_at, job.c.id)
            return [dict(row) for row in db.execute(query).mappings()]

    def unfinished(self, *also: JobState) -> int:
        """Return how much is on its way: studies, jobs (those in ``also`` too) and deliveries."""
        open_states = [state.value for state in (*OPEN_JOB_STATES, *also)]
        on_their_way = [DeliveryState.PENDING.value, DeliveryState.SENT.value]
        queries = (
            select(func.count()).where(study.c.state == StudyState.RECEIVING),
            select(func.count()).where(study.c.routed_revision < study.c.revision),
            select(func.count()).where(series.c.routed_revision < series.c.revision),
            select(func.count()).where(job.c.state.in_(open_states)),
            select(func.count()).where(delivery.c.state.in_(on_their_way)),
        )
        with self.ledger.read() as db:
            return sum(db.execute(query).scalar_one() for query in queries)

    def wait_finished(self, what: str, timeout_s: float = 180.0) -> float:
        """Wait until nothing is on its way any more; how long that took (s)."""
        begun = time.monotonic()
        wait_until(lambda: not self.unfinished(), timeout_s=timeout_s, what=what)
        return time.monotonic() - begun


@contextmanager
def node_under_test(
    folder: Path,
    *,
    database: str = "sqlite",
    deadline_s: float = harm.DEADLINE_S,
    jobs_per_process: int = 200,
    start: bool = True,
) -> Iterator[NodeUnderTest]:
    """Run a node of which every role is a process of its own.

    Args:
        folder: For everything; empty.
        database: As in the configuration; migrated unless it is ``sqlite``.
        deadline_s: Of the pipeline.
        jobs_per_process: As in the configuration.
        start: Start the roles, and wait until the listener listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        port = free_port()
        pacs = Pacs(folder / "pacs", answer_to=("RADNODE", HOST, port))
        stack.callback(pacs.close)
        broker = valkey.valkey(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        settings = Settings(
            data=folder / "data",
            database=database,
            broker=broker.url,
            listen=Listen(host=HOST, port=port, processes=1),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=0.5, study_s=0.7),
            work=Work(threads=1, memory_bytes=1_000_000_000, jobs_per_process=jobs_per_process),
            destinations={
                PACS: DimseDestination(kind="dimse", ae_title="PACS", host=HOST, port=pacs.port)
            },
            routes=(Route(match={"Modality": "CT"}, run=(harm.NAME,), send_to=(PACS,)),),
        )
        settings.data.mkdir()
        if database == "sqlite":
            migrate(settings.database_url)
        config = write_config(settings, folder / "radnode.toml")
        node = Node(settings, config, harm.install(folder / "site", deadline_s=deadline_s))
        stack.callback(node.stop)
        ledger = open_ledger(settings)
        stack.callback(ledger.close)
        tested = NodeUnderTest(node, ledger, broker, pacs)
        if start:
            tested.revive()
            wait_until(lambda: accepts(port), timeout_s=60.0, what="The start of the listener")
        yield tested
