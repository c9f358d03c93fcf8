"""Logs are events with fields: JSON lines, no patient data, UIDs only as short digests."""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import sys
import warnings
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

KEEP_BYTES = 10_000_000
KEEP_FILES = 5


def short(uid: str) -> str:
    """Return the form in which a UID may stand in a log: 12 hex digits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def get_logger(name: str) -> BoundLogger:
    """Return the logger of one module: ``log.info("series_complete", study=short(uid))``."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(role: str, folder: Path | None = None) -> None:
    """Send this process's events to standard error and to ``<folder>/<role>.log``.

    Libraries are kept at WARNING: pynetdicom prints identifiers below it, Celery arguments.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                folder / f"{role}.log", maxBytes=KEEP_BYTES, backupCount=KEEP_FILES
            )
        )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
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
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("pynetdicom", "pydicom", "celery", "kombu", "amqp", "alembic", "highdicom"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # pydicom's quote the values they complain about
    structlog.contextvars.bind_contextvars(role=role)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
