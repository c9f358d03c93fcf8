"""A pipeline that also says what it looked at."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.contract import Chart, Curve, ParametricMap, Waveform
from pipelines.explain.codes import SALIENCY
from pipelines.explain.occlusion import MOST_RUNS, Importance, occlusion
from pipelines.explain.question import question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.contract import AnyPipeline, Result, Study
    from pipelines.explain.question import Question

Method = Literal["occlusion", "gradient"]
METHODS: tuple[str, ...] = get_args(Method)
PARAMETER = "explain"
"""Of the pipeline: another explanation is another result."""
MOST_CHARTS = 4
"""Of a result."""
_MOST_POINTS = 2000


@runtime_checkable
class ExplainsItself(Protocol):
    """A pipeline that knows better than hiding patches what its answer rests on."""

    def explanation(self, study: Study, result: Result, /) -> Chart | None:
        """Return it as a chart; None where there is nothing to explain."""


@runtime_checkable
class HasGradients(Protocol):
    """A pipeline of a network that is asked for gradients, for the method ``gradient``."""

    def attribution(
        self, study: Study, result: Result, about: Question, /
    ) -> npt.NDArray[np.float32] | None:
        """Return what each voxel adds to the answer, shape of the study; None: no gradients."""


@dataclass(frozen=True)
class Explained:
    """A pipeline like the one it wraps, with saliency in each result that says something is there.

    Attributes:
        pipeline: What judges.
        method: ``gradient`` becomes ``occlusion`` for a pipeline that has none.
    """

    pipeline: AnyPipeline
    method: str

    def __getattr__(self, name: str) -> Any:
        """Return what the pipeline says of itself; whether it has ``inputs``, for one."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    @property
    def parameters(self) -> Mapping[str, str]:
        """Those of the pipeline, and how it is explained."""
        return {**self.pipeline.parameters, PARAMETER: self.method}

    @property
    def deadline_s(self) -> float:
        """That of the pipeline for each time that it is asked."""
        return self.pipeline.deadline_s * (2 + MOST_RUNS)

    def run(self, *study: Study, **series: Study) -> Result:
        """Judge, then explain.

        Raises:
            CouldNotLook: The input is not one the pipeline can judge.
        """
        studies = {"": study[0]} if study else series
        result = self._look(studies)
        try:
            return self._with_explanation(studies, result)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            # Images with a hole are such as no scanner makes. What fails on them does not
            # take back what was said of the whole ones.
            return _noted(result, "What the answer rests on could not be shown: that failed.")

    def _look(self, studies: Mapping[str, Study]) -> Result:
        run = cast("Any", self.pipeline).run
        result: Result = run(studies[""]) if "" in studies else run(**studies)
        return result

    def _with_explanation(self, studies: Mapping[str, Study], result: Result) -> Result:
        first = next(iter(studies.values()))
        if isinstance(self.pipeline, ExplainsItself):
            chart = self.pipeline.explanation(first, result)
            if chart is None:
                return result
            return _charted(_noted(result, f"Drawn as a chart: {chart.title}."), chart)
        about = question(result)
        if about is None:
            return result
        if self.method == "gradient" and isinstance(self.pipeline, HasGradients):
            values = self.pipeline.attribution(first, result, about)
            if values is not None:
                note = f"Shown for {about.about}: what each place adds, by integrated gradients."
                return _mapped(_noted(result, note), about, values)
        found = occlusion(self._look, studies, about.score)
        result = _noted(result, _told(about, found))
        if isinstance(first, Waveform):
            return _charted(result, _chart(first, about, found))
        return _mapped(result, about, found.values[0])


def explained(pipeline: AnyPipeline, method: str | None) -> AnyPipeline:
    """Return a pipeline that also says what it looked at; with no method, the pipeline itself."""
    return pipeline if method is None else cast("AnyPipeline", Explained(pipeline, method))


def method_in(parameters: str) -> str | None:
    """Return how a job with these parameters, as JSON, is explained; None: it is not."""
    stated: str | None = json.loads(parameters).get(PARAMETER)
    return stated if stated in METHODS else None


def _told(about: Question, found: Importance) -> str:
    what = "probability" if about.finding is not None else "outlined volume"
    note = (
        f"Shown for {about.about}: how much of the {what} is lost where one of {found.runs} parts "
        "of the input is hidden. It shows on what the answer depends, not why."
    )
    if found.not_judged:
        note += f" {found.not_judged} of the parts could not be judged, and show as nothing."
    return note


def _mapped(result: Result, about: Question, values: npt.NDArray[np.float32]) -> Result:
    label = f"Saliency: {about.about}"[:64].rstrip()
    values = np.ascontiguousarray(values, np.float32)
    return replace(result, maps=(*result.maps, ParametricMap(label, SALIENCY, "1", values)))


def _chart(study: Waveform, about: Question, found: Importance) -> Chart:
    """Return what each moment adds, of the longest group that was recorded."""
    longest = max(
        range(len(study.groups)),
        key=lambda at: study.groups[at].duration_s if study.groups[at].original else -1.0,
    )
    values = found.values[longest].astype(np.float64)
    every = -(-values.size // _MOST_POINTS)
    times_s = np.arange(values.size) / study.groups[longest].sampling_hz
    return Chart(
        title=f"Saliency: {about.about}"[:64].rstrip(),
        x_title="time, s",
        y_title="part that is lost when hidden",
        curves=(Curve("importance", times_s[::every], values[::every]),),
    )


def _charted(result: Result, chart: Chart) -> Result:
    charts = (*result.charts, chart)
    return replace(result, charts=charts) if len(charts) <= MOST_CHARTS else result


def _noted(result: Result, note: str) -> Result:
    return replace(result, notes=(*result.notes, note))
