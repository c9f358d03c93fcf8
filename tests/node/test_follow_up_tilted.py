"""Follow-up where slices are sheared: what lies beside the images is cut off, and told so."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from node.encode.contradictions import contradictions
from node.encode.objects import encode, on_images, within_images
from node.load.prior import imaged_of, read_lesions
from node.load.source import load
from pipelines import codes
from pipelines.contract import Finding, Measurement, Presence, Result, Segment
from pipelines.follow_up import Lesion, Prior, follow_up
from pipelines.registration import Alignment
from tests.peers import sphere_phantom
from tests.sr_templates import made


@pytest.fixture(scope="module")
def tilted(tmp_path_factory):
    scan = sphere_phantom.random_scan(np.random.default_rng(7), "ct", tilted=True)
    return load(sphere_phantom.write_scan(scan, tmp_path_factory.mktemp("tilted")))


@pytest.fixture(scope="module")
def found(tilted):
    """One thing beside the images, one half beside them."""
    imaged = imaged_of(tilted)
    assert imaged is not None
    slices, rows, columns = np.nonzero(~imaged)
    masks = {"lost": np.zeros(imaged.shape, bool), "cut": np.zeros(imaged.shape, bool)}
    masks["lost"][slices[0], rows[0] : rows[0] + 1, columns[0] : columns[0] + 1] = True
    masks["cut"][len(imaged) // 2] = True
    voxel_ml = tilted.study.grid.voxel_volume_ml
    return Result(
        tuple(
            Finding(
                codes.NODULE,
                segment=label,
                measurements=(Measurement(codes.VOLUME, float(mask.sum()) * voxel_ml, "mL"),),
            )
            for label, mask in masks.items()
        ),
        tuple(
            Segment(label, codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask)
            for label, mask in masks.items()
        ),
    )


def test_what_is_cut_off_is_neither_measured_nor_said_to_be_present(tilted, found):
    within = within_images(tilted, found)
    assert not any(contradictions(tilted, within, "measurement_report"))
    lost, cut = within.findings
    assert (lost.presence, lost.measurements[0].value) == (Presence.INDETERMINATE, 0.0)
    assert within.notes == ("lost: lies beside the images.",)
    pixels = tilted.instances[0].Rows * tilted.instances[0].Columns
    assert cut.measurements[0].value == pytest.approx(pixels * tilted.study.grid.voxel_volume_ml)
    stored, again = on_images(tilted, found), on_images(tilted, within)
    assert (stored.findings, stored.notes) == (again.findings, again.notes)
    for one, other in zip(stored.segments, again.segments, strict=True):
        assert (one.mask == other.mask).all()


def test_change_is_of_what_is_stored(tilted, found, monkeypatch):
    """The same images twice: nothing has changed, nothing is gone."""
    monkeypatch.setattr("pipelines.follow_up.align", lambda *_: Alignment(np.eye(4), 1.0, 1.0))
    within = within_images(tilted, found)
    segmentation = encode(tilted, within, made.work())[0].dataset
    (lesion,) = read_lesions(segmentation, tilted, {})
    grid = tilted.study.grid
    place = grid.affine @ (*np.argwhere(found.segments[0].mask)[0], 1.0)
    beside = Lesion("beside", codes.NODULE, "2.25.7", tuple(place[:3]), 0.1)
    then, now = date(2025, 1, 10), date(2025, 4, 20)
    prior = Prior(then, tilted.study, (lesion, beside), imaged_of(tilted))
    compared = follow_up(tilted.study, within, [prior], now, imaged_of(tilted))
    _, cut = compared.findings
    change = {one.name: one.value for one in cut.measurements}
    assert change[codes.VOLUME_CHANGE] == pytest.approx(0.0, abs=1e-9)
    assert change[codes.PRIOR_VOLUME] == pytest.approx(change[codes.VOLUME])
    assert any("beside of" in note and "do not reach" in note for note in compared.notes)
