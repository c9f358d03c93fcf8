"""The folder of added models: a model is there whole, verified and durable, or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.errors import ModelRefused, UsageError
from node.spool import fsync_directory
from pipelines.models import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_INCOMING = ".incoming"


@dataclass(frozen=True)
class Provenance:
    """What is written beside the digests of a model's files."""

    source: str
    licence: str = ""
    citation: str = ""
    title: str = ""


@contextmanager
def incoming(models: Path) -> Iterator[Path]:
    """Give an empty folder on the disk of the models; what is left in it in the end is gone."""
    folder = models / _INCOMING / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(
    models: Path, name: str, staged: Path, files: Mapping[str, str], provenance: Provenance
) -> Path:
    """Put a staged model where the node finds it, in one step.

    Args:
        models: Folder of all models.
        name: Of the model, checked.
        staged: Folder with its files, each durable and verified.
        files: Path within it -> SHA-256 (hex).
        provenance: Where it is from.

    Returns:
        Its folder.

    Raises:
        ModelRefused: There is one of this name.
    """
    if MANIFEST in files:
        raise ModelRefused(
            f"The model has a {MANIFEST} of its own.", do="Take it out: the node writes that one."
        )
    target = models / name
    refuse_second(models, name)
    with (staged / MANIFEST).open("x", encoding="utf-8") as file:
        file.write(_manifest(files, provenance))
        file.flush()
        os.fsync(file.fileno())
    for folder in {(staged / path).parent for path in files}:
        while folder != staged:
            fsync_directory(folder)
            folder = folder.parent  # noqa: PLW2901 - up to the one that holds them all
    fsync_directory(staged)
    try:
        staged.rename(target)
    except OSError as error:
        refuse_second(models, name)
        raise error from None
    fsync_directory(models)
    return target


def refuse_second(models: Path, name: str) -> None:
    """Refuse a name that is taken.

    Raises:
        ModelRefused: There is a model of this name.
    """
    if (models / name).exists():
        raise ModelRefused(
            f"There is a model {name} already.",
            do=f"Keep it, or run 'radnode models remove {name}' first.",
        )


def remove(models: Path, name: str) -> None:
    """Take a model away.

    Raises:
        UsageError: There is none of this name.
    """
    if "/" in name or not (models / name / MANIFEST).is_file():
        raise UsageError(f"No model {name} was added.", do="See 'radnode models list'.")
    with incoming(models) as folder:
        (models / name).rename(folder / name)
        fsync_directory(models)


def _manifest(files: Mapping[str, str], provenance: Provenance) -> str:
    """Return the text of ``model.toml``."""
    stated = {key: value for key, value in vars(provenance).items() if value}
    lines = [f"{key} = {_text(value)}" for key, value in stated.items()]
    lines += ["", "[files]", *(f"{_text(path)} = {_text(d)}" for path, d in files.items()), ""]
    return "\n".join(lines)


def _text(value: str) -> str:
    """Return a TOML string: JSON's escapes are among its own."""
    return json.dumps(value.replace("\x7f", ""), ensure_ascii=False)
