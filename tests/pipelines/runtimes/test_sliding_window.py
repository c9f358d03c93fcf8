"""Our sliding window is MONAI's: windows, weights, padding; and it yields where memory ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from pipelines.runtimes.monai_inferer import BundleInferer, slide
from pipelines.runtimes.network import NetworkFault
from pipelines.runtimes.sliding_window import (
    Blended,
    SlidingNetwork,
    UnlikeWindow,
    answers_alike,
)
from pipelines.runtimes.torch_files import TorchNetwork
from pipelines.runtimes.window import Windows, predict_dense, windows

CPU = torch.device("cpu")
CASES = [
    ((20, 17), (16, 16), 0.25, "constant"),
    ((23, 19, 18), (12, 16, -1), (0.1, 0.5, 0.8), "constant"),
    ((30, 9, 12), (16, 16, 16), 0.6, "constant"),
    ((7, 25, 16), (8, 30, 16), 0.0, "replicate"),
    ((12, 11, 13), (16, 8, 14), 0.5, "reflect"),
]


def network(dimensions: int) -> torch.nn.Module:
    """Its answer depends on where in the window a voxel is, as a real one's does."""
    torch.manual_seed(7)
    kind = torch.nn.Conv3d if dimensions == 3 else torch.nn.Conv2d
    return torch.nn.Sequential(kind(2, 4, 3, padding=1), torch.nn.ReLU(), kind(4, 3, 3, padding=1))


def image(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn((2, *shape), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize(("shape", "size", "overlap", "padding"), CASES, ids=str)
def test_it_answers_as_monai_whatever_the_shape_overlap_padding_and_weight(
    shape, size, overlap, padding, mode
):
    given, judge = image(shape), network(len(shape))
    for batch in (1, 3):
        inferer = SlidingWindowInferer(
            size, batch, overlap, mode, padding_mode=padding, cval=-1.5 * (padding == "constant")
        )
        with torch.inference_mode():
            expected = inferer(given[None], judge)[0]
        ours = slide(inferer, given, SlidingNetwork(judge, CPU))
        assert torch.equal(ours, torch.as_tensor(expected))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_sums_in_slabs_are_the_sums_of_the_whole(overlap):
    """As on a graphics card: what no later window reaches has left."""
    shape, patch = (29, 9, 11), (8, 5, 6)
    chance = np.random.default_rng(5)
    weight = chance.random(patch).astype(np.float32) + 0.1
    to = Windows(tuple(windows(shape, patch, overlap)), weight)
    answers = torch.from_numpy(chance.random((len(to.places), 2, *patch)).astype(np.float32))
    whole = Blended((2, *shape), to, CPU, in_slabs=False)
    slabs = Blended((2, *shape), to, CPU, in_slabs=True)
    for place, answer in zip(to.places, answers, strict=True):
        whole.add(place, answer)
        slabs.add(place, answer)
    assert torch.equal(whole.finished(), slabs.finished())


def test_an_answer_of_another_size_than_its_window_is_left_to_monai():
    inferer = SlidingWindowInferer((8, 8, 8), 2, 0.5)
    shrink = torch.nn.AvgPool3d(2)
    given = image((16, 16, 16))
    with pytest.raises(UnlikeWindow):
        slide(inferer, given, SlidingNetwork(shrink, CPU))
    answer = BundleInferer(inferer, shrink, CPU, "float32")(given)
    assert torch.equal(answer, torch.as_tensor(inferer(given[None], shrink)))


def test_where_memory_runs_out_the_batch_is_halved_and_nothing_is_lost():
    judge, seen = network(3), []

    def tight(given):
        seen.append(len(given))
        if len(given) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return judge(given)

    inferer = SlidingWindowInferer((8, 8, 8), 8, 0.5)
    sliding = SlidingNetwork(tight, CPU)
    given = image((20, 20, 20))
    expected = slide(inferer, given, SlidingNetwork(judge, CPU))
    assert float((slide(inferer, given, sliding) - expected).abs().max()) < 1e-5
    assert seen[:3] == [8, 4, 2]
    seen.clear()
    slide(inferer, given, sliding)
    assert max(seen) == 2, "it remembers"


def test_one_window_that_does_not_fit_is_told():
    def never(given):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        slide(SlidingWindowInferer((8, 8, 8), 4), image((9, 9, 9)), SlidingNetwork(never, CPU))


def test_a_network_that_mixes_its_windows_is_not_given_more_of_them():
    windows = torch.randn(2, 1, 4, 4, 4)

    def mixes(given):
        return given - given.mean()

    alone = torch.cat([mixes(windows[:1]), mixes(windows[1:])])
    assert answers_alike(windows, windows * (1 + 1e-4))
    assert not answers_alike(alone, mixes(windows))


def test_a_number_that_is_none_is_no_segmentation():
    def broken(given):
        given = given.clone()
        given[0, 0, 0, 0, 0] = torch.nan
        return given

    with pytest.raises(NetworkFault, match="NaN"):
        slide(SlidingWindowInferer((8, 8, 8), 1), image((9, 9, 9)), SlidingNetwork(broken, CPU))


@pytest.mark.parametrize("patch", [(8, 12, 10), ()])
def test_a_torch_network_blends_as_arrays_are_blended(patch):
    judge = TorchNetwork(network(3).eval(), CPU)

    class Arrays:
        """The same network behind the seam of onnxruntime."""

        def predict(self, batch):
            return judge.predict(batch)

    array = image((21, 13, 17)).numpy()
    expected = predict_dense(Arrays(), array, patch, 0.5, 3)
    assert (predict_dense(judge, array, patch, 0.5, 3) == expected).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no graphics card here")
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_a_graphics_card_answers_as_monai_on_the_host(mode):
    inferer = SlidingWindowInferer((16, 16, 16), 1, 0.5, mode)
    given, judge = image((50, 33, 40)), network(3)
    with torch.inference_mode():
        expected = inferer(given[None], judge)[0]
    card = torch.device("cuda")
    sliding = SlidingNetwork(judge.to(card), card)
    for _ in range(2):
        ours = slide(inferer, given, sliding).numpy()
        assert np.abs(ours - expected.numpy()).max() < 1e-3
