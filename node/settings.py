"""The TOML file as types; ``configuration`` reads it into them.

Every default works on a fresh machine; a misspelt key is an error, not a silent default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydicom.datadict import tag_for_keyword

from node.confidentiality import Deidentify
from node.domain import Role
from node.errors import ConfigError
from node.profiles import CHOSEN_BY_THE_NODE, DEFAULT_PROFILE, PROFILES
from node.section import AETitle, Name, Port, Section
from node.terms import Retain
from node.tls import DestinationTls, ListenTls
from pipelines.explain.explained import Method

Modality = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,16}$")]
Patterns = Mapping[str, str | tuple[str, ...]]


class Listen(Section):
    """The C-STORE listener."""

    ae_title: AETitle = "RADNODE"
    host: str = "0.0.0.0"  # noqa: S104 - scanners are on other hosts; accept_from limits them
    port: Port = 11112
    processes: int = Field(default=0, ge=0, le=64)
    """Listener processes that share the port (SO_REUSEPORT); 0: as many as cores, at most 8."""
    accept_from: dict[AETitle, str | tuple[str, ...]] = Field(default_factory=dict)
    """Calling AE title -> address or network (10.0.4.0/24) it may come from; empty: anyone."""
    users: dict[str, str] = Field(default_factory=dict)
    """User name -> what ``radnode password`` made of the passcode. With any, every association
    must name one of them (User Identity Negotiation, PS3.7 section D.3.3.7)."""
    tls: ListenTls | None = None
    """The encrypted port; None: there is none."""
    maximum_associations: int = Field(default=250, ge=1)
    """Per listener process."""
    maximum_connections: int = Field(default=2000, ge=1)
    """Per listener process, those that have not asked for an association yet included."""
    maximum_connections_per_address: int = Field(default=200, ge=1)
    """The same, from one address."""
    maximum_pdu_bytes: int = Field(default=262_144, ge=4096, le=1 << 20)
    network_timeout_s: float = Field(default=60.0, gt=0)
    """An association that says nothing for this long is aborted."""
    accept_deflated: bool = False
    """Deflated transfer syntaxes: small on the wire, unbounded in memory."""

    @field_validator("accept_from")
    @classmethod
    def _addresses_are_networks(
        cls, value: dict[str, str | tuple[str, ...]]
    ) -> dict[str, str | tuple[str, ...]]:
        for addresses in value.values():
            for address in (addresses,) if isinstance(addresses, str) else addresses:
                ip_network(address, strict=False)
        return value

    @property
    def process_count(self) -> int:
        """How many listener processes there are."""
        return self.processes or min(os.cpu_count() or 1, 8)

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it listens: without encryption, unless that is turned off, and with."""
        if self.tls is None:
            return (self.port,)
        return (self.tls.port,) if self.tls.only else (self.port, self.tls.port)

    def networks_of(self, calling_ae: str) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks ``calling_ae`` may call from; empty if it may not call at all."""
        addresses = self.accept_from.get(calling_ae, ())
        return tuple(
            ip_network(address, strict=False)
            for address in ((addresses,) if isinstance(addresses, str) else addresses)
        )


class Spool(Section):
    """Limits of the disk that received instances lie on."""

    minimum_free_bytes: int = Field(default=1_000_000_000, ge=0)
    """Below this much free space new associations are refused and C-STORE answers 0xA700."""


class Quiet(Section):
    """How long nothing must come before a series, or the whole study, counts as complete."""

    series_s: float | None = Field(default=None, ge=0)
    study_s: float | None = Field(default=None, ge=0)


class Complete(Section):
    """When a series and a study count as complete."""

    series_s: float = Field(default=10.0, ge=0)
    study_s: float = Field(default=60.0, ge=0)
    missing_s: float = Field(default=1800.0, ge=0)
    """Quiet time after which a study's report says that a series it needs never came."""
    modality: dict[Modality, Quiet] = Field(default_factory=dict)
    """Other times for some modalities."""

    def series_quiet_s(self, modality: str) -> float:
        """Return the quiet time of a series of ``modality``."""
        own = self.modality.get(modality)
        return self.series_s if own is None or own.series_s is None else own.series_s

    def study_quiet_s(self, modality: str) -> float:
        """Return the quiet time that a series of ``modality`` asks of its study."""
        own = self.modality.get(modality)
        return self.study_s if own is None or own.study_s is None else own.study_s


class Work(Section):
    """The workers."""

    processes: int = Field(default=1, ge=1, le=64)
    """Worker processes on this host. Two for each graphics card keep it busy: they take turns on
    it, and one loads and encodes while the other infers."""
    memory_bytes: int = Field(default=16_000_000_000, ge=1_000_000_000)
    """Address space an inference process may use before its job fails."""
    jobs_per_process: int = Field(default=200, ge=1)
    """After this many jobs the inference process is replaced, between jobs."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of an inference process; 0: the cores, shared among the processes."""


class Receiver(Section):
    """What every destination has: the objects of a result that it gets."""

    profile: str = DEFAULT_PROFILE
    """A set that suits a kind of PACS or viewer; 'radnode verify' proposes one."""
    objects: tuple[Role, ...] | None = None
    """Exactly these instead."""
    reject_superseded: bool = False
    """When a later result has come, mark the earlier one as rejected (IHE IOCM)."""
    deidentify: bool = False
    """Send nothing that says whose it is: for research."""

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        if value not in PROFILES:
            raise ValueError(f"there is no profile of that name; there are {', '.join(PROFILES)}")
        return value

    @field_validator("objects")
    @classmethod
    def _objects_to_ask_for(cls, value: tuple[Role, ...] | None) -> tuple[Role, ...] | None:
        if value is not None and (not value or set(value) & CHOSEN_BY_THE_NODE):
            names = ", ".join(role for role in Role if role not in CHOSEN_BY_THE_NODE)
            raise ValueError(f"must be one or more of {names}")
        return value

    @property
    def roles(self) -> frozenset[Role]:
        """Which objects of a result it gets."""
        asked = PROFILES[self.profile] if self.objects is None else frozenset(self.objects)
        return asked | ({Role.REJECTION} if self.reject_superseded else frozenset())


class DimseDestination(Receiver):
    """A PACS that is sent to by C-STORE."""

    kind: Literal["dimse"]
    ae_title: AETitle
    host: str
    port: Port
    commit: bool = True
    """Ask for storage commitment; a delivery is finished only when the PACS confirmed it."""
    calling_ae_title: AETitle | None = None
    """Call with another AE title than ``listen.ae_title``."""
    tls: DestinationTls | None = None
    """Call it over TLS."""
    timeout_s: float = Field(default=30.0, gt=0)
    commit_timeout_s: float = Field(default=600.0, gt=0)
    """After this long without an answer, commitment is asked for again."""

    @model_validator(mode="after")
    def _commitment_speaks_of_originals(self) -> DimseDestination:
        if self.deidentify and self.commit:
            raise ValueError("deidentify needs commit = false: other UIDs are sent")
        return self


class FolderDestination(Receiver):
    """A folder that result objects are copied to."""

    kind: Literal["folder"]
    path: Path


Destination = Annotated[DimseDestination | FolderDestination, Field(discriminator="kind")]


class Route(Section):
    """Which series go through which pipelines, and where the results go."""

    name: str = ""
    match: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Attribute keyword -> pattern or alternatives; ``*``, ``?``, and a leading ``!`` only."""
    run: tuple[Name, ...] = Field(min_length=1)
    send_to: tuple[Name, ...] = ()
    priors_from: Name | None = None
    """The archive in which earlier results of the patient are looked up, to compare with."""
    priority: Literal["stat", "routine"] = "routine"
    explain: Method | None = None
    """How to show what an answer rests on, for destinations that take maps; None: not at all."""

    @field_validator("match")
    @classmethod
    def _keywords_exist(
        cls, value: dict[str, str | tuple[str, ...]]
    ) -> dict[str, str | tuple[str, ...]]:
        known = {"CallingAETitle"}
        unknown = [k for k in value if k not in known and tag_for_keyword(k) is None]
        if unknown:
            raise ValueError(f"no DICOM attribute has the keyword {', '.join(unknown)}")
        empty = [k for k, stated in value.items() if not all(stated or [""])]
        if empty:
            raise ValueError(f"nothing can match the empty pattern of {', '.join(empty)}")
        return value


class Syslog(DestinationTls):
    """The server that audit messages go to (PS3.15 A.6): always over TLS, with certificates."""

    host: str
    port: Port = 6514


class Audit(Section):
    """The audit trail."""

    source: str = ""
    """AuditSourceID of the messages; empty: the name of the host."""
    enterprise_site: str = ""
    """AuditEnterpriseSiteID of the messages; empty: none."""
    patient_id: bool = False
    """Name the patient, by Patient ID, in the trail and in the messages."""
    head: Path | None = None
    """Another place for the end of the chain: a file on another disk or a share. None: under
    ``data``, beside the folder of the trail."""
    segment_bytes: int = Field(default=16_000_000, ge=1)
    """A file of the trail that is longer is followed by another."""
    syslog: Syslog | None = None
    """Who is told; None: nobody, and the trail is kept here alone."""


class Settings(Section):
    """The whole file."""

    data: Path = Path("radnode-data")
    """Spool, results, SQLite, logs: the only folder to back up."""
    database: str = "sqlite"
    """``sqlite``, or ``postgresql://user:password@host/name``."""
    broker: str = "embedded"
    """``embedded``, or ``redis://`` / ``rediss://`` / ``unix:///path``."""
    listen: Listen = Listen()
    spool: Spool = Spool()
    retain: Retain = Retain()
    complete: Complete = Complete()
    work: Work = Work()
    audit: Audit = Audit()
    deidentify: Deidentify = Deidentify()
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value != "sqlite" and not value.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError('must be "sqlite" or a postgresql:// address')
        try:
            _ = urlsplit(value).port
        except ValueError:
            raise ValueError(
                "has a port that is no number; in a password, write / as %2F and @ as %40"
            ) from None
        return value

    @field_validator("broker")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        if value != "embedded" and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError('must be "embedded" or a redis://, rediss:// or unix:// address')
        return value

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Settings:
        for number, route in enumerate(self.routes, start=1):
            missing = [name for name in route.send_to if name not in self.destinations]
            if missing:
                raise ValueError(
                    f"routes[{number}].send_to names {', '.join(missing)}, "
                    "which is not under [destinations]"
                )
            asked = self.destinations.get(route.priors_from or "")
            if route.priors_from and not isinstance(asked, DimseDestination):
                raise ValueError(f"routes[{number}].priors_from is no destination of kind 'dimse'")
        return self

    @model_validator(mode="after")
    def _routes_have_names_of_their_own(self) -> Settings:
        names = [route.name for route in self.routes if route.name]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several routes are called '{twice[0]}'")
        return self

    @property
    def spool_folder(self) -> Path:
        """Where received instances lie."""
        return self.data / "spool"

    @property
    def artifact_folder(self) -> Path:
        """Where result objects lie."""
        return self.data / "artifacts"

    @property
    def models_folder(self) -> Path:
        """Models that were added; a folder each."""
        return self.data / "models"

    @property
    def work_folder(self) -> Path:
        """Where a worker's inference process writes before the publish gate."""
        return self.data / "work"

    @property
    def audit_folder(self) -> Path:
        """The audit trail."""
        return self.data / "audit"

    @property
    def deidentify_secret(self) -> Path:
        """What pseudonyms are made with."""
        return self.data / "deidentify.key"

    @property
    def run_folder(self) -> Path:
        """Sockets and locks of running processes."""
        return self.data / "run"

    @property
    def log_folder(self) -> Path:
        """One file per role, JSON lines."""
        return self.data / "logs"

    @property
    def database_url(self) -> str:
        """SQLAlchemy's address of the ledger."""
        if self.database == "sqlite":
            return f"sqlite:///{self.data.resolve() / 'ledger.sqlite'}"
        return self.database.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def peers(self) -> dict[str, DimseDestination]:
        """AE title -> where a peer of that name is called."""
        return {
            destination.ae_title: destination
            for destination in self.destinations.values()
            if isinstance(destination, DimseDestination)
        }

    def name_of(self, destination: DimseDestination) -> str:
        """Return how the file calls a destination; its AE title if it is not in the file."""
        names = (name for name, one in self.destinations.items() if one == destination)
        return next(names, destination.ae_title)

    def destination(self, name: str) -> DimseDestination | FolderDestination:
        """Return the destination called ``name``.

        Raises:
            ConfigError: There is none.
        """
        try:
            return self.destinations[name]
        except KeyError:
            known = ", ".join(sorted(self.destinations)) or "none"
            raise ConfigError(
                f"No destination is called '{name}'.",
                do=f"Add [destinations.{name}] to radnode.toml, or use one of: {known}.",
            ) from None
