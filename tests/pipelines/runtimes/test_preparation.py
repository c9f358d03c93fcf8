"""From voxels to the network's numbers and back: intensities, sizes, several series, pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.contract import CouldNotLook, Grid, Images, Volume
from pipelines.runtimes import load, parse
from pipelines.runtimes.prediction import Prediction, masks
from pipelines.runtimes.prepare import normalise, prepare
from pipelines.runtimes.sections import Input, Output
from pipelines.runtimes.window import predict_dense, windows
from tests.pipelines.runtimes import balls
from tests.pipelines.runtimes.test_manifest import LIVER

MATCH = {"match": {"Modality": "CT"}}
VALUES = np.array([[[0.0, 0.0, 10.0, 20.0, 30.0, 400.0]]], np.float32)


def stated(**keys) -> Input:
    return Input.model_validate(MATCH | {"orientation": "RAS", "spacing_mm": "as-acquired"} | keys)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"window": (0, 40)}, [0, 0, 0.25, 0.5, 0.75, 1]),
        ({"window": (0, 40), "scale_to": (-1, 1)}, [-1, -1, -0.5, 0, 0.5, 1]),
        ({"normalisation": "none"}, [0, 0, 10, 20, 30, 400]),
        ({"normalisation": "min-max"}, [0, 0, 0.025, 0.05, 0.075, 1]),
        ({"normalisation": "min-max", "region": 15.0}, [0, 0, 0, 0, 10 / 380, 1]),
        ({"normalisation": "percentiles", "percentiles": (0, 80)}, [0, 0, 1 / 3, 2 / 3, 1, 1]),
        ({"normalisation": "z-score", "mean": 10, "std": 20}, [-0.5, -0.5, 0, 0.5, 1, 19.5]),
        (
            {"window": (0, 40), "normalisation": "z-score", "region": "non-zero"},
            [0, 0, -1.3416408, -0.4472136, 0.4472136, 1.3416408],
        ),
    ],
)
def test_voxel_values_become_what_the_network_was_trained_on(keys, expected):
    assert normalise(VALUES, stated(**keys)).ravel() == pytest.approx(expected, abs=1e-5)


def test_an_image_of_one_value_is_could_not_look():
    with pytest.raises(CouldNotLook, match="the same value"):
        normalise(np.ones((3, 3, 3), np.float32), stated(normalisation="z-score"))
    with pytest.raises(CouldNotLook, match="No voxel is in the range"):
        normalise(np.zeros((3, 3, 3), np.float32), stated(normalisation="z-score", region=5.0))


def test_each_image_has_statistics_of_its_own():
    frames = np.stack([VALUES[0] * scale for scale in (1.0, 5.0)])
    to = stated(view="images", orientation="as-acquired", normalisation="min-max")
    first, second = normalise(frames, to)
    assert first == pytest.approx(second)


@pytest.mark.parametrize("shape", [(7, 40, 23), (30, 31, 32), (5, 5, 5)])
def test_windows_cover_everything_and_blend_to_the_same(shape):
    array = np.random.default_rng(1).random((1, *shape)).astype(np.float32)
    patch = tuple(min(size, 12) for size in shape)
    covered = np.zeros(shape, bool)
    for window in windows(shape, patch, 0.5):
        covered[window] = True
    assert covered.all()

    class Same:
        def predict(self, batch):
            return (np.concatenate([batch, 2.0 * batch], axis=1),)

    answer = predict_dense(Same(), array, patch, 0.5, 3)
    assert answer == pytest.approx(np.concatenate([array, 2.0 * array]), abs=1e-5)


@pytest.mark.parametrize(
    "keys",
    [
        {"size": (48, 48, 48), "fit": "stretch"},
        {"size": (48, 48, 48)},
        {"divisible_by": 16},
        {"patch": (50, 50, 50)},
        {"spacing_mm": (2.0, 2.0, 2.0), "size": (48, 48, 48)},
        {"orientation": "SPL", "spacing_mm": (3.0, 1.0, 1.0)},
    ],
    ids=str,
)
def test_what_was_prepared_finds_its_way_back(keys):
    where = balls.grid(balls.CORONAL, (2.0, 2.5, 1.5))
    smooth = np.sin(balls.places_mm(where) / 15.0).sum(axis=-1).astype(np.float32)
    study = Volume(smooth, where, {"Modality": "CT"})
    prepared = prepare((study,), stated(normalisation="none", **keys))
    back = prepared.to_source(prepared.array[0])
    inside = (slice(2, -2),) * 3
    assert back[inside] == pytest.approx(smooth[inside], abs=0.05)
    size = prepared.array.shape[1:]
    assert size == keys.get("size", size)
    assert all(one % keys.get("divisible_by", 1) == 0 for one in size)


def test_a_field_larger_than_a_fixed_size_is_could_not_look_not_cut_off():
    to = stated(window=(0, 100), spacing_mm=(2.0, 2.0, 2.0), size=(24, 32, 32))
    with pytest.raises(CouldNotLook, match="larger field"):
        prepare((balls.volume(balls.grid()),), to)


def test_colour_becomes_grey_or_three_channels():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[..., 1] = 100
    to = stated(view="images", orientation="as-acquired", normalisation="none", channels=3)
    prepared = prepare((Images(frames),), to)
    assert prepared.array.shape == (3, 2, 4, 4)
    assert prepared.array == pytest.approx(58.7, abs=0.1)


def test_a_second_series_is_laid_over_the_first_by_the_patients_coordinates(tmp_path):
    """The channels swap places: the balls are seen in the second, on the grid of the first."""
    from onnx import TensorProto, helper, numpy_helper

    weights, biases = balls.kernel()
    both = np.concatenate([np.zeros_like(weights), weights], axis=1)
    space = ("i", "j", "k")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[balls.REACH] * 6)],
        "balls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, *space])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, *space])],
        [numpy_helper.from_array(both, "w"), numpy_helper.from_array(biases, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    model = 'runtime = "onnx"\nfile = "model.onnx"\nsha256 = "{sha256}"'
    balls.write(tmp_path, {"model.onnx": content}, model)
    text = (tmp_path / "pipeline.toml").read_text()
    several = 'series.plain = { Modality = "CT" }\nseries.contrast = { Modality = "CT" }'
    (tmp_path / "pipeline.toml").write_text(text.replace('match = { Modality = "CT" }', several))
    pipeline: Any = load(tmp_path)
    first, second = balls.grid(balls.AXIAL, (2.0, 1.5, 2.0)), balls.grid(balls.SAGITTAL)
    plain = Volume(np.zeros(first.shape, np.float32), first, {"Modality": "CT"})
    result = pipeline.run(contrast=balls.volume(second), plain=plain)
    masks = {segment.label: segment.mask for segment in result.segments}
    balls.assert_lie_on_the_balls(masks, first)
    assert "were not registered" in result.notes[0]


@pytest.mark.parametrize(
    ("output", "pieces"), [("", 2), ("keep_largest = true", 1), ("minimum_ml = 1.6", 1)]
)
def test_small_pieces_count_only_where_they_shall(tmp_path, output, pieces):
    import SimpleITK

    folder = balls.write_onnx(tmp_path, output=f'activation = "softmax"\n{output}')
    where: Grid = balls.grid()
    result = load(folder).run(balls.volume(where))
    (mask,) = (one.mask for one in result.segments if one.label == "ball")
    numbered = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype("u1")), True)
    assert SimpleITK.GetArrayFromImage(numbered).max() == pieces


def test_of_a_clip_each_frame_keeps_its_own_largest_piece():
    shape = (2, 8, 8)
    values = np.zeros(shape, np.float32)
    values[0, 1:4, 1:4] = values[0, 6, 6] = 1.0
    values[1, 5:7, 5:7] = values[1, 1, 1] = 1.0
    (label,) = parse(LIVER.encode()).labels
    output = Output.model_validate({"keep_largest": True})
    mask = masks(Prediction(2, lambda _: values, None), [label], output, None)["liver"]
    assert [int(frame.sum()) for frame in mask] == [9, 4]


def test_slices_are_seen_one_by_one(tmp_path):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "rows", "columns"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "rows", "columns"])],
    )
    opset = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    given = 'view = "slices"\norientation = "SPL"\nspacing_mm = [1.5, 1.5]\nwindow = [0, 100]'
    model = 'runtime = "onnx"\nfile = "model.onnx"\nsha256 = "{sha256}"'
    folder = balls.write(tmp_path, {"model.onnx": content}, model, given, 'activation = "none"')
    text = (folder / "pipeline.toml").read_text().replace("index = 1", "index = 0")
    (folder / "pipeline.toml").write_text(text[: text.rindex("[[labels]]")])
    assert parse((folder / "pipeline.toml").read_bytes()).input.dimensions == 2
    for plane in (balls.AXIAL, balls.SAGITTAL):
        where = balls.grid(plane)
        study = balls.volume(where)
        (segment,) = load(folder).run(study).segments
        assert (segment.mask != (study.voxels > 50.0)).mean() < 0.01
