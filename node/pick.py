"""Pick: which series among the files of a folder a pipeline gets, as a node would choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import dcmread

from node import choose, route
from node.load.kinds import is_judged_alone
from pipelines import registry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipelines.contract import AnyPipeline

Inputs = dict[str, list["Path"]]
"""Name of an input -> files of its series; "" where a pipeline has one."""


def fitting_inputs(pipeline: AnyPipeline, paths: Iterable[Path]) -> list[Inputs]:
    """Return the inputs for each run: one a series, or one a study if it needs several series.

    Of a study that lacks an input, those that are there.

    Args:
        pipeline: What they are for.
        paths: DICOM files, in any order.
    """
    several = registry.is_study_pipeline(pipeline)
    together: dict[str, list[Path]] = {}
    study_of: dict[str, str] = {}
    for path in paths:
        study, series, unit = _place_of(path)
        key = series if several else unit
        together.setdefault(key, []).append(path)
        study_of[key] = study
    asked = registry.inputs_of(pipeline)
    fitting: dict[str, dict[str, list[choose.Candidate]]] = {}
    for key, files in sorted(together.items()):
        for name, patterns in asked.items():
            attributes = route.read_attributes(files, choose.LOOKED_AT.union(patterns))
            if all(condition.holds for condition in route.conditions(patterns, attributes)):
                group = study_of[key] if several else key
                one = choose.candidate(key, len(files), attributes)
                fitting.setdefault(group, {}).setdefault(name, []).append(one)
    return [
        {name: together[one.series_uid] for name, one in chosen.items()}
        for of in fitting.values()
        if (chosen := choose.choose({name: of.get(name, []) for name in asked}))
    ]


def _place_of(path: Path) -> tuple[str, str, str]:
    """Return the UIDs of a file's study, its series, and what it is judged together with.

    That is its series, or it alone.
    """
    keywords = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
    study, series = str(header.get("StudyInstanceUID", "")), str(header.SeriesInstanceUID)
    alone = is_judged_alone(str(header.SOPClassUID))
    return study, series, str(header.SOPInstanceUID) if alone else series
