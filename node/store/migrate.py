"""Bring the ledger's schema up to date, once, whoever asks first."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from node.errors import ConfigError
from node.store.ledger import Ledger

_ADVISORY_LOCK = 0x7261646E


def migrate(url: str) -> None:
    """Apply every migration that the database at ``url`` has not seen.

    Safe to run from several processes at once, and with work in flight.

    Raises:
        ConfigError: A later version of this software has already changed the schema.
    """
    ledger = Ledger.open(url)
    try:
        with ledger.write() as db:
            if db.dialect.name == "postgresql":
                db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            config = Config()
            folder = str(Path(__file__).parent / "migrations")
            config.set_main_option("script_location", folder.replace("%", "%%"))
            config.attributes["connection"] = db
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            "The ledger was written by a later version of radnode.",
            do="Install that version again, or restore the backup made before it was installed.",
        ) from error
    finally:
        ledger.close()
