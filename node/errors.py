"""Every error the node raises on purpose, as one tree.

NodeError
├── ConfigError          the operator must edit a file; never retried
├── UsageError           the caller asked for something that is not there
├── RejectedInstance     the sender must change something; carries a DIMSE status
├── ModelRefused         a model to be added is not what it should be; nothing of it was kept
├── UnreadableSeries     the spool does not give back what it was given; routed again later
├── BrokerAway           the bell cannot be rung; the ledger rings again
├── SyslogAway           the audit collector does not answer; sent again when it does
├── LeaseLost            another worker holds the job now; what this one made is discarded
├── ModelFailed          the model crashed, hung or ran out of memory; retried, then quarantined
├── GpuTooSmall          a model needs more memory than the graphics card has; never tried
├── DiskFailed           a file of ours cannot be read or written; retried until it can
├── AuditBroken          the audit trail is not what was written; goes to a person
├── GateClosed           a result contradicts its source; goes to a person, never to the PACS
└── DeliveryError
    ├── PeerUnreachable  network or association failure; retried for ever with back-off
    │   ├── AssociationRejected  for good, it says; told at once, retried hourly
    │   └── AssociationBroken    after it was open; only what was being sent has to wait
    ├── PeerBusy         the PACS is out of resources (0xA7xx); retried for ever with back-off
    └── PeerRefused      the PACS said no and will say no again; a person decides
        ├── ClassRefused     it does not know this kind of object; another may go instead
        └── NotDeidentified  we say no: what would leave might name its patient

"Could not look" is not an error: it is a result (``pipelines.contract.CouldNotLook``).
"""

from __future__ import annotations


class NodeError(Exception):
    """Base of all expected errors: ``what`` happened and what to ``do`` about it."""

    retry: bool = False

    def __init__(self, what: str, *, do: str) -> None:
        super().__init__(f"{what} {do}")
        self.what, self.do = what, do


class ConfigError(NodeError):
    """The operator must edit a file."""


class UsageError(NodeError):
    """The caller asked for something that is not there."""


class RejectedInstance(NodeError):
    """The sender must change something; ``status`` is the DIMSE answer (PS3.4 table B.2-1)."""

    def __init__(self, what: str, *, do: str, status: int) -> None:
        super().__init__(what, do=do)
        self.status = status


class ModelRefused(NodeError):
    """A model to be added is not what it should be. Nothing of it was kept."""


class UnreadableSeries(NodeError):
    """The spool does not give back what it was given."""

    retry = True


class BrokerAway(NodeError):
    """The broker does not answer. Nothing is lost: work is found in the ledger."""

    retry = True


class SyslogAway(NodeError):
    """The syslog server does not answer. Nothing is lost: the chain holds what it shall get."""

    retry = True


class LeaseLost(NodeError):
    """The job belongs to another worker now, or was canceled."""


class ModelFailed(NodeError):
    """The inference process crashed, hung or ran out of memory."""

    retry = True


class GpuTooSmall(NodeError):
    """A model states that it needs more memory than the graphics card has."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            do="Run it on a larger card, or state a smaller gpu_memory_gb if its maker agrees; "
            "then 'radnode retry'.",
        )


class DiskFailed(NodeError):
    """The spool, the artifacts or the work folder cannot be written, or not be read any more."""

    retry = True


def disk_failed(error: OSError) -> DiskFailed | ModelFailed:
    """Return what an error of the disk means: it may be mended, but a lost file does not return."""
    if isinstance(error, FileNotFoundError):
        return ModelFailed(
            "A file of this study is gone.",
            do="Look into the log for what removed it; have the study sent again.",
        )
    return DiskFailed(
        f"A file could not be read or written: {error.strerror}.",
        do="Check the disk under 'data' with 'radnode check'. The job waits for it.",
    )


class AuditBroken(NodeError):
    """The audit trail is not what was written: ``number`` is the first record that is not.

    Attributes:
        number: Of that record; None where no single one is to blame.
        cut: The last line lacks its end. A power cut leaves that too, of a record not yet kept.
    """

    def __init__(self, what: str, *, number: int | None = None, cut: bool = False) -> None:
        super().__init__(
            what,
            do="Keep the folder as it is, and find out who or what changed it: docs/audit.md.",
        )
        self.number, self.cut = number, cut


class GateClosed(NodeError):
    """A result object contradicts its source or itself. ``problems`` are sentences."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(
            "The result failed the publish gate: " + " ".join(problems),
            do="Do not use it. Keep the job for the pipeline's maker; retry after a fix.",
        )
        self.problems = problems


class DeliveryError(NodeError):
    """One instance could not be handed over."""


class PeerUnreachable(DeliveryError):
    """No network, no association, or the association broke."""

    retry = True


class AssociationRejected(PeerUnreachable):
    """The peer said, for good, that it will not talk to this AE title."""


class AssociationBroken(PeerUnreachable):
    """The association was open, then ended, stalled, or brought nonsense.

    One object may be all that the peer chokes on, so it says nothing about the others.
    """


class PeerBusy(DeliveryError):
    """The peer is out of resources for now."""

    retry = True


class PeerRefused(DeliveryError):
    """The peer refused and will refuse again; ``status`` is the DIMSE status, if one came."""

    def __init__(self, what: str, *, do: str, status: int | None = None) -> None:
        super().__init__(what, do=do)
        self.status = status


class ClassRefused(PeerRefused):
    """The peer accepts no presentation context for the object's SOP class."""


class NotDeidentified(PeerRefused):
    """What would leave the hospital might say whose it is. Nothing of it has left."""
