"""How long what is finished stays on the disk: a table of the configuration file."""

from __future__ import annotations

from pydantic import Field

from node.section import Section

DAY_S = 86_400.0


class Retain(Section):
    """When files go: never those of what is not analysed and delivered, whatever the disk says."""

    studies_days: float = Field(default=30.0, ge=0)
    """After this long in which nothing has happened to a study that is final, its received
    instances go."""
    results_days: float = Field(default=365.0, ge=0)
    """After this long the objects that were made of it go too, but not before the instances."""
    keep_free_bytes: int = Field(default=5_000_000_000, ge=0)
    """With less free disk, analysed studies that are final go earlier, the oldest first."""

    @property
    def studies_s(self) -> float:
        """How long received instances stay."""
        return self.studies_days * DAY_S

    @property
    def results_s(self) -> float:
        """How long results stay."""
        return self.results_days * DAY_S
