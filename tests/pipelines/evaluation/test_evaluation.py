"""Figures of merit against known answers and an independent library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from pipelines.evaluation.agreement import Measured, agreement
from pipelines.evaluation.classification import (
    Answer,
    calibration,
    roc,
    sensitivity,
    specificity,
)
from pipelines.evaluation.detection import RATES, Candidate, Marked, froc
from pipelines.evaluation.estimate import by_patient, mean_by_patient, wilson
from pipelines.evaluation.report import (
    Evaluation,
    Table,
    as_html,
    as_markdown,
    calibration_figure,
    roc_figure,
    write_card,
)
from pipelines.evaluation.segmentation import dice, surface_distance

if TYPE_CHECKING:
    from pathlib import Path


def answers(truth, score, threshold=0.5):
    return [
        Answer(f"p{k}", bool(t), bool(s >= threshold), float(s))
        for k, (t, s) in enumerate(zip(truth, score, strict=True))
    ]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 10).map(lambda k: k / 10)), min_size=2, max_size=30
    ).filter(lambda told: len({truth for truth, _ in told}) == 2)
)
def test_the_area_below_the_curve_is_that_of_scikit_learn_also_with_ties(told):
    truth, score = zip(*told, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.evaluation.estimate.DRAWS", 3)
        curve = roc(answers(truth, score))
    assert curve.area.value == pytest.approx(metrics.roc_auc_score(truth, score))
    drawn = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
    assert drawn == pytest.approx(curve.area.value)


def test_no_answer_counts_as_wrong_whatever_the_truth():
    told = [Answer("a", True, None), Answer("b", True, True), Answer("c", False, None)]
    assert sensitivity(told).value == 0.5
    assert specificity(told).value == 0.0


def test_a_figure_that_has_no_patient_is_no_number():
    only_sick = [Answer("a", True, True), Answer("b", True, True)]
    assert math.isnan(specificity(only_sick).value)
    assert str(specificity(only_sick)) == "cannot be computed"


def test_an_interval_over_patients_is_wider_than_one_that_takes_strips_for_patients():
    random = np.random.default_rng(1)
    quality = random.uniform(0.4, 1.0, 12)
    right = (random.uniform(size=(12, 50)) < quality[:, None]).ravel().astype(float).tolist()
    clustered = mean_by_patient([f"p{k // 50}" for k in range(600)], right)
    independent = mean_by_patient([str(k) for k in range(600)], right)
    assert (clustered.highest - clustered.lowest) > 2 * (independent.highest - independent.lowest)
    assert clustered.patients == 12
    assert clustered.n == 600


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    inside = 0
    for trial in range(100):
        of_patient = random.normal(5.0, 1.0, 30)
        values = np.repeat(of_patient, 3) + random.normal(0.0, 0.5, 90)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipelines.evaluation.estimate.DRAWS", 300)
            found = mean_by_patient([str(k // 3) for k in range(90)], values.tolist(), seed=trial)
        inside += found.lowest <= 5.0 <= found.highest
    assert 85 <= inside <= 99


def test_one_patient_gives_no_interval():
    found = mean_by_patient(["a", "a"], [1.0, 2.0])
    assert found.value == 1.5
    assert math.isnan(found.lowest)


def test_nothing_measured_is_no_number():
    assert math.isnan(by_patient([], len).value)


def test_wilsons_interval_is_the_published_one():
    low, high = wilson(81, 263)  # Newcombe 1998, Stat Med 17:857-872, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_probabilities_that_are_frequencies_are_calibrated_and_overconfident_ones_are_not():
    random = np.random.default_rng(3)
    score = random.uniform(size=4000)
    truth = random.uniform(size=4000) < score
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.evaluation.estimate.DRAWS", 20)
        honest = calibration(answers(truth, score))
        bold = calibration(answers(truth, np.where(score > 0.5, 0.99, 0.01)))
    assert honest.error.value < 0.03
    assert bold.error.value > 0.2
    assert honest.brier.value == pytest.approx(metrics.brier_score_loss(truth, score))


def test_a_shifted_cube_has_the_overlap_and_distance_that_geometry_says():
    truth = np.zeros((20, 20, 20), np.bool_)
    truth[5:15, 5:15, 5:15] = True
    said = np.roll(truth, 2, axis=0)
    assert dice(said, truth) == pytest.approx(0.8)
    near = surface_distance(said, truth, (3.0, 1.0, 1.0))
    assert near.percentile_95_mm == pytest.approx(6.0)
    assert 0.0 < near.mean_mm < 6.0
    assert surface_distance(truth, truth, (3.0, 1.0, 1.0)) == (0.0, 0.0)


def test_overlap_of_nothing_with_nothing_is_whole_and_distance_to_nothing_is_no_number():
    nothing = np.zeros((4, 4), np.bool_)
    something = nothing.copy()
    something[1:3, 1:3] = True
    assert dice(nothing, nothing) == 1.0
    assert dice(something, nothing) == 0.0
    assert math.isnan(surface_distance(something, nothing, (1.0, 1.0)).mean_mm)


def hit(confidence, *lesions):
    return Candidate(confidence, frozenset(lesions))


def test_a_froc_curve_counts_each_lesion_once_and_each_alarm_for_its_study():
    studies = [
        Marked("a", 2, (hit(0.9, 0), hit(0.8), hit(0.7, 0), hit(0.6, 1))),
        Marked("b", 0, (hit(0.5),)),
    ]
    curve = froc(studies)
    assert list(curve.sensitivity) == [0.0, 0.5, 0.5, 0.5, 1.0, 1.0]
    assert list(curve.false_alarms) == [0.0, 0.0, 0.5, 0.5, 0.5, 1.0]
    at = dict(zip(RATES, (one.value for one in curve.at_rates), strict=True))
    assert at[0.25] == 0.5
    assert at[1.0] == 1.0


def test_bland_altman_finds_bias_and_limits():
    random = np.random.default_rng(4)
    truth = random.uniform(50.0, 150.0, 300)
    said = truth + 3.0 + random.normal(0.0, 2.0, 300)
    found = agreement(
        [Measured(str(k), t, s) for k, (t, s) in enumerate(zip(truth, said, strict=True))]
    )
    assert found.bias.value == pytest.approx(3.0, abs=0.3)
    assert found.lower_limit.value == pytest.approx(3.0 - 1.96 * 2.0, abs=0.5)
    assert found.upper_limit.value == pytest.approx(3.0 + 1.96 * 2.0, abs=0.5)
    assert found.bias.lowest < 3.0 < found.bias.highest


def test_a_page_holds_its_figures_and_cannot_be_written_into():
    told = answers([True, False, True, False], [0.9, 0.1, 0.8, 0.4])
    evaluation = Evaluation(
        "<script>alert(1)</script>",
        "4 studies of 4 patients",
        (Table("Accuracy", ("what", "how much"), (("sensitivity", str(sensitivity(told))),)),),
        (roc_figure("x", roc(told)), calibration_figure("x", calibration(told))),
        ("Too few.",),
    )
    page = as_html(evaluation)
    assert "<script>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert "| sensitivity | 1.000 (1.000 to 1.000) |" in as_markdown(evaluation)


def test_a_card_gets_its_measured_part_and_keeps_the_rest(tmp_path: Path):
    card = tmp_path / "card.md"
    card.write_text("# A\n<!-- measured -->\nold\n<!-- /measured -->\n## Known failures\n")
    write_card(card, "new")
    assert card.read_text() == (
        "# A\n<!-- measured -->\nnew\n<!-- /measured -->\n## Known failures\n"
    )
    card.write_text("# no place")
    with pytest.raises(ValueError, match="no lines"):
        write_card(card, "new")
