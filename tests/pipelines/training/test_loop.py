"""The loop: the same run twice is the same, killed or not, and the best weights are kept."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipelines.training.checkpoint import OtherRun
from pipelines.training.loop import Diverged, Plan, fit

PLAN = Plan(steps=60, score_every=10, learning_rate=1e-2, seed=3)
HELD_OUT = torch.linspace(-1, 1, 40).reshape(10, 4)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
    )


def draw(_step, generator):
    x = torch.randn(16, 4, generator=generator)
    return x, x.sum(dim=1, keepdim=True)


def loss(one, batch):
    return ((one(batch[0]) - batch[1]) ** 2).mean()


def score(one):
    return -float(((one(HELD_OUT) - HELD_OUT.sum(dim=1, keepdim=True)) ** 2).mean())


def trained(draw=draw, plan=PLAN, score=score, checkpoints=None, identity="", quiet=True):
    one = network()
    fitted = fit(
        one,
        draw,
        loss,
        plan=plan,
        score=score,
        checkpoints=checkpoints,
        identity=identity,
        device="cpu",
        quiet=quiet,
    )
    return one.state_dict(), fitted


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_one_does_not():
    torch.manual_seed(7)  # what happened before does not matter
    first, _ = trained()
    torch.manual_seed(8)
    assert same(first, trained()[0])
    assert not same(first, trained(plan=replace(PLAN, seed=4))[0])


@pytest.mark.parametrize("killed_at", [5, 10, 37])
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path, killed_at):
    whole, fitted = trained()

    def killing(step, generator):
        if step == killed_at:
            raise KeyboardInterrupt
        return draw(step, generator)

    with pytest.raises(KeyboardInterrupt):
        trained(draw=killing, checkpoints=tmp_path)
    steps = []

    def counting(step, generator):
        steps.append(step)
        return draw(step, generator)

    weights, resumed = trained(draw=counting, checkpoints=tmp_path)
    assert steps[0] == killed_at // 10 * 10
    assert same(whole, weights)
    assert (resumed.best_step, resumed.best_score) == (fitted.best_step, fitted.best_score)
    assert [p.loss for p in resumed.curve] == [p.loss for p in fitted.curve]


def test_a_checkpoint_that_was_not_finished_is_not_taken(tmp_path):
    def killing(step, generator):
        if step == 25:
            raise KeyboardInterrupt
        return draw(step, generator)

    with pytest.raises(KeyboardInterrupt):
        trained(draw=killing, checkpoints=tmp_path)
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "weights.safetensors").write_bytes(b"half")
    assert same(trained()[0], trained(checkpoints=tmp_path)[0])


def test_a_checkpoint_of_another_plan_or_of_other_data_is_refused(tmp_path):
    trained(checkpoints=tmp_path, identity="data")
    with pytest.raises(OtherRun):
        trained(checkpoints=tmp_path, identity="other data")
    with pytest.raises(OtherRun):
        trained(checkpoints=tmp_path, identity="data", plan=Plan(steps=61))


def test_the_weights_of_the_highest_score_are_kept():
    scores = iter([0.1, 0.9, 0.3, 0.9, math.nan, 0.2])
    seen = []

    def told(one):
        seen.append({name: value.clone() for name, value in one.state_dict().items()})
        return next(scores)

    weights, fitted = trained(score=told)
    assert (fitted.best_step, fitted.best_score) == (20, 0.9)
    assert same(weights, seen[1])
    assert not same(weights, seen[-1])


def test_seconds_end_a_run_too():
    _, fitted = trained(plan=Plan(seconds=0.3, score_every=5))
    assert fitted.steps > 0
    assert fitted.seconds >= 0.3


def test_a_plan_without_an_end_is_refused():
    with pytest.raises(ValueError, match="steps"):
        Plan()


def test_a_loss_that_is_no_number_ends_the_run():
    one = network()
    with pytest.raises(Diverged):
        fit(one, draw, lambda n, b: loss(n, b) * math.inf, plan=PLAN, quiet=True, device="cpu")


def test_frozen_parameters_stay_as_they_are():
    one = network()
    one[0].requires_grad_(False)
    before = one[0].weight.clone()
    fit(one, draw, loss, plan=PLAN, quiet=True, device="cpu")
    assert torch.equal(one[0].weight, before)


def test_without_a_terminal_the_progress_is_lines(capsys):
    trained(quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("100%  step 60")
