"""A presentation state draws what was found where it is: as DCMTK reads it, image by image."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image

from node.encode import presentation
from node.encode.presentation import encode_presentation
from node.encode.write import write
from pipelines import codes
from pipelines.contract import Finding, Graphic, Presence, Region, Result, Segment
from tests.node import shown
from tests.peers import require, validators
from tests.sr_templates import made

if TYPE_CHECKING:
    from pydicom import Dataset

RING = Region(0, Graphic.CIRCLE, ((20.0, 20.0), (28.0, 20.0)))
POINT = Region(0, Graphic.POINT, ((50.5, 10.5),))


def circled(*regions, presence=Presence.PRESENT) -> Result:
    return Result((Finding(codes.NODULE, presence, regions=regions),))


def read_by_dcmtk(state, image, folder) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the lines that DCMTK would draw on one image, and the grey values it shows."""
    write(state, folder / "state.dcm")
    done = subprocess.run(
        [require("dcmp2pgm"), "-v", "--pstate", folder / "state.dcm", image, folder / "shown.pgm"],
        check=True,
        capture_output=True,
        text=True,
    )
    listed = re.findall(r"coordinates: (.*)", done.stdout + done.stderr)
    lines = [
        np.array([pair.split("\\") for pair in line.split(", ") if "\\" in pair], float)
        for line in listed
    ]
    return lines, np.array(Image.open(folder / "shown.pgm"))


def inside(lines, shape) -> np.ndarray:
    """Return the pixels whose centres the lines enclose."""
    rows, columns = np.indices(shape)
    centres = np.column_stack((columns.ravel() + 0.5, rows.ravel() + 0.5))
    return sum(Polygon(line).contains_points(centres) for line in lines).reshape(shape) % 2 == 1


def test_dcmtk_draws_the_outline_around_the_masks_own_pixels_on_each_image(tmp_path):
    source = shown.ct()
    state = state_of(source, made.outlined())
    for k in (4, 7):
        shown.write_image(source.instances[k], np.full(made.SHAPE[1:], 532), tmp_path / "image.dcm")
        lines, _ = read_by_dcmtk(state, tmp_path / "image.dcm", tmp_path)
        assert np.array_equal(inside(lines, made.SHAPE[1:]), made.mask()[k])


def test_dcmtk_shows_the_values_in_the_images_own_window(tmp_path):
    source = shown.ct()
    state = state_of(source, made.outlined())
    stored = np.full(made.SHAPE[1:], 532)  # 40 HU, the middle of the window
    stored[0, 0], stored[0, 1] = (-160 + 1024) / 2, (240 + 1024) / 2
    shown.write_image(source.instances[5], stored, tmp_path / "image.dcm")
    _, gray = read_by_dcmtk(state, tmp_path / "image.dcm", tmp_path)
    assert gray[0, 0] == 0
    assert gray[0, 1] == 255
    assert gray[5, 5] in (127, 128)


def test_where_the_rescale_differs_each_image_gets_its_window_in_stored_values(tmp_path):
    source = shown.ct()
    source.instances[5].RescaleSlope = 4
    state = state_of(source, made.outlined())
    assert "RescaleSlope" not in state
    for k, middle in ((4, 532), (5, 266)):
        shown.write_image(source.instances[k], np.full(made.SHAPE[1:], middle), tmp_path / "i.dcm")
        _, gray = read_by_dcmtk(state, tmp_path / "i.dcm", tmp_path)
        assert set(np.unique(gray)) <= {127, 128}


def test_dcmpschk_passes_every_state(tmp_path):
    checker = require("dcmpschk")
    for kind, state in every_state().items():
        state.PatientName = "Mueller^Aenne"  # it knows no UTF-8
        write(state, tmp_path / f"{kind}.dcm")
        done = subprocess.run(
            [checker, tmp_path / f"{kind}.dcm"], check=True, capture_output=True, text=True
        )
        assert "Test passed" in done.stdout + done.stderr, kind


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
def test_dciodvfy_finds_no_error_in_any_state(tmp_path):
    for kind, state in every_state().items():
        write(state, tmp_path / f"{kind}.dcm")
    assert not any(validators.dciodvfy(tmp_path.iterdir()).values())


def state_of(source, result) -> Dataset:
    state = encode_presentation(source, result, made.work())
    assert state is not None
    return state


def every_state() -> dict[str, Dataset]:
    on_a_radiograph = circled(RING, POINT)
    return {
        "ct": state_of(shown.ct(), made.outlined(2)),
        "enhanced": state_of(made.multiframe(), made.outlined(2)),
        "radiograph": state_of(shown.radiograph(), on_a_radiograph),
        "inverted": state_of(shown.radiograph("MONOCHROME1"), on_a_radiograph),
    }


def test_only_images_that_show_something_are_referred_to():
    state = state_of(shown.ct(), made.outlined())
    (series,) = state.ReferencedSeriesSequence
    uids = [image.ReferencedSOPInstanceUID for image in series.ReferencedImageSequence]
    assert uids == [shown.ct().instances[k].SOPInstanceUID for k in range(4, 8)]


def test_the_frames_of_a_multi_frame_image_are_named():
    source = made.multiframe()
    state = state_of(source, made.outlined())
    frames = [
        annotation.ReferencedImageSequence[0].ReferencedFrameNumber
        for annotation in state.GraphicAnnotationSequence
    ]
    assert frames == [source.frame_numbers[k] for k in range(4, 8)]
    (image,) = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    assert list(image.ReferencedFrameNumber) == sorted(frames)


def test_every_label_has_a_layer_of_its_own_in_its_colour():
    segments = tuple(
        Segment(label, codes.TISSUE, codes.BRAIN, made.mask(), color)
        for label, color in (
            ("Left lung, upper lobe", (255, 0, 0)),
            ("Left lung, upper lobe 2", (0, 255, 0)),
            ("肺", (0, 0, 255)),
        )
    )
    state = state_of(shown.ct(), Result(segments=segments))
    layers = {layer.GraphicLayer: layer for layer in state.GraphicLayerSequence}
    assert len(layers) == 3
    assert all(re.fullmatch(r"[A-Z0-9_ ]{1,16}", name) for name in layers)
    assert [one.GraphicLayerDescription for one in layers.values()] == [
        segment.label for segment in segments
    ]
    assert len({tuple(x.GraphicLayerRecommendedDisplayCIELabValue) for x in layers.values()}) == 3


def test_regions_are_drawn_as_the_pipeline_drew_them():
    state = state_of(shown.radiograph(), circled(RING, POINT))
    (annotation,) = state.GraphicAnnotationSequence
    ring, point = annotation.GraphicObjectSequence
    assert (ring.GraphicType, list(ring.GraphicData)) == ("CIRCLE", [20.0, 20.0, 28.0, 20.0])
    assert (point.GraphicType, list(point.GraphicData)) == ("POINT", [50.5, 10.5])
    assert annotation.TextObjectSequence[0].UnformattedTextValue == "Nodule"


def test_pixels_that_are_not_square_are_shown_as_they_are():
    state = state_of(shown.radiograph(), circled(RING))
    (area,) = state.DisplayedAreaSelectionSequence
    assert [float(value) for value in area.PresentationPixelSpacing] == [0.4, 0.2]


def test_an_inverted_radiograph_stays_inverted():
    state = state_of(shown.radiograph("MONOCHROME1"), circled(RING))
    assert state.PresentationLUTShape == "INVERSE"


def test_a_line_too_long_for_one_value_becomes_several_that_join():
    points = tuple((float(x), float(x % 2)) for x in range(20_000))
    pieces = list(presentation._pieces(points))
    assert [len(piece) for piece in pieces] == [8000, 8000, 4002]
    assert all(len(piece) * 2 * 4 <= 0xFFFE for piece in pieces)
    assert [one[-1] for one in pieces[:-1]] == [one[0] for one in pieces[1:]]
    assert pieces[-1][-1] == points[-1]


def test_labels_beyond_the_budget_are_left_out_whole_and_counted(monkeypatch):
    monkeypatch.setattr(presentation, "MOST_ANNOTATIONS", 8)
    state = state_of(shown.ct(), made.outlined(2))
    assert [layer.GraphicLayerDescription for layer in state.GraphicLayerSequence] == ["Brain"]
    assert len(state.GraphicAnnotationSequence) == 4
    assert state.ContentDescription.startswith("1 more not drawn.")
    assert len(state.ContentDescription) <= 64


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (shown.ct(), Result()),
        (shown.ct(), circled(RING, presence=Presence.ABSENT)),
        (shown.clip(), circled(RING)),
        (made.ecg(), made.rhythm()),
    ],
    ids=["nothing", "absent", "colour", "waveform"],
)
def test_there_is_no_state_where_nothing_can_be_drawn(source, result):
    assert encode_presentation(source, result, made.work()) is None


def test_the_same_result_makes_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write(state_of(shown.ct(), made.outlined(2)), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_every_label_has_a_layer_of_its_own():
    squares = np.zeros((4, *made.SHAPE), bool)
    for place, square in enumerate(squares):
        square[4, 2:4, 3 * place : 3 * place + 2] = True
    (segment,) = made.outlined().segments
    segments = tuple(
        replace(segment, label=label, mask=square)
        for label, square in zip(("A_3", "A", "a", "a "), squares, strict=True)
    )
    state = encode_presentation(made.classic(), Result(segments=segments), made.work())
    names = [layer.GraphicLayer for layer in state.GraphicLayerSequence]
    assert len(set(names)) == len(names) == 4
    assert set(names) == {one.GraphicLayer for one in state.GraphicAnnotationSequence}
