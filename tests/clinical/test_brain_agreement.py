"""The brain pipeline against deepbet's own command line, on a real T1-weighted head.

Data: datalad/example-dicom-structural (PDDL), 384 oblique slices of 0.67 x 0.67 x 0.70 mm.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from node.load.source import load
from node.load.volume import load_volume
from pipelines.brain_mr_volumetry.pipeline import BrainMrVolumetry
from pipelines.contract import Result, Volume
from tests.peers.head_phantom import to_mr_series

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "mr" / "head_t1_datalad.tar.xz"
pytestmark = [
    pytest.mark.clinical,
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.exists(), reason=f"needs the public T1 head {ARCHIVE.name}"),
]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Volume:
    folder = tmp_path_factory.mktemp("head")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    paths = list(folder.glob("**/*.dcm"))
    random.Random(2).shuffle(paths)
    study = load(paths).study
    assert isinstance(study, Volume)
    return study


@pytest.fixture(scope="module")
def result(head) -> Result:
    return BrainMrVolumetry().run(head)


@pytest.fixture(scope="module")
def deepbet(head, tmp_path_factory) -> tuple[float, np.ndarray]:
    """Volume in mL and mask on the head's grid, by ``deepbet-cli`` in a process of its own."""
    folder = tmp_path_factory.mktemp("deepbet")
    to_ras = (LPS_TO_RAS @ head.grid.affine)[:, [2, 1, 0, 3]]
    nibabel.Nifti1Image(head.voxels.T, to_ras).to_filename(folder / "t1.nii.gz")
    outputs = ["-o", "brain.nii.gz", "-m", "mask.nii.gz", "-v", "volume.csv", "--no_gpu"]
    program = Path(sys.executable).with_name("deepbet-cli")
    subprocess.run([program, "-i", "t1.nii.gz", *outputs], cwd=folder, check=True, timeout=240)
    (row,) = csv.DictReader((folder / "volume.csv").open())
    mask = np.asanyarray(nibabel.load(folder / "mask.nii.gz").dataobj)
    return float(row["tiv_cm3"]), mask.T > 0


def test_volume_and_mask_are_those_of_deepbets_own_command_line(head, result, deepbet):
    """Measured: 1791.67 mL both, not one voxel different, with instances in random order."""
    their_volume_ml, theirs = deepbet
    ours = result.segments[0].mask
    volume_ml = result.findings[0].measurements[0].value
    dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    print(f"{volume_ml:.2f} mL, deepbet {their_volume_ml:.2f} mL; {(ours != theirs).sum()} voxels")
    assert volume_ml == pytest.approx(their_volume_ml, rel=0.01)
    assert dice >= 0.99


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_the_same_head_sent_as_other_slices_has_the_same_brain(head, result, plane):
    """Measured: the same voxels in every plane."""
    instances = to_mr_series(head.voxels.astype(np.uint16), head.grid, plane, root="resliced")
    random.Random(3).shuffle(instances)
    resliced = BrainMrVolumetry().run(load_volume(instances).study)
    volume_ml, resliced_ml = (
        found.findings[0].measurements[0].value for found in (result, resliced)
    )
    print(f"{plane}: {resliced_ml:.2f} mL, as scanned {volume_ml:.2f} mL")
    assert resliced_ml == pytest.approx(volume_ml, rel=1e-6)
