"""Head CT: blood of known volume and side, and everything that is no plain head CT."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipelines import models
from pipelines.codes import HAEMORRHAGE, LEFT, RIGHT, VOLUME
from pipelines.contract import CouldNotLook, Grid, Images, Presence, Volume
from pipelines.geometry import reorder_towards
from pipelines.head_ct_haemorrhage import codes, lesions
from pipelines.head_ct_haemorrhage.deepmedic import DeepMedic
from pipelines.head_ct_haemorrhage.pipeline import LESION_MODEL, HeadCtHaemorrhage
from pipelines.head_ct_haemorrhage.suitability import require_skull, ringed_share
from tests.peers.blast_ct import as_file, dense_blood, random_state
from tests.peers.head_ct_phantom import Bleeding, head_ct

if TYPE_CHECKING:
    from pathlib import Path

BETWEEN_BRAIN_AND_BLOOD = (2 * 50.0 - lesions.DARKEST_HU - lesions.BRIGHTEST_HU) / (
    lesions.BRIGHTEST_HU - lesions.DARKEST_HU
)
LEFT_BLEEDING = Bleeding((6.0, 2.0, 1.0), 5.5)
"""x grows to the patient's left."""


def write_model(folder: Path, *states: dict[str, torch.Tensor]) -> None:
    where = folder / LESION_MODEL
    where.mkdir(parents=True)
    lines = []
    for number, state in enumerate(states, start=1):
        content = as_file(state)
        path = f"model_{number}.torch_model"
        (where / path).write_bytes(content)
        lines.append(f'"{path}" = "{hashlib.sha256(content).hexdigest()}"')
    (where / models.MANIFEST).write_text("[files]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def blood_finder(tmp_path):
    """A node with a network that calls dense voxels inside the grey window blood in the brain."""
    write_model(tmp_path, dense_blood(lesions.INTRAPARENCHYMAL, BETWEEN_BRAIN_AND_BLOOD))
    models.use(tmp_path)
    yield HeadCtHaemorrhage()
    models.use(None)


def without_bone(volume: Volume) -> Volume:
    """Bone is as bright as blood to a threshold: give it what the window cuts to black."""
    return replace(volume, voxels=np.where(volume.voxels > 200.0, -20.0, volume.voxels))


@pytest.fixture
def any_size(monkeypatch):
    """A doll's head is judged like a person's."""
    where = "pipelines.head_ct_haemorrhage.suitability"
    monkeypatch.setattr(f"{where}.require_skull", lambda _: None)
    monkeypatch.setattr(f"{where}.SMALLEST_FIELD_MM", 20.0)
    monkeypatch.setattr("pipelines.head_ct_haemorrhage.deepmedic._TILE", 45)


def doll(*bleedings: Bleeding, spacing_mm=(1.5, 1.0, 1.0)):
    """A head that fits into one tile of the network, without bone."""
    volume, blood, _ = head_ct(*bleedings, spacing_mm=spacing_mm, scale=0.2)
    return without_bone(volume), blood


def of(result, code):
    (found,) = [one for one in result.findings if one.finding == code]
    return found


def test_blood_is_outlined_where_it_is_with_its_volume_and_side_however_the_axes_run(
    blood_finder, any_size
):
    volume, blood = doll(LEFT_BLEEDING)
    turned = reorder_towards(volume.grid, ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)))
    sagittal = Volume(
        np.ascontiguousarray(turned.apply(volume.voxels)),
        turned.regrid(volume.grid),
        volume.attributes,
    )
    result = blood_finder.run(sagittal)
    (segment,) = result.segments
    mask = turned.undo(segment.mask)
    assert 2 * (mask & blood).sum() / (mask.sum() + blood.sum()) > 0.9
    kind = of(result, codes.INTRAPARENCHYMAL)
    assert kind.presence is Presence.PRESENT
    assert kind.laterality == LEFT
    (stated,) = [one.value for one in kind.measurements if one.name == VOLUME]
    assert stated == pytest.approx(LEFT_BLEEDING.volume_ml, rel=0.15)
    assert of(result, HAEMORRHAGE).presence is Presence.PRESENT
    assert of(result, codes.INTRAVENTRICULAR).presence is Presence.ABSENT
    assert result.notes[0].startswith("URGENT")


def test_a_mirrored_head_bleeds_on_the_other_side(blood_finder, any_size):
    volume, _ = doll(LEFT_BLEEDING)
    mirrored = replace(volume, voxels=np.ascontiguousarray(volume.voxels[..., ::-1]))
    kind = of(blood_finder.run(mirrored), codes.INTRAPARENCHYMAL)
    assert kind.laterality == RIGHT


def test_a_head_without_blood_is_reported_as_such_kind_by_kind(blood_finder, any_size):
    volume, _ = doll()
    result = blood_finder.run(volume)
    assert {one.presence for one in result.findings} == {Presence.ABSENT}
    assert result.segments == ()
    assert all(one.confidence is not None and one.confidence > 0.5 for one in result.findings)


def test_less_than_half_a_millilitre_is_undecided(blood_finder, any_size):
    volume, _ = doll(Bleeding((4.0, 0.0, 0.0), 4.0), spacing_mm=(1.0, 1.0, 1.0))
    result = blood_finder.run(volume)
    assert of(result, codes.INTRAPARENCHYMAL).presence is Presence.INDETERMINATE
    assert of(result, HAEMORRHAGE).presence is Presence.INDETERMINATE
    assert not any(note.startswith("URGENT") for note in result.notes)


def test_networks_that_disagree_say_so_in_a_map(tmp_path, any_size):
    write_model(
        tmp_path,
        dense_blood(lesions.INTRAPARENCHYMAL, BETWEEN_BRAIN_AND_BLOOD),
        dense_blood(lesions.INTRAPARENCHYMAL, 2.0),
    )
    models.use(tmp_path)
    volume, blood = doll(LEFT_BLEEDING)
    (disagreement,) = HeadCtHaemorrhage().run(volume).maps
    models.use(None)
    assert disagreement.values[blood].mean() > 0.3
    assert disagreement.values[~blood].mean() < 0.02


def test_other_weights_are_another_model(tmp_path):
    pipeline = HeadCtHaemorrhage()
    models.use(tmp_path)
    without = pipeline.model
    write_model(tmp_path, random_state())
    with_weights = pipeline.model
    models.use(None)
    assert without.weights_sha256 != with_weights.weights_sha256


def test_tiles_join_without_a_seam(monkeypatch):
    monkeypatch.setattr("pipelines.head_ct_haemorrhage.deepmedic._TILE", 30)  # quicker
    network = DeepMedic(random_state())
    grey = np.random.default_rng(0).uniform(-1.0, 1.0, (75, 8, 8)).astype(np.float32)
    everywhere = np.ones(grey.shape, np.bool_)
    whole = network.probabilities(grey, everywhere)
    moved = network.probabilities(grey[15:], everywhere[15:])
    np.testing.assert_allclose(whole[:, 60:75], moved[:, 45:60], atol=1e-5)
    np.testing.assert_allclose(whole.sum(axis=0), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        b"not an archive",
        as_file({}),
        as_file({**random_state(), "fully_connected.2.conv.weight": torch.zeros(3, 250, 1, 1, 1)}),
        as_file({**random_state(), "fully_connected.1.bn.bias": torch.zeros(7)}),
    ],
)
def test_a_file_that_holds_no_such_network_is_refused(content):
    with pytest.raises(ValueError, match=r"archive|weights|classes"):
        DeepMedic.read(content)


def test_without_any_model_it_could_not_look():
    volume, _, _ = head_ct()
    with pytest.raises(CouldNotLook, match="blast-ct"):
        HeadCtHaemorrhage().run(volume)


def test_a_phantom_skull_is_a_skull_and_a_slab_of_bone_is_none():
    volume, _, _ = head_ct()
    require_skull(volume)
    slab = np.full((40, 100, 100), 40.0, np.float32)
    slab[:, 48:52] = 900.0
    grid = Grid(
        (40, 100, 100),
        (0.0, 0.0, 0.0),
        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        (5.0, 2.0, 2.0),
    )
    with pytest.raises(CouldNotLook, match="No skull"):
        require_skull(Volume(slab, grid))


def test_bone_deep_inside_a_limb_rings_nothing():
    y, x = np.mgrid[-100:100, -100:100]
    away = np.hypot(y, x)
    limb = np.where(away < 80, 50.0, -1000.0).astype(np.float32)
    limb[away < 15] = 1000.0
    assert ringed_share(limb, (1.0, 1.0)) == 0.0
    limb[(away > 60) & (away < 68)] = 1000.0
    assert ringed_share(limb, (1.0, 1.0)) == 1.0


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": "DERIVED\\SECONDARY\\MPR"}, "derived"),
        ({"ContrastBolusAgent": "OMNIPAQUE"}, "Contrast agent"),
    ],
)
def test_derived_images_and_contrast_agent_are_refused(blood_finder, attributes, reason):
    volume, _, _ = head_ct(attributes=attributes)
    with pytest.raises(CouldNotLook, match=reason):
        blood_finder.run(volume)


def test_thick_slices_a_short_field_and_other_kinds_of_study_are_refused(blood_finder):
    volume, _, _ = head_ct()
    thick, _, _ = head_ct(spacing_mm=(10.0, 1.0, 1.0))
    part = Volume(volume.voxels[:20], replace(volume.grid, shape=(20, *volume.grid.shape[1:])))
    for study, reason in ((thick, "10.0 mm apart"), (part, "no whole head")):
        with pytest.raises(CouldNotLook, match=reason):
            blood_finder.run(study)
    with pytest.raises(CouldNotLook, match="volume of CT"):
        blood_finder.run(Images(np.zeros((1, 4, 4), np.float32)))
