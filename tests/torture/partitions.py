"""The network is cut between the node and its broker, its database, its PACS; each on a link of
its own, in all the ways that a network has.

The roles that work live in a network namespace. Their peers, and the listener, are outside:

    relay, work, deliver ──┬── broker
                           ├── PostgreSQL ── listener ◀── scanner
                           └── PACS

A cut that is silent sends the packets of one side, or of both, to a card that is not there.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from node.domain import DeliveryState
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool, Work
from node.store.ledger import open_ledger
from node.store.tables import delivery
from tests.peers import accepts, free_port, valkey, wait_until
from tests.peers.pacs import Pacs
from tests.peers.radnode import Node, write_config
from tests.torture import harm, oracle
from tests.torture.durable_postgres import DurablePostgres
from tests.torture.node_under_test import HOST, PACS, NodeUnderTest
from tests.torture.stream import streaming
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.stream import Stream

BROKER, DATABASE = "broker", "database"
WAYS = ("unreachable", "black hole", "deaf", "mute")
"""Link down; silent both ways; what comes to the node is lost; what it sends is lost."""
CUT_S = (1.0, 2.0, 4.0, 8.0)
PACE_S = 1.5
RESUMED_GOAL_S = 30.0
GIVEN_UP_S = 120.0
NOBODY = "02:00:00:00:00:99"
CUTS = 20


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Cut and heal under a stream of studies; between two cuts, the work must have gone on."""
    count = size.choose(quick=3, submission=CUTS, long=300)
    if os.getuid() != 0:
        note = "network namespaces are made: run it as root"
        return [Figure("cuts of the network", 0, CUTS, at_least=CUTS, note=note)]
    rng = random.Random(seed)
    every = list(itertools.product((BROKER, DATABASE, PACS), WAYS))
    cuts = rng.sample(every, min(count, len(every)))
    cuts += [rng.choice(every) for _ in range(count - len(cuts))]
    resumed: dict[str, float] = {}
    with _links() as links, _node(folder, links) as tested:
        with streaming(tested.port, f"cut {seed}", pace_s=PACE_S) as stream:
            _until_resumed(tested, stream)
            for number, (peer, way) in enumerate(cuts, start=1):
                links[peer].cut(way)
                time.sleep(rng.choice(CUT_S))
                links[peer].heal(way)
                resumed[f"{number}: {peer} {way}"] = _until_resumed(tested, stream)
        finished_s = tested.wait_finished("The work after the last cut", timeout_s=GIVEN_UP_S)
        verdict = oracle.verify_ledger(
            tested.settings, tested.ledger, stream.acknowledged, tested.pacs
        )
    slowest = max(resumed, key=lambda name: resumed[name])
    return [
        Figure("cuts of the network", len(cuts), at_least=count),
        Figure(
            "lost instances or results",
            verdict.lost,
            verdict.instances,
            at_most=0,
            note=verdict.note,
        ),
        Figure("doubled results", verdict.doubled, verdict.studies, at_most=0),
        Figure(
            "until a result came through again after the heal, longest (s)",
            round(resumed[slowest], 1),
            len(cuts),
            at_most=RESUMED_GOAL_S,
            note=slowest,
        ),
        Figure("until all was done after the last cut (s)", round(finished_s, 1)),
    ]


def _until_resumed(tested: NodeUnderTest, stream: Stream) -> float:
    """Return how long it takes until a study that is not there yet is in the PACS, committed."""
    began = time.monotonic()
    before = _committed(tested)
    while _committed(tested) <= before:
        if time.monotonic() - began > GIVEN_UP_S:
            break
        time.sleep(0.2)
    return time.monotonic() - began


def _committed(tested: NodeUnderTest) -> int:
    """Return how many deliveries are finished."""
    query = select(delivery.c.sop_instance_uid).where(delivery.c.state == DeliveryState.COMMITTED)
    with tested.ledger.read() as db:
        return len(db.execute(query).all())


# --- the network -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """One cable between the namespace and the outside.

    Attributes:
        namespace: Where the node's roles are.
        inner: The interface there.
        outer: Its other end.
        inner_address: Of the node on this cable.
        address: Of the peer.
    """

    namespace: str
    inner: str
    outer: str
    inner_address: str
    address: str

    @property
    def inside(self) -> list[str]:
        """Return the command that runs another in the namespace."""
        return ["ip", "netns", "exec", self.namespace]

    def cut(self, way: str) -> None:
        """Cut it in one of ``WAYS``."""
        if way == "unreachable":
            _run(*self.inside, "ip", "link", "set", self.inner, "down")
        if way in ("black hole", "mute"):
            _run(*self.inside, *_misdirect(self.address, self.inner))
        if way in ("black hole", "deaf"):
            _run(*_misdirect(self.inner_address, self.outer))

    def heal(self, way: str) -> None:
        """Undo ``cut``."""
        if way == "unreachable":
            _run(*self.inside, "ip", "link", "set", self.inner, "up")
        if way in ("black hole", "mute"):
            _run(*self.inside, "ip", "neigh", "del", self.address, "dev", self.inner)
        if way in ("black hole", "deaf"):
            _run("ip", "neigh", "del", self.inner_address, "dev", self.outer)


def _misdirect(address: str, interface: str) -> list[str]:
    to_nobody = ["lladdr", NOBODY, "dev", interface, "nud", "permanent"]
    return ["ip", "neigh", "replace", address, *to_nobody]


@contextmanager
def _links() -> Iterator[dict[str, Link]]:
    """Lend a namespace, and a cable to each peer; they go with it."""
    name = f"radnode{os.getpid()}"
    third = os.getpid() % 80 * 3
    _run("ip", "netns", "add", name)
    links = {}
    try:
        _run("ip", "-n", name, "link", "set", "lo", "up")
        for number, peer in enumerate((BROKER, DATABASE, PACS)):
            net = f"10.213.{third + number}"
            link = Link(name, f"in{number}", f"rn{os.getpid()}-{number}", f"{net}.2", f"{net}.1")
            _run(
                "ip", "link", "add", link.outer, "type", "veth",
                "peer", "name", link.inner, "netns", name,
            )  # fmt: skip
            _run("ip", "address", "add", f"{link.address}/24", "dev", link.outer)
            _run("ip", "link", "set", link.outer, "up")
            _run("ip", "-n", name, "address", "add", f"{net}.2/24", "dev", link.inner)
            _run("ip", "-n", name, "link", "set", link.inner, "up")
            links[peer] = link
        yield links
    finally:
        _run("ip", "netns", "delete", name)


@contextmanager
def _node(folder: Path, links: dict[str, Link]) -> Iterator[NodeUnderTest]:
    """Run the node, and its peers at the far ends of the links."""
    with ExitStack() as stack:
        pacs = Pacs(folder / "pacs", host=links[PACS].address)
        stack.callback(pacs.close)
        broker = valkey.valkey(folder / "broker", links[BROKER].address)
        broker.start()
        stack.callback(broker.stop)
        database = stack.enter_context(DurablePostgres(links[DATABASE].address))
        settings = Settings(
            data=folder / "data",
            database=database.url.replace(HOST, links[DATABASE].address),
            broker=broker.url,
            listen=Listen(host=HOST, port=free_port(), processes=1),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=0.5, study_s=0.7),
            work=Work(threads=1, memory_bytes=1_000_000_000),
            destinations={
                PACS: DimseDestination(
                    kind="dimse", ae_title="PACS", host=links[PACS].address, port=pacs.port
                )
            },
            routes=(Route(match={"Modality": "CT"}, run=(harm.NAME,), send_to=(PACS,)),),
        )
        settings.data.mkdir()
        config = write_config(settings, folder / "radnode.toml")
        node = Node(settings, config, harm.install(folder / "site"))
        stack.callback(node.stop)
        ledger = open_ledger(settings)
        stack.callback(ledger.close)
        node.start("listen")
        for role in ("relay", "work", "deliver"):
            node.start(role, before=links[PACS].inside)
        port = settings.listen.port
        wait_until(lambda: accepts(port), timeout_s=60.0, what="The start of the listener")
        yield NodeUnderTest(node, ledger, broker, pacs)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
