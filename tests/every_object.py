"""Every result object that any test makes, for the validators at the end of the session.

Two sources: files that a test, or a node that it started, left in a temporary folder; and what
an encoder returned within this process, written or not, as it was then. Objects made wrong on
purpose lie in a folder named ``broken``, or were changed only after they were encoded.

Property tests make hundreds of objects that a validator reads alike: of those that differ only
in UIDs, dates, numbers, free text, pixels and how often an item is repeated, one is kept.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import tempfile
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import Dataset, dcmread

import node.encode
from node.encode.write import write
from node.uids import IMPLEMENTATION_CLASS_UID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEPT = pytest.StashKey["Kept"]()
"""Where a session keeps them."""

BROKEN = "broken"
"""Name of a folder whose objects are wrong on purpose."""

_MANUFACTURER = "radnode"
_META_BYTES = 1024
_CODE = ("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodeMeaning")
_TREE = ("SOPClassUID", "ConceptNameCodeSequence", "ContentTemplateSequence", "ContentSequence")
_CLASSES = ("SOPClassUID", "ReferencedSOPClassUID")


class Kept:
    """Copies of what the encoders of this process returned, one of each structure."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="encoded-")
        self._paused = False

    @property
    def paths(self) -> list[Path]:
        return sorted(Path(self._folder.name).iterdir())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep nothing meanwhile."""
        self._paused = True
        yield
        self._paused = False

    def keep(self, made: Dataset) -> None:
        if self._paused:
            return
        new = Path(self._folder.name) / "new"
        write(Dataset(made), new)  # a copy, so that the encoder's own stays as it is
        new.replace(new.with_name(f"{structure(dcmread(new))}.dcm"))

    def watch(self) -> None:
        """Have every encoder keep what it returns, for whoever imports it from now on."""
        modules = [
            importlib.import_module(f"node.encode.{module.name}")
            for module in pkgutil.iter_modules(node.encode.__path__)
        ]
        watched = functools.cache(self._watched)
        for module in modules:
            for name, encoder in inspect.getmembers(module, inspect.isfunction):
                if name.startswith("encode_"):
                    setattr(module, name, watched(encoder))

    def _watched(self, encoder: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(encoder)
        def encode(*arguments: Any, **named: Any) -> Any:
            made = encoder(*arguments, **named)
            if isinstance(made, Dataset):
                self.keep(made)
            return made

        return encode


def structure(dataset: Dataset) -> str:
    """Return a digest of what validators look at: elements, code strings, codes, classes."""
    return sha256(repr(_shape(dataset)).encode()).hexdigest()


def results_in(folder: Path) -> Iterator[Path]:
    """Yield the result objects of this software that lie anywhere in ``folder``."""
    for path in sorted(folder.rglob("*")):
        if BROKEN in path.parts or not path.is_file():
            continue
        with path.open("rb") as file:
            meta = file.read(_META_BYTES)
        if meta[128:132] == b"DICM" and IMPLEMENTATION_CLASS_UID.encode() in meta:
            # What the node received bears its implementation too: it wrote the file.
            header = dcmread(path, specific_tags=["Manufacturer", "ContributingEquipmentSequence"])
            if header.get("Manufacturer") == _MANUFACTURER and header.get(
                "ContributingEquipmentSequence"
            ):
                yield path


def one_of_each(paths: list[Path], structure: Callable[[Dataset], str] = structure) -> list[Path]:
    """Return the first file of each structure."""
    return list({structure(dcmread(path)): path for path in reversed(paths)}.values())


def content(dataset: Dataset) -> str:
    """Return a digest of the content tree alone, which is what a template is about.

    Of the codes it has those of DICOM, which templates are made of; what was found or measured is
    told by codes of other schemes.
    """
    tree = Dataset()
    for keyword in _TREE:
        if keyword in dataset:
            tree.add(dataset[keyword])
    return sha256(repr(_shape(tree, ("DCM",))).encode()).hexdigest()


def _shape(dataset: Dataset, schemes: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """Return what is told apart; codes only of ``schemes``, of all where none is given."""
    shape: list[Any] = []
    of_a_scheme = not schemes or dataset.get("CodingSchemeDesignator") in schemes
    for element in dataset:
        tells = (
            element.VR == "CS"
            or element.keyword in _CLASSES
            or (of_a_scheme and element.keyword in _CODE)
        )
        if element.VR != "SQ":
            shape.append(
                (element.tag, element.VR, str(element.value) if tells else element.is_empty)
            )
            continue
        items = element.value
        if element.keyword == "PerFrameFunctionalGroupsSequence":
            items = items and [items[0], items[-1]]
        shapes = (_shape(item, schemes) for item in items or ())
        shape.append((element.tag, tuple(dict.fromkeys(shapes))))
    return tuple(shape)
