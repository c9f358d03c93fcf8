"""The networks, rebuilt as slices of 2-D convolutions, against 3-D ones written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pipelines.brain_mr_tumour.network import TumourNetwork, expected_shapes


def random_weights(*, halves_twice):
    random = torch.Generator().manual_seed(0)
    return {
        name: 0.2 * torch.randn(shape, generator=random) + (0.5 if len(shape) == 1 else 0.0)
        for name, shape in expected_shapes(halves_twice=halves_twice).items()
    }


class InThreeDimensions:
    """The network as its authors describe it: (1, channels, slices, rows, columns)."""

    def __init__(self, weights):
        self.weights = weights

    def normalised(self, x, place, activation):
        mean = x.mean((0, 2, 3, 4), keepdim=True)
        variance = x.var((0, 2, 3, 4), unbiased=False, keepdim=True)
        gamma, beta = (
            self.weights[f"{place}/{name}"].view(1, -1, 1, 1, 1) for name in ("gamma", "beta")
        )
        x = (x - mean) / torch.sqrt(variance + 1e-5) * gamma + beta
        return functional.prelu(x, self.weights[f"{activation}/alpha"])

    def convolved(self, x, name, **how):
        return functional.conv3d(x, self.weights[name].permute(4, 3, 0, 1, 2), **how)

    def block(self, x, name, dilation=1):
        change = x
        for layer in (0, 1):
            change = self.normalised(change, f"{name}/bn_{layer}", f"{name}/prelu_acti_{layer}")
            reach = (0, dilation, dilation)
            change = self.convolved(
                change, f"{name}/conv_{layer}/w", padding=reach, dilation=(1, dilation, dilation)
            )
        more = change.shape[1] - x.shape[1]
        return change + functional.pad(x, (0, 0, 0, 0, 0, 0, more // 2, more - more // 2))

    def unit(self, x, name):
        return self.normalised(x, f"{name}_bn_prelu/bn_", f"{name}_bn_prelu/prelu_acti_")

    def fused(self, x, name):
        return self.unit(self.convolved(x, f"{name}_bn_prelu/conv_/w"), name)

    def halved(self, x, name):
        x = functional.pad(x, (0, 1, 0, 1))
        return self.unit(self.convolved(x, f"{name}_bn_prelu/conv_/w", stride=(1, 2, 2)), name)

    def doubled(self, x, name):
        kernel = self.weights[f"{name}_bn_prelu/deconv_/w"].permute(4, 3, 0, 1, 2)
        x = functional.conv_transpose3d(x, kernel, stride=(1, 2, 2))
        return self.unit(x[..., :-1, :-1], name)

    def probability(self, x):
        twice = "pred1/w" not in self.weights
        fine = self.fused(self.block(self.block(x, "block1_1"), "block1_2"), "fuse1")
        fine = self.halved(fine, "downsample1") if twice else fine
        fine = self.fused(self.block(self.block(fine, "block2_1"), "block2_2"), "fuse2")
        middle = self.halved(fine, "downsample2")
        for number in (1, 2, 3):
            middle = self.block(middle, f"block3_{number}", number)
        middle = self.fused(middle, "fuse3")
        coarse = middle
        for number in (1, 2, 3):
            coarse = self.block(coarse, f"block4_{number}", 4 - number)
        coarse = self.fused(coarse, "fuse4")
        fine, middle = fine[:, :, 2:-2], middle[:, :, 1:-1]
        if twice:
            fine = self.doubled(fine, "pred_up1")
        else:
            fine = self.convolved(fine, "pred1/w", padding=(0, 1, 1))
        for step in (1, 2) if twice else (1,):
            middle = self.doubled(middle, f"pred_up2_{step}")
            coarse = self.doubled(coarse, f"pred_up3_{step}")
        seen = torch.cat((fine, middle, coarse), dim=1)
        return self.convolved(seen, "final_pred/w", padding=(0, 1, 1)).softmax(1)[0, 1]


@pytest.mark.parametrize("halves_twice", [True, False])
def test_slices_of_two_dimensions_give_what_three_dimensions_give(halves_twice):
    weights = random_weights(halves_twice=halves_twice)
    slices = torch.randn((13, 4, 24, 20), generator=torch.Generator().manual_seed(1))
    found = TumourNetwork(weights, torch.device("cpu")).probability(slices)
    expected = InThreeDimensions(weights).probability(slices.swapaxes(0, 1)[None])
    assert found.shape == (5, 24, 20)
    assert float(expected.std()) > 0.0
    assert torch.allclose(found, expected, atol=1e-4)
