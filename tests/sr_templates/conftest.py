"""Every kind of result, encoded, written and read back once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from node.encode.write import write
from tests.sr_templates import made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, dict[str, Path]]:
    """Kind of result -> role -> file."""
    folder = tmp_path_factory.mktemp("made")
    written: dict[str, dict[str, Path]] = {}
    for kind, (_, encoded) in made.everything().items():
        written[kind] = {one.role: folder / f"{kind}-{one.role}.dcm" for one in encoded}
        for one in encoded:
            write(one.dataset, written[kind][one.role])
    return written


@pytest.fixture
def report(files):
    """Return the report of a kind of result, as read from disk."""
    return lambda kind, role="sr": dcmread(files[kind][role])
