"""Tissues and hippocampi of a real head, by networks of the catalogue."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.load.source import load
from pipelines import models
from pipelines.brain_mr_volumetry.codes import HIPPOCAMPUS, TISSUES
from pipelines.brain_mr_volumetry.hippodeep import Hippodeep
from pipelines.brain_mr_volumetry.parts import _parts
from pipelines.brain_mr_volumetry.pipeline import BrainMrVolumetry
from pipelines.codes import LEFT, RIGHT
from pipelines.contract import Volume
from pipelines.geometry import Reorder, reorder_towards
from tests.peers.weights import added_models

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "mr" / "head_t1_datalad.tar.xz"
LPS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    if not ARCHIVE.exists():
        pytest.skip(f"needs the public T1 head {ARCHIVE.name}")
    folder = tmp_path_factory.mktemp("head")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    study = load(list(folder.glob("**/*.dcm"))).study
    assert isinstance(study, Volume)
    return study


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    yield added_models(tmp_path_factory.mktemp("models"), "meshnet-tissues", "hippodeep")
    models.use(None)


@pytest.fixture(scope="module")
def found(head, catalogue):
    models.use(catalogue)
    result = BrainMrVolumetry().run(head)
    models.use(None)
    return result


def mirrored(head):
    """The same voxels, said to lie mirrored in the patient: left becomes right."""
    order = reorder_towards(head.grid, LPS)
    grid = order.regrid(head.grid)
    back = Reorder((0, 1, 2), (True, False, False)).regrid(grid)
    flipped = replace(grid, axes=back.axes, origin_mm=back.origin_mm)
    return Volume(np.ascontiguousarray(order.apply(head.voxels)), flipped, head.attributes), order


def test_a_class_that_no_one_knows_is_an_error_and_not_left_out():
    labels, brain = np.ones((2, 2, 2), dtype=np.uint8), np.ones((2, 2, 2), dtype=np.bool_)
    with pytest.raises(KeyError, match="Gray matter"):
        list(_parts(labels, brain, ("background", "Gray matter"), TISSUES))


@pytest.mark.slow
def test_a_real_head_has_the_volumes_of_an_adults_brain(found):
    """Tripwires, wide on purpose. Measured: grey 583, white 606, hippocampi 3.0 and 3.9 mL."""
    ml = {finding.segment: finding.measurements[0].value for finding in found.findings}
    assert 450 < ml["Grey matter"] < 850
    assert 350 < ml["White matter"] < 750
    for side in ("left", "right"):
        assert 2.0 < ml[f"Hippocampus, {side}"] < 5.5
    assert found.notes == ()


@pytest.mark.slow
def test_each_hippocampus_lies_on_its_side_of_the_brain(head, found):
    segments = {segment.label: segment.mask for segment in found.segments}

    def middle_x(mask):
        index = [float(axis.mean()) for axis in np.nonzero(mask)]
        return float((head.grid.affine @ [*index, 1.0])[0])

    centre = middle_x(segments["Brain"])
    # x grows to the patient's left (PS3.3 C.7.6.2.1.1).
    assert middle_x(segments["Hippocampus, left"]) > centre + 10
    assert middle_x(segments["Hippocampus, right"]) < centre - 10
    sides = {f.segment: f.laterality for f in found.findings if f.laterality}
    assert sides == {"Hippocampus, left": LEFT, "Hippocampus, right": RIGHT}


@pytest.mark.slow
def test_a_mirrored_head_swaps_left_and_right(head, found, catalogue):
    models.use(catalogue)
    other, order = mirrored(head)
    left, right = Hippodeep(models.get("hippodeep")).hippocampi(other)
    models.use(None)
    segments = {segment.label: order.apply(segment.mask) for segment in found.segments}
    swapped = dice(left, segments["Hippocampus, right"]), dice(right, segments["Hippocampus, left"])
    print("Dice of the swapped sides", swapped)
    assert min(swapped) > 0.85
    assert dice(left, segments["Hippocampus, left"]) == 0


@pytest.mark.slow
def test_the_asymmetry_is_that_of_the_two_volumes(found):
    left, right = (
        next(f for f in found.findings if f.laterality == side).measurements[0].value
        for side in (LEFT, RIGHT)
    )
    (index,) = (f for f in found.findings if f.finding == HIPPOCAMPUS and f.segment is None)
    wanted = 200 * (left - right) / (left + right)
    assert index.measurements[0].value == pytest.approx(wanted)


def test_what_was_added_changes_who_the_model_is(catalogue):
    pipeline = BrainMrVolumetry()
    models.use(None)
    before = pipeline.model.weights_sha256, pipeline.parameters["networks"]
    models.use(catalogue)
    after = pipeline.model.weights_sha256, pipeline.parameters["networks"]
    models.use(None)
    assert before[0] != after[0]
    assert before[1] == "deepbet"
    assert after[1] == "deepbet, meshnet-tissues, hippodeep"
