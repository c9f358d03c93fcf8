"""Headers cut out of bytes: the same data set that pydicom reads, whatever the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import Dataset, data, dcmread
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from node import part10
from node.load.source import load
from node.malformed import MALFORMED
from pipelines.contract import Grid, Volume
from tests.peers.head_phantom import to_mr_series

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = sorted(
    path
    for path in (Path(data.__file__).parent / "test_files").glob("*.dcm")
    if path.stat().st_size < 300_000
)
BULK = 0x54000000
GRID = Grid((3, 16, 24), (0.0, 0.0, 0.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (2.0, 1.0, 1.0))


def outcome(read: Callable[[], Dataset]) -> Dataset | type[BaseException]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except MALFORMED as error:
            return type(error)


def headers_by_pydicom(path: Path) -> Dataset:
    with path.open("rb") as file:
        return read_partial(file, lambda tag, _vr, _length: tag >= BULK)


def said(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Every element as it stands, without where in the file its value was."""
    elements = []
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset parses every value
        element = dataset[tag] if tag >= BULK or tag == 0x00080005 else dataset.get_item(tag)
        stated = getattr(element, "length", None), element.VR, element.value
        elements.append((tag, *(str(one) for one in stated)))
    return elements


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_read_as_pydicom_reads_it(path):
    for theirs, ours in (
        (lambda: dcmread(path), lambda: part10.read(path)),
        (lambda: headers_by_pydicom(path), lambda: part10.read(path, stop_at=BULK)),
    ):
        expected, read = outcome(theirs), outcome(ours)
        if not isinstance(expected, Dataset):
            assert read == expected
            continue
        assert isinstance(read, Dataset)
        assert said(read) == said(expected)
        assert read.file_meta == expected.file_meta
        assert read.original_encoding == expected.original_encoding
        assert read.original_character_set == expected.original_character_set


@pytest.mark.parametrize("kept", [100, 140, 300, 700, 1500, -1, -700])
def test_a_file_cut_short_is_read_as_pydicom_reads_it(kept, tmp_path):
    instance, path = to_mr_series(np.zeros(GRID.shape, np.uint16), GRID)[0], tmp_path / "cut.dcm"
    instance.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:kept])
    expected, read = outcome(lambda: dcmread(path)), outcome(lambda: part10.read(path))
    if isinstance(expected, Dataset):
        assert isinstance(read, Dataset)
        assert said(read) == said(expected)
    else:
        assert read == expected


def test_pixel_data_stay_on_the_disk_until_a_volume_is_filled(tmp_path):
    side = 256  # more than is read at once
    grid = Grid((3, side, side), GRID.origin_mm, GRID.axes, GRID.spacing_mm)
    voxels = np.random.default_rng(1).integers(0, 4096, grid.shape).astype(np.uint16)
    paths = []
    for number, instance in enumerate(to_mr_series(voxels, grid)):
        paths.append(tmp_path / f"{number}.dcm")
        instance.add_new(0xFFFCFFFC, "OB", bytes(64))  # Data Set Trailing Padding (PS3.10 7.2)
        instance.save_as(paths[-1], enforce_file_format=True)
    element = part10.unparsed(part10.read(paths[0]), Tag("PixelData"))
    assert element is not None
    assert element.value is None
    assert part10.read(paths[0]).PixelData == voxels[0].tobytes()
    study = load(paths).study
    assert isinstance(study, Volume)
    assert np.array_equal(study.voxels, voxels)
