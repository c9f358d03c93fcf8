"""The configuration file: where it is looked for, and its reading into ``settings``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from node.errors import ConfigError
from node.settings import DimseDestination, FolderDestination, Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from node.settings import Audit, Destination, Listen

SEARCH_PATH = (Path("radnode.toml"), Path("/etc/radnode/radnode.toml"))
CONFIG_VARIABLE = "RADNODE_CONFIG"


def find_config(explicit: Path | None = None) -> Path | None:
    """Return the file to read: ``--config``, ``RADNODE_CONFIG``, ``./radnode.toml``, ``/etc``.

    None means: there is no file, use the defaults.

    Raises:
        ConfigError: A file was named and is not there.
    """
    named = explicit or (Path(v) if (v := os.environ.get(CONFIG_VARIABLE)) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"There is no configuration file {named}.",
                do="Check --config and RADNODE_CONFIG, or run 'radnode init' to write one.",
            )
        return named
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def load_settings(explicit: Path | None = None) -> Settings:
    """Read the configuration.

    A relative folder is taken from the folder of the file it stands in.

    Raises:
        ConfigError: The file is missing, not TOML, or says something that is not allowed.
    """
    path = find_config(explicit)
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
        settings = Settings.model_validate(table)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.", do="Mend that line.") from error
    except ValidationError as error:
        what = "; ".join(_sentence(one) for one in error.errors(include_input=False))
        raise ConfigError(f"{path}: {what}.", do="Mend these keys.") from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", do="Check its permissions."
        ) from error
    folder = path.resolve().parent
    return settings.model_copy(
        update={
            "data": folder / settings.data,
            "listen": _listen_beside(folder, settings.listen),
            "audit": _audit_beside(folder, settings.audit),
            "destinations": {
                name: _beside(folder, destination)
                for name, destination in settings.destinations.items()
            },
        }
    )


def _listen_beside(folder: Path, listen: Listen) -> Listen:
    tls = listen.tls
    return listen if tls is None else listen.model_copy(update={"tls": tls.beside(folder)})


def _audit_beside(folder: Path, audit: Audit) -> Audit:
    head = None if audit.head is None else folder / audit.head
    syslog = None if audit.syslog is None else audit.syslog.beside(folder)
    return audit.model_copy(update={"head": head, "syslog": syslog})


def _beside(folder: Path, destination: Destination) -> Destination:
    if isinstance(destination, FolderDestination):
        return destination.model_copy(update={"path": folder / destination.path})
    if isinstance(destination, DimseDestination) and destination.tls is not None:
        return destination.model_copy(update={"tls": destination.tls.beside(folder)})
    return destination


def _sentence(error: ErrorDetails) -> str:
    """Return which key is wrong, and how; places in lists count from 1, as people do."""
    place = "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        said = "there is no such key"
    return f"{place.lstrip('.') or 'file'}: {said}"
