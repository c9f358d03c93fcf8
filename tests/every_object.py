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
import multiprocessing
import pkgutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import Dataset, dcmread

import node.encode
from node.encode.identity import MANUFACTURER
from node.encode.write import write
from node.uids import IMPLEMENTATION_CLASS_UID
from sr_templates.codes import PROCESSING_ALGORITHM
from sr_templates.tree import code_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEPT = pytest.StashKey["Kept"]()
"""Where a session keeps them."""

BROKEN = "broken"
"""Name of a folder whose objects are wrong on purpose."""

_META_BYTES = 1024
_CODE = ("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodeMeaning")
_CLASSES = ("SOPClassUID", "ReferencedSOPClassUID")


class Kept:
    """Copies of what the encoders returned, one of each structure.

    Args:
        folder: Of other processes of this run that keep theirs there as well.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="encoded-")
        self.folder = folder or Path(self._own.name)
        self._paused = False

    @property
    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.dcm"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep nothing meanwhile."""
        self._paused = True
        yield
        self._paused = False

    def keep(self, made: Dataset) -> None:
        if self._paused:
            return
        new = Path(self._own.name) / "new"
        write(Dataset(made), new)  # a copy, so that the encoder's own stays as it is
        new.replace(self.folder / f"{structure(dcmread(new))}.dcm")

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
            # What the node received, or a test had others make, bears its implementation too: it
            # wrote the file.
            header = dcmread(path, specific_tags=["Manufacturer", "ContributingEquipmentSequence"])
            purposes = [
                code_of(purpose)
                for equipment in header.get("ContributingEquipmentSequence") or ()
                for purpose in equipment.get("PurposeOfReferenceCodeSequence") or ()
            ]
            if header.get("Manufacturer") == MANUFACTURER and PROCESSING_ALGORITHM in purposes:
                yield path


def one_of_each(paths: list[Path]) -> list[Path]:
    """Return the first file of each structure; to read all of them takes two cores a while."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        structures = list(pool.map(_structure_of, paths, chunksize=20))
    pairs = zip(reversed(structures), reversed(paths), strict=True)
    return list(dict(pairs).values())


def _structure_of(path: Path) -> str:
    return structure(dcmread(path))


def with_new_content(paths: list[Path]) -> list[Path]:
    """Return the reports that have a content item unlike all of those before.

    Items are alike that stand in the same place of the same kind of report, have the same value
    type, and below them the same kinds of items. Of their names those of DICOM are told apart,
    which templates are made of; what was found or measured is named by other schemes.
    """
    seen: set[Any] = set()
    chosen = []
    for path in paths:
        report = dcmread(path)
        own = set(_content(report, (report.SOPClassUID,)))
        if own - seen:
            chosen.append(path)
            seen |= own
    return chosen


def _content(item: Dataset, place: tuple[Any, ...]) -> Iterator[Any]:
    children = item.get("ContentSequence") or ()
    here = (*place, _kind(item))
    yield here, frozenset(map(_kind, children))
    for child in children:
        yield from _content(child, here)


def _kind(item: Dataset) -> tuple[str, ...]:
    name = name_of(item)
    return (
        str(item.get("ValueType")),
        str(item.get("RelationshipType")),
        name.value if name.scheme == "DCM" else name.scheme,
    )


def _shape(dataset: Dataset) -> tuple[Any, ...]:
    shape: list[Any] = []
    for element in dataset:
        tells = element.VR == "CS" or element.keyword in (*_CODE, *_CLASSES)
        if element.VR != "SQ":
            shape.append(
                (element.tag, element.VR, str(element.value) if tells else element.is_empty)
            )
            continue
        items = element.value
        if element.keyword == "PerFrameFunctionalGroupsSequence":
            items = items and [items[0], items[-1]]
        shape.append((element.tag, tuple(dict.fromkeys(map(_shape, items or ())))))
    return tuple(shape)
