"""Logs are events with fields: JSON lines, no patient data, UIDs only as short digests."""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict

KEEP_BYTES = 10_000_000
KEEP_FILES = 5

_SILENT = ("pydicom", "pynetdicom")
"""pydicom quotes the values it complains about; pynetdicom says as errors what we say as events."""


def short(uid: str) -> str:
    """Return the form in which a UID may stand in a log: 12 hex digits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def get_logger(name: str) -> BoundLogger:
    """Return the logger of one module: ``log.info("series_complete", study=short(uid))``."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def places(error: BaseException) -> list[str]:
    """Return where an error came from, ``file.py:line`` from the outermost call inwards."""
    return [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _without_message(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put type and place of an error in its stead: its message may quote a patient."""
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info[1] if isinstance(info, tuple) else info
    if not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    record = event.get("_record")
    if record is not None and not event["_from_structlog"]:
        event["event"] = f"{record.name} failed"  # libraries log the message as the event
    if error is not None:
        event.update(error=type(error).__name__, at=places(error))
    return event


def _is_not_silent(record: logging.LogRecord) -> bool:
    """Whether a record may be told. A level does not last: pydicom sets its own when imported."""
    return record.name.partition(".")[0] not in _SILENT


def _tell_warnings() -> None:
    """Log each place that warns, once, by its kind: pydicom's warnings quote what they read."""
    told: set[tuple[type[Warning], str, int]] = set()
    log = get_logger(__name__)

    def tell(*warning: Any, **_: Any) -> None:
        _message, category, filename, lineno = warning[:4]
        if (category, filename, lineno) not in told:
            told.add((category, filename, lineno))
            log.info("warned", kind=category.__name__, at=f"{Path(filename).name}:{lineno}")

    warnings.showwarning = tell
    # Others than UserWarning are for who writes the library. "always": Python would keep the text
    # of each in order to show it only once.
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", UserWarning)


def configure(role: str, folder: Path | None = None) -> None:
    """Send this process's events to standard error and to ``<folder>/<role>.log``.

    Libraries are kept at WARNING: pynetdicom prints identifiers below it, Celery arguments.
    From here on an error that nobody catches is an event, too.
    """

    def tell_role(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {"role": role, **event}

    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                folder / f"{role}.log", maxBytes=KEEP_BYTES, backupCount=KEEP_FILES
            )
        )
    shared: list[structlog.typing.Processor] = [
        tell_role,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_message,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    root = logging.getLogger()
    root.handlers.clear()
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.addFilter(_is_not_silent)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("celery", "kombu", "amqp", "alembic", "highdicom"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for silent in _SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _tell_warnings()
    log = get_logger(__name__)
    sys.excepthook = lambda _type, error, _trace: log.critical("crashed", exc_info=error)
    threading.excepthook = lambda crash: log.critical("crashed", exc_info=crash.exc_value)
