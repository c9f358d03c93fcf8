"""Unpack an archive that somebody else has packed: limited in size, and only into its folder."""

from __future__ import annotations

import tarfile
import zipfile
from typing import IO, TYPE_CHECKING

from node.errors import ModelRefused
from node.models.fetch import write
from node.models.names import LARGEST_BYTES, MOST_FILES, check_path, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def extract(packed: Path, folder: Path) -> None:
    """Unpack a zip or tar archive (gz, bz2, xz) into a new folder.

    Only ordinary files with plain names come out; sizes are counted as they are unpacked, not
    believed.

    Raises:
        ModelRefused: It is no such archive, or holds links, other paths or too much.
    """
    folder.mkdir()
    left_bytes = LARGEST_BYTES
    try:
        for number, (path, source) in enumerate(_members(packed)):
            if number >= MOST_FILES:
                raise too_large()
            check_path(path)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with source:
                write(source, target, left_bytes)
            left_bytes -= target.stat().st_size
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ModelRefused(
            f"The archive cannot be unpacked ({type(error).__name__}).",
            do="Pack the model's folder again, as zip or tar.",
        ) from error


def root_of(folder: Path) -> Path:
    """Return the folder within an archive that holds everything: archives differ in that."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _members(packed: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(packed):
        with zipfile.ZipFile(packed) as zipped:
            for one in zipped.infolist():
                kind = one.external_attr >> 28  # S_IFMT of what Unix has packed; 0: not stated
                if not one.is_dir() and kind not in (0, 0o10):
                    raise _link(one.filename)
                if not one.is_dir():
                    yield one.filename, zipped.open(one)
        return
    with tarfile.open(packed) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            if content is not None:
                yield entry.name.removeprefix("./"), content
            elif not entry.isdir():
                raise _link(entry.name)


def _link(name: str) -> ModelRefused:
    return ModelRefused(
        f"{name!r} in the archive is no ordinary file.", do="Pack it without links."
    )
