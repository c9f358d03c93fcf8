"""Other people's software reads echo reports, chest CAD and key objects without an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.encode.write import write
from tests.peers import validators
from tests.sr_templates import marked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("marked")
    written = []
    for kind, encoded in marked.everything().items():
        for one in encoded:
            written.append(folder / f"{kind}-{one.role}.dcm")
            write(one.dataset, written[-1])
    return written


@pytest.mark.parametrize("validator", [validators.dciodvfy, validators.dsrdump])
def test_no_validator_finds_an_error(validator, paths):
    missing = validators.why_missing(validator.__name__)
    if missing:
        pytest.skip(missing)
    complaints = validator(paths)
    assert len(complaints) == len(paths) == 9
    assert {path.name: said for path, said in complaints.items() if said} == {}
