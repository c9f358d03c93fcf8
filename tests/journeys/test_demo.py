"""The demo does what the README says of it, and every tool of the field takes what it leaves."""

from __future__ import annotations

import re
import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib import image
from pydicom import dcmread

from node.domain import Role
from pipelines.brain_mr_volumetry.pipeline import LABEL
from pipelines.contract import Segment
from sr_templates.report import NOT_FOR_DIAGNOSIS
from tests.browser.viewer import open_study
from tests.peers import REPOSITORY, dcmtk
from tests.peers.head_phantom import head_phantom, to_mr_series
from tests.peers.ohif import ohif
from tests.peers.orthanc import orthanc
from tests.peers.validators import complaints_about

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import BrowserContext
    from pydicom import Dataset

pytestmark = pytest.mark.slow

LEAST_DICE = 0.95


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo as ``make demo`` does, but in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "tests.journeys.demo", "--out", folder],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def as_file(instance: Dataset) -> bytes:
    buffer = BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "build"


@pytest.fixture(scope="module")
def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo, run once on a fresh machine."""
    finished = run_demo(folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture
def objects(demo, folder: Path) -> tuple[Path, ...]:
    """What its PACS holds."""
    return tuple(sorted((folder / "pacs").iterdir()))


def test_both_studies_come_back_with_all_that_the_pacs_asks_for(objects: tuple[Path, ...]):
    """The head has an outline, so it has a segmentation and annotations, too."""
    headers = [dcmread(path, stop_before_pixels=True) for path in objects]
    modalities: dict[str, list[str]] = {}
    for header in headers:
        modalities.setdefault(header.StudyInstanceUID, []).append(header.Modality)
    assert sorted(map(sorted, modalities.values())) == [
        ["DOC", "OT", "SEG", "SR", "SR", "SR"],
        ["DOC", "OT", "SR", "SR"],
    ]


def test_every_validator_and_reader_takes_every_object(objects: tuple[Path, ...]):
    assert complaints_about(objects) == {}


def test_orthanc_stores_every_object(objects: tuple[Path, ...], tmp_path: Path):
    with orthanc(tmp_path) as server:
        sent = dcmtk.storescu(server.port, objects, "-R", called_ae=server.ae_title)
        assert sent.returncode == 0, sent.stderr
        stored = {one.SOPInstanceUID for one in server.datasets()}
    assert stored == {dcmread(path).SOPInstanceUID for path in objects}


def test_ohif_shows_the_overlay_the_annotations_and_the_report(
    objects: tuple[Path, ...], browser: BrowserContext, tmp_path: Path
):
    voxels, truth, grid = head_phantom()
    head = to_mr_series(voxels, grid)
    with orthanc(tmp_path, dicom_web=True) as pacs, ohif(pacs.http_port) as url:
        for instance in head:
            pacs.store(as_file(instance))
        for path in objects:
            pacs.store(path.read_bytes())
        viewer = open_study(browser, url, head[0].StudyInstanceUID)
        viewer.open_series(Role.VIEWER_SR)
        viewer.wait_for_annotations()
        viewer.labels.filter(has_text="Volume: ").first.wait_for()
        viewer.keep_screenshot("demo-annotations")
        viewer.open_series(Role.SEG)
        viewer.accept_segmentation()
        assert viewer.swatches() == {LABEL: pytest.approx(Segment.color, abs=2)}
        viewer.rows.first.click()
        overlay = viewer.wait_for_tint(Segment.color)
        viewer.keep_screenshot("demo-segmentation")
        viewer.open_series(Role.TEXT_SR)
        viewer.pane.get_by_text(NOT_FOR_DIAGNOSIS).first.wait_for()
        viewer.keep_screenshot("demo-text")
        assert viewer.complaints == []
    homogeneous = np.column_stack([overlay.points_mm, np.ones(len(overlay.points_mm))])
    number, rows, columns = np.rint(homogeneous @ np.linalg.inv(grid.affine).T).astype(int).T[:3]
    (shown,) = set(number)
    brain = truth[shown]
    assert brain[rows, columns].mean() > LEAST_DICE
    assert overlay.area_mm2 == pytest.approx(brain.sum(), rel=0.1)  # voxels of 1 mm


def test_the_brain_mask_agrees_with_its_known_truth(demo):
    (dice,) = re.findall(r"known truth: Dice (\d\.\d+)", demo.stdout)
    assert float(dice) >= LEAST_DICE


def test_the_reports_are_printed_and_left_as_text(demo, folder: Path):
    for name in ("ecg-atrial-fibrillation", "brain-mr-volumetry"):
        readable = (folder / f"{name}.txt").read_text()
        assert "not for primary diagnosis" in readable.lower()
        said = demo.stdout.split()
        assert all(word in said for word in readable.split())


@pytest.mark.parametrize(
    ("name", "least_red"),
    [
        ("overlay.png", 0.01),
        ("ecg.png", 0.0),
        ("brain-mr-volumetry.png", 0.0005),
        ("ecg-atrial-fibrillation.png", 0.0),
    ],
)
def test_the_pictures_show_something(demo, folder: Path, name: str, least_red: float):
    pixels = image.imread(folder / name)[..., :3]
    assert pixels.std() > 0.05
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert ((red > green + 0.2) & (red > blue + 0.2)).mean() >= least_red


def test_a_second_run_changes_nothing_in_the_pacs(demo, folder: Path):
    held = {path.name: path.read_bytes() for path in (folder / "pacs").iterdir()}
    again = run_demo(folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path.name: path.read_bytes() for path in (folder / "pacs").iterdir()} == held
