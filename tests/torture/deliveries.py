"""A deliverer as ``radnode up`` starts it, between a ledger full of results and scripted PACSs."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from node.clock import database_now
from node.domain import DeliveryState
from node.settings import DimseDestination, Settings
from node.store import deliveries
from node.store.ledger import Ledger
from node.store.migrate import migrate
from node.store.tables import delivery
from node.wake import Stage, Waker
from tests.node.results import data_set_digest, rows, waiting_result
from tests.peers import valkey
from tests.peers.radnode import Node, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from node.domain import Artifact
    from tests.peers.pacs import Pacs

HOST = "127.0.0.1"
ROLES = ("labelmap", "labelmap-sr", "seg", "sr")
"""Results of one study; each report refers to what goes before it."""


@dataclass(frozen=True)
class Delivering:
    """A running deliverer, its ledger, and what rings for it."""

    settings: Settings
    ledger: Ledger
    waker: Waker
    node: Node

    def queue(self, name: str) -> tuple[Artifact, ...]:
        """Put the results of one study before every destination, in the order of ``ROLES``."""
        names = [*self.settings.destinations]
        return waiting_result(self.settings, self.ledger, names, name=name, roles=ROLES)

    def ring(self) -> None:
        """Say that there is something to deliver."""
        self.waker.wake(Stage.DELIVER)

    def states(self, destination: str) -> Counter[str]:
        """Return how many deliveries are in each state."""
        query = (
            select(delivery.c.state, func.count())
            .where(delivery.c.destination == destination)
            .group_by(delivery.c.state)
        )
        with self.ledger.read() as db:
            return Counter({row[0]: row[1] for row in db.execute(query)})

    def let_back_offs_end(self) -> None:
        """Some minutes pass for what waits for another attempt."""
        with self.ledger.write() as db:
            db.execute(
                update(delivery)
                .where(delivery.c.state == DeliveryState.PENDING, delivery.c.what.is_not(None))
                .values(next_attempt_at=database_now(), what=None)
            )

    def retry_refused(self) -> int:
        """Do as a person does who looked into each refusal; how many there were."""
        refused = [row.sop_instance_uid for row in rows(self.ledger) if row.state == "refused"]
        with self.ledger.write() as db:
            return deliveries.retry(db, refused, None)


@contextmanager
def delivering(
    folder: Path, archives: Mapping[str, Pacs], *, commit: bool, timeout_s: float
) -> Iterator[Delivering]:
    """Run a deliverer whose destinations are these PACSs.

    Args:
        folder: For the node; it need not exist.
        archives: By the names of their destinations.
        commit: Whether to ask them for storage commitment.
        timeout_s: How long they may take to answer.
    """
    broker = valkey.valkey(folder / "broker")
    settings = Settings(
        data=folder / "data",
        broker=broker.url,
        destinations={
            name: DimseDestination(
                kind="dimse",
                ae_title=archive.ae_title,
                host=HOST,
                port=archive.port,
                commit=commit,
                timeout_s=timeout_s,
            )
            for name, archive in archives.items()
        },
    )
    settings.data.mkdir(parents=True)
    migrate(settings.database_url)
    node = Node(settings, write_config(settings, folder / "radnode.toml"))
    broker.start()
    try:
        node.start("deliver")
        with Ledger.open(settings.database_url) as ledger:
            yield Delivering(settings, ledger, Waker(settings), node)
    finally:
        node.stop()
        broker.stop()


@dataclass(frozen=True)
class Held:
    """What a PACS holds of the results that it was to get.

    Attributes:
        missing: Objects that it does not hold, or not byte for byte.
        second: Objects, or versions of one, that it holds beside them.
        out_of_order: Studies of which something came before what it refers to.
    """

    missing: int
    second: int
    out_of_order: int


def held(archive: Pacs, settings: Settings, made: list[tuple[Artifact, ...]]) -> Held:
    """Compare what a PACS has kept with what was made."""
    digests: dict[str, set[str]] = defaultdict(set)
    came: dict[str, int] = {}
    for place, entry in enumerate(archive.journal("store")):
        if entry["stored"]:
            digests[entry["sop_instance_uid"]].add(entry["digest"])
            came.setdefault(entry["sop_instance_uid"], place)
    wanted = {
        one.sop_instance_uid: data_set_digest(settings.artifact_folder / one.path)
        for result in made
        for one in result
    }
    files = {path.name.removesuffix(".dcm") for path in archive.files()}
    whole = {uid for uid, digest in wanted.items() if digests[uid] == {digest} and uid in files}
    in_order = [[came.get(one.sop_instance_uid, -1) for one in result] for result in made]
    return Held(
        missing=len(wanted.keys() - whole),
        second=len(files - wanted.keys()),
        out_of_order=sum(places != sorted(places) for places in in_order),
    )
