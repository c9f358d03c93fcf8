"""The command, where a pipeline needs several series: what it asks, what it chose, what lacks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from node import route
from node.log import short
from node.settings import Route, Settings
from tests.node.ledger_rows import arrived, complete, receive
from tests.peers import two_series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger
    from tests.node.command import Command

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

CONTRAST = two_series.series("cli several", "CONTRAST arterial", 3)
THICK = two_series.series("cli several", "CONTRAST thick", 4, slices=4)
NATIVE = two_series.series("cli several", "NATIVE", 2)


@pytest.fixture(autouse=True)
def _installed(radnode: Command) -> None:
    two_series.install(radnode.folder / "site-packages")
    route.registry._installed.cache_clear()


def written(folder: Path, *several: Sequence[Dataset]) -> Path:
    folder.mkdir()
    for image in (image for series in several for image in series):
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def test_the_pipelines_are_listed_with_what_each_input_asks(
    radnode: Command, settings: Settings
) -> None:
    radnode.configure(settings)
    listed = {one["name"]: one for one in radnode("pipelines", "--json").json}
    assert listed[two_series.NAME]["input"] == (
        "contrast: Modality = CT, SeriesDescription = CONTRAST*; "
        "native: Modality = CT, SeriesDescription = NATIVE*"
    )


def test_a_folder_is_sorted_to_the_inputs(radnode: Command, settings: Settings) -> None:
    folder = written(radnode.folder / "study", THICK, NATIVE, CONTRAST)
    said = radnode("run", two_series.NAME, folder, "--out", "out")
    assert said.status == 0, said.err
    assert sorted(path.name for path in (radnode.folder / "out").iterdir()) == ["seg.dcm", "sr.dcm"]
    assert "Series analysed: CONTRAST number 3; NATIVE number 2." in said.out


def test_a_folder_that_lacks_an_input_is_told_which(radnode: Command, settings: Settings) -> None:
    folder = written(radnode.folder / "study", NATIVE)
    said = radnode("run", two_series.NAME, folder, "--out", "out")
    assert f"no series for contrast of {two_series.NAME}" in said.error
    assert "contrast: Modality = CT" in said.err
    assert not (radnode.folder / "out").exists()


def test_two_studies_in_a_folder_are_not_mixed(radnode: Command, settings: Settings) -> None:
    other = two_series.series("another study", "CONTRAST arterial", 3)
    folder = written(radnode.folder / "study", NATIVE, other)
    said = radnode("run", two_series.NAME, folder, "--out", "out")
    assert "no series for" in said.error


def test_why_tells_which_series_serve_as_what(
    radnode: Command, settings: Settings, ledger: Ledger
) -> None:
    node = settings.model_copy(
        update={"routes": (Route(name="all", match={"Modality": "CT"}, run=(two_series.NAME,)),)}
    )
    radnode.configure(node)
    for image in (*CONTRAST, *THICK):
        path = node.spool_folder / f"{image.SOPInstanceUID}.dcm"
        path.parent.mkdir(exist_ok=True)
        image.save_as(path, enforce_file_format=True)
        one = arrived(
            sop_instance_uid=image.SOPInstanceUID,
            study_uid=image.StudyInstanceUID,
            series_uid=image.SeriesInstanceUID,
            digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            path=path.name,
        )
        receive(ledger, one)
    complete(ledger)
    study = short(str(CONTRAST[0].StudyInstanceUID))
    said = radnode("why", study).out
    assert f"all -> {two_series.NAME} as contrast: yes" in said
    assert f"all -> {two_series.NAME} as native: no" in said
    best = short(str(CONTRAST[0].SeriesInstanceUID))
    assert f"contrast: series {best}, of 2 that fit" in said
    assert "native: NONE of the series that have come fits" in said
    decisions = radnode("why", study, "--json").json[0]["decisions"]
    assert [one["input"] for one in decisions] == ["contrast", "native"]
