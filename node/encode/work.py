"""What the objects of one job have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node.domain import Role
from node.uids import derived_uid
from sr_templates.report import Author

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pydicom import Dataset

    from pipelines.contract import Model, Segment


@dataclass(frozen=True)
class Work:
    """One job, as far as its objects tell of it.

    Attributes:
        job_id: Of the ledger.
        uid_parts: What makes this work this work; every UID is derived from them and a role.
        pipeline: Its name, as in routes.
        pipeline_version: Of the pipeline's code.
        title: What the reader sees as series description.
        report: Name of the report's template.
        model: The algorithm.
        parameters: What else changed the result.
        analysed_at: When analysis started (IHE AIR 6.5.3.1); aware, and the same on every
            attempt. Becomes every date and time of the objects, in its own zone unless the
            source states an offset from UTC.
        software_version: Of this node.
        roles: Which objects to make, apart from ``sr``, which is always made.
        superseded: Role -> header, of the objects of the result that this one supersedes.
        rejected: Headers of the objects of earlier results that a rejection note names.
    """

    job_id: str
    uid_parts: tuple[str, ...]
    pipeline: str
    pipeline_version: str
    title: str
    report: str
    model: Model
    parameters: Mapping[str, str]
    analysed_at: datetime
    software_version: str
    roles: frozenset[Role] = frozenset({Role.SEG, Role.SR})
    superseded: Mapping[str, Dataset] = field(default_factory=dict)
    rejected: tuple[Dataset, ...] = ()

    def uid(self, role: str) -> str:
        """Return the UID of one role: ``sr``, ``sr-series``, ``seg``, ``tracking-LABEL``."""
        return derived_uid(*self.uid_parts, role)

    def predecessor_of(self, role: Role) -> Dataset | None:
        """Return the report that one of this role supersedes."""
        return self.superseded.get(role) or self.superseded.get(Role.SR)

    def tracking_uid(self, segment: Segment) -> str:
        """Return the UID a segment is tracked by: an earlier study's, or its own."""
        return segment.tracking_uid or self.uid(f"tracking-{segment.label}")

    @property
    def device_uid(self) -> str:
        """UID of the algorithm; another one whenever the model changes."""
        return derived_uid("device", self.model.name, self.model.version, self.model.weights_sha256)

    @property
    def author(self) -> Author:
        """The algorithm, as the templates name it."""
        return Author(
            model=self.model,
            device_uid=self.device_uid,
            pipeline=f"{self.pipeline} {self.pipeline_version}",
            parameters=self.parameters,
        )


@dataclass(frozen=True)
class Encoded:
    """One object of a result; ``role`` is one of ``Role``, or ``map-2`` and so on."""

    role: str
    dataset: Dataset
