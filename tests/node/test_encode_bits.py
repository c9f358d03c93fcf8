"""Voxels become bits and numbers without loss, whether or not a frame ends with a byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from node.encode.multiframe import bits

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9))


@given(SHAPES.flatmap(lambda shape: arrays(bool, shape)), st.data())
def test_frames_follow_each_other_bit_by_bit(frames, data):
    empty = data.draw(arrays(bool, len(frames)))
    frames[empty] = False
    given_frames = [None if none else frame for none, frame in zip(empty, frames, strict=True)]
    packed = bits.packed(given_frames, frames[0].size)
    assert len(packed) % 2 == 0
    unpacked = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    assert (unpacked[: frames.size] == frames.ravel()).all()
    assert len(packed) * 8 - frames.size < 16
    assert not unpacked[frames.size :].any()


@pytest.mark.parametrize("view", [lambda m: m[::-1, :, ::-1], lambda m: m.transpose(0, 2, 1)])
@pytest.mark.parametrize("shape", [(9, 8, 8), (9, 7, 5)])
def test_a_mask_may_be_a_view_of_another(view, shape):
    mask = view(np.random.default_rng(0).random(shape) > 0.5)
    assert bits.packed(list(mask), mask[0].size) == bits.packed(list(mask.copy()), mask[0].size)


@given(st.tuples(*[arrays(bool, (3, 4, 5))] * 3))
def test_an_overlap_is_found_wherever_it_is(masks):
    assert bits.overlap(masks, bits.voxels(masks)) == (np.sum(masks, axis=0) > 1).any()


@pytest.mark.parametrize(("dtype", "stored"), [(np.uint8, "u1"), (np.uint16, "<u2")])
def test_a_label_is_the_number_of_its_mask(dtype, stored):
    labels = np.random.default_rng(0).integers(0, 4, (5, 3, 3))
    masks = [labels == number for number in (1, 2, 3)]
    data = bits.labelled(masks, bits.voxels(masks), [4, 2, 0], dtype)
    assert len(data) % 2 == 0
    read = np.frombuffer(data, stored)[: labels[:3].size].reshape(3, 3, 3)
    assert (read == labels[[4, 2, 0]]).all()
