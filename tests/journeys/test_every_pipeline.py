"""Every pipeline on every study there is: a result where it can judge, else a report that says why.

A router that let the study through is taken for granted, so that each pipeline must see for itself
what it was not made for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest
from pydicom import Dataset, dcmread

import node.load.inputs
from node import __version__
from node.analyse import analyse
from node.domain import Outcome
from node.encode.work import Work
from node.publish_gate import verify
from node.route import conditions, read_attributes
from pipelines import models, registry
from pipelines.contract import CouldNotLook
from sr_templates.text import as_text
from tests.every_object import BROKEN, KEPT
from tests.peers.real_studies import GLIOMA, HEAD, STUDIES, Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from node.load.source import Source
    from pipelines.contract import AnyPipeline

BREAKS_THE_STANDARD = {
    *(HEAD, "head MR without a slice", "head MR, derived"),  # an age of two digits
    "head CT, tilted and uneven",  # de-identified by no method
    *("echo, still", "chest CR, small"),  # dates with dots, as ACR-NEMA wrote them
}
"""Studies in whose results the validators find what is wrong with the images."""
ECG = {"ECG, two leads", "ECG, twelve leads"}
SMALL_CT = {"abdomen CT, small", "head CT, mean of many"}
SMALL_MR = {"abdomen MR", "breast MR"}
LARGE_CT = {"chest CT", "abdomen CT", "abdomen CT, part"}
LARGE_MR = {"glioma MR", "glioma MR, t1", "glioma MR, t2", "glioma MR, flair"}
TOO_LONG = {
    "ct-denoise": LARGE_CT,
    "ct-denoise-vae": LARGE_CT,
    "mr-denoise": LARGE_MR,
    "mr-denoise-vae": LARGE_MR,
}
"""Pipeline -> the studies it would judge, too, but for over ten seconds."""
RESULT = {
    "brain-mr-volumetry": {"head MR, T1"},
    "ecg-atrial-fibrillation": ECG,
    "ecg-atrial-fibrillation-cnn": ECG,
    "ecg-atrial-fibrillation-lstm": ECG,
    "lung-ct-quantification": {"chest CT"},
    "lung-nodule-ct-simulated": {"chest CT"},
    "ct-denoise": SMALL_CT,
    "ct-denoise-vae": SMALL_CT,
    "mr-denoise": SMALL_MR,
    "mr-denoise-vae": SMALL_MR,
}
"""Pipeline -> the studies that it can judge with what is shipped."""

NO_MODEL = {
    "brain-mr-tumour": {"glioma MR"},
    "echo-lv": {"echo, clip"},
    "head-ct-haemorrhage": {"head CT, mean of many"},
    "lung-nodule-ct": {"chest CT"},
    "xray-fracture": {"chest CR", "chest CR, small"},
}
"""Pipeline that needs a model of the site or the catalogue -> the studies it would look at."""

MODALITIES = {
    "brain-mr-tumour": {"MR"},
    "brain-mr-volumetry": {"MR"},
    "ct-denoise": {"CT"},
    "ct-denoise-vae": {"CT"},
    "echo-lv": {"US"},
    "ecg-atrial-fibrillation": {"ECG"},
    "ecg-atrial-fibrillation-cnn": {"ECG"},
    "ecg-atrial-fibrillation-lstm": {"ECG"},
    "head-ct-haemorrhage": {"CT"},
    "lung-ct-quantification": {"CT"},
    "lung-nodule-ct": {"CT"},
    "lung-nodule-ct-simulated": {"CT"},
    "mr-denoise": {"MR"},
    "mr-denoise-vae": {"MR"},
    "xray-fracture": {"CR", "DX"},
}
NAMES = registry.names()


class Analysed(NamedTuple):
    """What came of one study."""

    outcome: Outcome
    text: str
    made: list[Dataset]
    first: list[Dataset]
    beside: list[Dataset]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module", autouse=True)
def nothing_added() -> Iterator[None]:
    """A node to which no model was added."""
    models.use(None)
    yield
    models.use(None)


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> Iterator[None]:
    """Every study is read once, and no pipeline may write on what others see, too."""
    load = node.load.inputs.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node.load.inputs, "load", _remembering(load))
        yield


def _remembering(load: Callable[[Sequence[Path]], Source]) -> Callable[[Sequence[Path]], Source]:
    known: dict[tuple[Path, ...], Source | CouldNotLook] = {}

    def remembered(paths: Sequence[Path]) -> Source:
        key = tuple(paths)
        if key not in known:
            try:
                known[key] = load(paths)
            except CouldNotLook as refusal:
                known[key] = refusal
        answer = known[key]
        if isinstance(answer, CouldNotLook):
            raise CouldNotLook(answer.reason)
        return answer

    return remembered


@pytest.fixture(scope="module")
def pipelines() -> dict[str, AnyPipeline]:
    """Each pipeline as a fresh process has it."""
    fresh = {name: type(registry.get(name))() for name in NAMES}
    for pipeline in fresh.values():
        pipeline.warm_up()
    return fresh


@pytest.fixture(scope="module")
def analysed(
    request: pytest.FixtureRequest,
    workshop: Workshop,
    pipelines: dict[str, AnyPipeline],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Analysed]:
    def judge(name: str, study: str) -> Analysed:
        pipeline, series = pipelines[name], workshop.series(study)
        one = next(iter(series.values()))
        inputs = {input_: series.get(input_, one) for input_ in registry.inputs_of(pipeline)}
        folder = tmp_path_factory.mktemp("made")
        work = _work(pipeline, study)
        if study in BREAKS_THE_STANDARD:
            with request.config.stash[KEPT].paused():
                analysis = analyse(pipeline, inputs, work, folder / BROKEN)
        else:
            analysis = analyse(pipeline, inputs, work, folder)
        made: list[Dataset] = [dcmread(path) for path in analysis.files.values()]
        first, *others = (_headers(paths) for paths in inputs.values())
        known = {header.SOPInstanceUID for header in first}
        beside = [header for paths in others for header in paths]
        beside = [header for header in beside if header.SOPInstanceUID not in known]
        text = as_text(dcmread(analysis.files["sr"]))
        return Analysed(analysis.outcome, text, made, first, beside)

    return judge


def _headers(paths: Sequence[Path]) -> list[Dataset]:
    return [dcmread(path, stop_before_pixels=True) for path in paths]


def _work(pipeline: AnyPipeline, study: str) -> Work:
    identity = f"every pipeline, {pipeline.name}, {study}"
    return Work(
        job_id=identity,
        uid_parts=(identity,),
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        title=pipeline.title,
        report=pipeline.report,
        model=pipeline.model,
        parameters=pipeline.parameters,
        analysed_at=datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC),
        software_version=__version__,
    )


@pytest.mark.parametrize(
    ("name", "study"),
    [(name, study) for name in NAMES for study in STUDIES if study not in TOO_LONG.get(name, ())],
)
def test_a_pipeline_judges_what_it_was_made_for_and_says_why_it_could_not_look_at_the_rest(
    analysed, name, study
):
    answer = analysed(name, study)
    print(answer.outcome, answer.text)
    verify(answer.made, answer.first, beside=answer.beside)
    if study in RESULT.get(name, ()):
        assert answer.outcome is not Outcome.COULD_NOT_LOOK
        return
    assert answer.outcome is Outcome.COULD_NOT_LOOK
    assert len(answer.made) == 1
    assert re.search(r"[A-Z][^.]{20,}\.", answer.text)
    if study in NO_MODEL.get(name, ()):
        assert re.search("this node", answer.text)


def test_every_pipeline_was_thought_of():
    assert set(NAMES) <= set(MODALITIES)
    assert set(NAMES) <= {*RESULT, *NO_MODEL}


@pytest.mark.parametrize("name", NAMES)
def test_the_patterns_of_a_pipeline_take_its_own_studies_and_keep_other_modalities_away(
    workshop, name
):
    taken: defaultdict[str, set[str]] = defaultdict(set)
    for study in STUDIES:
        for of_study in workshop.series(study).values():
            for patterns in registry.inputs_of(registry.get(name)).values():
                seen = read_attributes(of_study, {*patterns, "Modality", "ImageType"})
                if all(condition.holds for condition in conditions(patterns, seen)):
                    taken[study].update(seen.get("Modality", ()))
                    assert "LOCALIZER" not in seen.get("ImageType", ())
    assert set().union(*taken.values()) <= MODALITIES[name]
    assert {*RESULT.get(name, ()), *NO_MODEL.get(name, ())} <= set(taken)


@pytest.mark.skipif("brain-mr-tumour" not in NAMES, reason="The pipeline is not installed.")
def test_each_series_of_a_glioma_is_taken_as_what_it_is(workshop):
    series = workshop.series("glioma MR")
    inputs = registry.inputs_of(registry.get("brain-mr-tumour"))
    for one in GLIOMA:
        seen = read_attributes(series[one], {word for each in inputs.values() for word in each})
        taken = [
            input_
            for input_, patterns in inputs.items()
            if all(condition.holds for condition in conditions(patterns, seen))
        ]
        assert taken == [one]
