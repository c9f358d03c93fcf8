"""Patients are kept apart, the same way every time; masks move with their images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training.augmentation import Augmentation, augmented
from pipelines.training.data import Example, Seen, TooFewPatients, digest_of, folds, split

STILL = Augmentation(turn=0, scale=0, shift=0, gain=0, offset=0, noise=0)


def unread() -> Seen:
    raise AssertionError("A split reads no pixels.")


def example(patient, label="none", number=0):
    return Example(str(patient), f"{patient}-{number}", unread, {label: True})


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ABC")), min_size=12, max_size=60),
    st.integers(0, 5),
)
def test_no_patient_is_in_two_parts(pairs, seed):
    examples = [example(p, label, n) for n, (p, label) in enumerate(pairs)]
    try:
        found = split(examples, seed=seed)
    except TooFewPatients:
        return
    parts = [found.train, found.validation, found.test]
    assert sum(map(len, parts)) == len({e.patient for e in examples})
    assert frozenset().union(*parts) == {e.patient for e in examples}
    assert sum(len(found.of(examples, p)) for p in ("train", "validation", "test")) == len(pairs)


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 3))
def test_every_patient_is_tested_in_exactly_one_fold_and_never_learned_from_there(
    patients, count, seed
):
    examples = [example(p, "AB"[p % 2], n) for p in range(patients) for n in range(2)]
    if count > patients:
        with pytest.raises(TooFewPatients):
            folds(examples, count, seed=seed)
        return
    found = folds(examples, count, seed=seed)
    assert sorted(p for one in found for p in one.test) == sorted({e.patient for e in examples})
    assert all(one.test.isdisjoint(one.train) for one in found)


def test_a_split_does_not_depend_on_the_order_of_the_examples_but_on_the_seed():
    examples = [example(p, "AB"[p % 2]) for p in range(40)]
    assert split(examples) == split(examples[::-1])
    assert split(examples) != split(examples, seed=1)
    assert digest_of(examples) == digest_of(examples[::-1])
    assert digest_of(examples) != digest_of(examples[1:])


def test_a_rare_class_is_in_every_part():
    examples = [example(p, "rare" if p < 3 else "common") for p in range(60)]
    found = split(examples)
    for part in (found.train, found.validation, found.test):
        assert part & {"0", "1", "2"}


def test_two_patients_cannot_be_parted():
    with pytest.raises(TooFewPatients):
        split([example(1), example(2)])


@pytest.mark.parametrize("shape", [(20, 36), (12, 20, 28)])
def test_nothing_changes_where_nothing_is_asked_for(shape):
    images = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    changed, masks = augmented(images, torch.Generator(), STILL, images > 0.5)
    assert torch.allclose(changed, images, atol=1e-5)
    assert masks is not None
    assert torch.equal(masks, images > 0.5)


@pytest.mark.parametrize("shape", [(40, 72), (24, 40, 56)])
def test_masks_move_with_their_images_and_keep_their_size(shape):
    images = torch.zeros(4, 1, *shape)
    inner = tuple(slice(size // 3, 2 * size // 3) for size in shape)
    images[:, 0][(slice(None), *inner)] = 1.0
    amount = Augmentation(flips=(0,), turn=25, scale=0, gain=0, offset=0, noise=0)
    changed, masks = augmented(images, torch.Generator().manual_seed(2), amount, images > 0.5)
    assert masks is not None
    assert not torch.equal(masks, images > 0.5)
    assert ((changed > 0.5) == masks).float().mean() > 0.97
    assert masks.sum().item() == pytest.approx(images.sum().item(), rel=0.08)


def test_a_flip_mirrors_that_axis_alone():
    images = torch.arange(12.0).reshape(1, 1, 3, 4).repeat(64, 1, 1, 1)
    amount = Augmentation(flips=(1,), **{k: v for k, v in vars(STILL).items() if k != "flips"})
    changed, _ = augmented(images, torch.Generator().manual_seed(0), amount)
    mirrored = torch.isclose(changed, images.flip(3), atol=1e-4).flatten(1).all(dim=1)
    untouched = torch.isclose(changed, images, atol=1e-4).flatten(1).all(dim=1)
    assert (mirrored | untouched).all()
    assert 16 < mirrored.sum() < 48
