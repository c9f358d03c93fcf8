"""radnode evaluate: figures that are known beforehand, from DICOM files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from node.analyse import analyse
from node.cli.evaluate import evaluate as verb
from node.domain import Role
from node.errors import UsageError
from node.evaluate.studies import evaluate, find_cases
from node.evaluate.truth import read_table
from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Measurement,
    Model,
    Presence,
    Result,
    Segment,
)
from tests.peers.bright_spot import ct_series
from tests.sr_templates import made

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (("study,concept", "a,b"), "columns"),
        (("study,concept,value,diagnosis", "a,b,yes,c"), "columns"),
        (("study,concept,value", "a,b,maybe"), "Line 2"),
        (("study,concept,value", "a,b,nan"), "Line 2"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_with_its_line(tmp_path, lines, what):
    with pytest.raises(UsageError, match=what):
        read_table(written(tmp_path, *lines))


def test_a_table_tells_yes_no_and_numbers(tmp_path):
    table = read_table(
        written(tmp_path, "study,concept,of,value", "a,Nodule,,Yes", "a,Volume,Brain,12.5")
    )
    assert [one.value for one in table["a"]] == [True, 12.5]
    assert table["a"][1].of == "Brain"


class Threshold:
    """Calls a brain what is brighter than a threshold, a little too generously if asked."""

    name, version, title = "threshold-ct", "1.0.0", "Threshold"
    input: ClassVar = {"Modality": "CT", "ImageType": "ORIGINAL"}
    report = "measurement_report"
    model = Model("threshold", "1", "radnode tests", "0" * 64, "nothing: a fixed threshold")
    parameters: ClassVar[dict[str, str]] = {}
    deadline_s = 60.0

    def __init__(self, *, grown: int = 0) -> None:
        self._grown = grown

    def warm_up(self) -> None:
        """There is nothing to load."""

    def run(self, ct):
        if ct.voxels.max() > 2000.0:
            raise CouldNotLook("Metal is in the images.")
        mask = ct.voxels > 300.0
        for _ in range(self._grown):
            mask |= np.roll(mask, 1, axis=2)
        if not mask.any():
            return Result((Finding(BRAIN, Presence.ABSENT, confidence=0.9),))
        volume = Measurement(VOLUME, float(mask.sum()) * ct.grid.voxel_volume_ml, "mL")
        finding = Finding(BRAIN, confidence=0.8, segment="spot", measurements=(volume,))
        return Result((finding,), (Segment("spot", ANATOMICAL_STRUCTURE, BRAIN, mask),))


SPOT_ML = 2 * 10 * 10 * 2.0 * 1.0 * 1.0 / 1000.0


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Four patients: two with a spot outlined by a person, one without, one with metal."""
    folder = tmp_path_factory.mktemp("known")
    lines = ["study,concept,of,value"]
    for name, spot in (("a", True), ("b", True), ("c", False), ("metal", True)):
        images = ct_series(f"evaluate {name}", spot=spot)
        paths = []
        for image in images:
            if name == "metal":
                image.PixelData = np.full((32, 32), 3000, np.int16).tobytes()
            paths.append(folder / name / f"{image.InstanceNumber}.dcm")
            paths[-1].parent.mkdir(exist_ok=True)
            image.save_as(paths[-1], enforce_file_format=True)
        lines.append(f"{name},Brain,,{'yes' if spot else 'no'}")
        if spot and name != "metal":
            lines.append(f"{name},Volume,Brain,{SPOT_ML if name == 'a' else 1.1 * SPOT_ML}")
            work = replace(
                made.work(), roles=frozenset({Role.SR, Role.SEG}), report=Threshold.report
            )
            files = analyse(Threshold(), {"": paths}, work, folder / name / "made").files
            files["sr"].unlink()
    return written(folder, *lines)


def table(evaluation, title):
    (found,) = [one for one in evaluation.tables if one.title == title]
    return {(row[0], row[1]): row[2:] for row in found.rows}


def test_figures_are_those_that_the_files_were_made_for(known):
    evaluation = evaluate(Threshold(), known)
    there = table(evaluation, "Is it there?")
    assert there["Brain", "sensitivity"][0].startswith("0.667")  # metal: no answer is a miss
    assert there["Brain", "specificity"][0].startswith("1.000")
    assert there["Brain", "area below the ROC curve"][0].startswith("1.000")
    where = table(evaluation, "Where is it?")
    assert where["Brain", "Dice"] == ("1.000 (1.000 to 1.000)", "2", "2")
    much = table(evaluation, "How much is it?")
    bias = next(row for (_, figure), row in much.items() if figure.startswith("bias"))
    assert float(bias[0].split()[0]) == pytest.approx(-0.05 * SPOT_ML, abs=1e-3)
    assert ("Metal is in the images.", "1") in [
        row for one in evaluation.tables if one.title == "Could not look" for row in one.rows
    ]
    assert "4 patients" in evaluation.data


def test_a_generous_outline_has_the_overlap_that_geometry_says(known):
    where = table(evaluate(Threshold(grown=5), known), "Where is it?")
    assert float(where["Brain", "Dice"][0].split()[0]) == pytest.approx(
        2 * 10 / (10 + 15), abs=1e-3
    )


def test_every_lesion_that_is_outlined_is_one_to_be_found(known):
    found = table(evaluate(Threshold(), known), "How many of them?")
    assert found["Brain", "lesions found at 1 false alarms a study"][0].startswith("1.000")


def test_patients_are_told_apart_and_not_named(known):
    cases = find_cases(Threshold(), known)
    assert len({case.patient for case in cases}) == 4
    assert not any("evaluate" in case.patient for case in cases)


def test_nothing_known_is_said_so(tmp_path):
    with pytest.raises(UsageError, match="both for threshold-ct and known"):
        evaluate(Threshold(), tmp_path)


def test_the_verb_leaves_a_page_and_the_block_of_a_card(known, tmp_path, monkeypatch):
    monkeypatch.setattr("node.route.pipeline", lambda _: Threshold())
    card = tmp_path / "card.md"
    card.write_text("# Threshold\n<!-- measured -->\n<!-- /measured -->\n")
    arguments = ["threshold-ct", "--data", str(known), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(verb, [*arguments, "--card", str(card)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "data:image/png" in (tmp_path / "out" / "evaluation.html").read_text()
    assert "| Brain | sensitivity | 0.667" in card.read_text()
