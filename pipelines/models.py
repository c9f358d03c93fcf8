"""Where the weights are that were added to this node: ``radnode models add`` keeps them here.

A model is a folder of its own below one folder of all, with a ``model.toml`` that says where its
files came from and which digest each must have. Nothing is read from it unverified.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "model.toml"


class ModelMissing(LookupError):
    """A model was not added to this node."""


class ModelChanged(RuntimeError):
    """A file of a model is not the one that was added."""


@dataclass(frozen=True)
class AddedModel:
    """A model on this node's disk.

    Attributes:
        name: As in the catalogue, or of the pipeline that its folder describes.
        folder: Where its files are.
        files: Path within ``folder`` -> SHA-256 (hex), in the order of the manifest.
        licence: As its source states it.
        citation: What its authors ask to be cited.
        source: Where the files came from.
    """

    name: str
    folder: Path
    files: dict[str, str]
    licence: str = ""
    citation: str = ""
    source: str = ""

    @property
    def sha256(self) -> str:
        """Digest over all files and their names (hex): the identity of the model."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def read(self, path: str) -> bytes:
        """Return the bytes of one file, verified.

        Raises:
            ModelChanged: They are not those that were added, or are gone.
        """
        try:
            content = (self.folder / path).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.files.get(path):
            raise ModelChanged(
                f"{path} of the model {self.name} is not the file that was added. "
                f"Run 'radnode models verify {self.name}', then add it again."
            )
        return content

    def verify(self) -> None:
        """Check every file.

        Raises:
            ModelChanged: One is not the one that was added, or is gone.
        """
        for path in self.files:
            self.read(path)


_folder: Path | None = None


def use(folder: Path | None) -> None:
    """Take models from this folder: once, at the start of a process. None: there are none."""
    global _folder  # noqa: PLW0603 - the one place that a process has for its models
    _folder = folder


def added() -> tuple[AddedModel, ...]:
    """Return every model that was added, by name.

    Raises:
        ModelChanged: The ``model.toml`` of one is damaged.
    """
    return tuple(_read(folder) for folder in _folders())


def find(name: str) -> AddedModel | None:
    """Return the model of this name, or None where it was not added.

    Raises:
        ModelChanged: Its ``model.toml`` is damaged; that of another model stands in nobody's way.
    """
    return next((_read(folder) for folder in _folders() if folder.name == name), None)


def _folders() -> list[Path]:
    if _folder is None or not _folder.is_dir():
        return []
    return sorted(path.parent for path in _folder.glob(f"*/{MANIFEST}"))


def get(name: str) -> AddedModel:
    """Return the model of this name.

    Raises:
        ModelMissing: It was not added; the message says how to.
    """
    model = find(name)
    if model is None:
        raise ModelMissing(
            f"The model {name} is not on this node. Run 'radnode models add {name}'."
        )
    return model


def _read(folder: Path) -> AddedModel:
    try:
        stated = tomllib.loads((folder / MANIFEST).read_text("utf-8"))
        files = dict(stated["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelChanged(
            f"{MANIFEST} of the model {folder.name} is damaged. "
            f"Run 'radnode models remove {folder.name}', then add it again."
        ) from error
    return AddedModel(
        name=folder.name,
        folder=folder,
        files=files,
        licence=stated.get("licence", ""),
        citation=stated.get("citation", ""),
        source=stated.get("source", ""),
    )
