"""From judged studies to an evaluation: tables, curves, what could not be looked at."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, TypeVar

from pipelines.evaluation.agreement import Measured, agreement
from pipelines.evaluation.classification import (
    Answer,
    calibration,
    roc,
    sensitivity,
    specificity,
)
from pipelines.evaluation.detection import RATES, Marked, froc
from pipelines.evaluation.estimate import Estimate, mean_by_patient
from pipelines.evaluation.report import (
    Evaluation,
    Figure,
    Table,
    agreement_figure,
    calibration_figure,
    froc_figure,
    roc_figure,
    spread_figure,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from node.evaluate.judge import Judged, Overlap

_T = TypeVar("_T")
_HEAD = ("what", "figure", "value and 95 % interval over patients", "n", "patients")


def summarise(
    title: str, data: str, judged: Sequence[Judged], refusals: Sequence[str]
) -> Evaluation:
    """Return what the studies say of the pipeline together.

    Args:
        title: Which pipeline, version and model.
        data: What it was measured on.
        judged: Each study.
        refusals: Why a study could not be looked at, for each that could not.
    """
    tables: list[Table] = []
    figures: list[Figure] = []
    for table, drawn in (
        _answers(_gathered(one.answers for one in judged)),
        _overlaps(_gathered(one.overlaps for one in judged)),
        _marked(_gathered(one.marked for one in judged)),
        _measured(_gathered(one.measured for one in judged)),
    ):
        if table.rows:
            tables.append(table)
            figures += drawn
    if refusals:
        counted = Counter(refusals).most_common()
        rows = tuple((reason, str(count)) for reason, count in counted)
        tables.append(Table("Could not look", ("because", "studies"), rows))
    notes = () if judged else ("No study has both a result and a truth.",)
    return Evaluation(title, data, tuple(tables), tuple(figures), notes)


def _gathered(each: Iterable[Mapping[str, _T]]) -> dict[str, list[_T]]:
    found: defaultdict[str, list[_T]] = defaultdict(list)
    for one in each:
        for name, value in one.items():
            found[name].append(value)
    return dict(sorted(found.items()))


def _row(what: str, figure: str, estimate: Estimate) -> tuple[str, ...]:
    return (what, figure, str(estimate), str(estimate.n), str(estimate.patients))


def _answers(by_name: Mapping[str, list[Answer]]) -> tuple[Table, list[Figure]]:
    rows, figures = [], []
    for name, answers in by_name.items():
        rows.append(_row(name, "sensitivity", sensitivity(answers)))
        rows.append(_row(name, "specificity", specificity(answers)))
        told = [one for one in answers if one.probability is not None]
        if len({one.truth for one in told}) == 2:
            curve, honest = roc(told), calibration(told)
            rows.append(_row(name, "area below the ROC curve", curve.area))
            rows.append(_row(name, "Brier score", honest.brier))
            rows.append(_row(name, "calibration error", honest.error))
            figures += [roc_figure(name, curve), calibration_figure(name, honest)]
    return Table("Is it there?", _HEAD, tuple(rows)), figures


def _overlaps(by_name: Mapping[str, list[Overlap]]) -> tuple[Table, list[Figure]]:
    rows, figures = [], []
    for name, overlaps in by_name.items():
        patients = [one.patient for one in overlaps]
        for figure, values in (
            ("Dice", [one.dice for one in overlaps]),
            ("surface distance, mm", [one.surface_mm for one in overlaps]),
            ("95th percentile of it, mm", [one.percentile_95_mm for one in overlaps]),
        ):
            if not all(map(math.isnan, values)):
                rows.append(_row(name, figure, mean_by_patient(patients, values)))
        figures.append(spread_figure(f"{name}: Dice", "Dice", [one.dice for one in overlaps]))
    return Table("Where is it?", _HEAD, tuple(rows)), figures


def _marked(by_name: Mapping[str, list[Marked]]) -> tuple[Table, list[Figure]]:
    rows, figures = [], []
    for name, studies in by_name.items():
        lesions = sum(one.lesions for one in studies)
        if not lesions:
            continue
        curve = froc(studies)
        for rate, estimate in zip(RATES, curve.at_rates, strict=True):
            rows.append(_row(name, f"lesions found at {rate:g} false alarms a study", estimate))
        rows.append(_row(f"{name} ({lesions} lesions)", "mean of these", curve.score))
        figures.append(froc_figure(name, curve))
    return Table("How many of them?", _HEAD, tuple(rows)), figures


def _measured(by_name: Mapping[str, list[Measured]]) -> tuple[Table, list[Figure]]:
    rows, figures = [], []
    for name, pairs in by_name.items():
        found = agreement(pairs)
        for figure, estimate in (
            ("bias (said minus truth)", found.bias),
            ("lower limit of agreement", found.lower_limit),
            ("upper limit of agreement", found.upper_limit),
            ("mean absolute error", found.error),
        ):
            rows.append(_row(name, figure, estimate))
        figures.append(agreement_figure(name, name.rpartition(", ")[2], pairs))
    return Table("How much is it?", _HEAD, tuple(rows)), figures
