"""Saliency of a job: asked for by a route, made for who takes maps, drawn on a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread

from node import inference_child, plan, route
from node.derive import as_asked, parameters_of
from node.domain import Role
from node.encode.draw.content import content
from node.publish_gate import verify
from node.settings import FolderDestination, Route, Settings
from node.store import plans
from pipelines import registry
from pipelines.codes import VOLUME
from pipelines.contract import ParametricMap, Result
from pipelines.explain.codes import SALIENCY
from pipelines.explain.explained import Explained
from tests.peers import bright_spot
from tests.peers.bright_spot import ct_series
from tests.sr_templates import made

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.node.command import Command

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    bright_spot.install(folder)
    monkeypatch.syspath_prepend(folder)
    registry._installed.cache_clear()


def asking(*objects: Role, explain: str | None = "occlusion") -> tuple[Settings, Route]:
    one = Route(run=(bright_spot.NAME,), send_to=("pacs",), explain=explain)
    pacs = FolderDestination(kind="folder", path="out", objects=objects)
    return Settings(routes=(one,), destinations={"pacs": pacs}), one


def test_a_job_is_explained_only_where_its_route_asks_and_a_destination_takes_maps() -> None:
    plain = route.pipeline(bright_spot.NAME)
    settings, one = asking(Role.SR, Role.MAP)
    wanted = as_asked(settings, plain, [one])
    assert isinstance(wanted, Explained)
    assert '"explain": "occlusion"' in parameters_of(wanted)
    for given in (asking(Role.SR, Role.SEG), asking(Role.MAP, explain=None)):
        assert as_asked(given[0], plain, [given[1]]) is plain


def test_a_way_to_explain_that_there_is_not_is_a_mistake_of_the_file() -> None:
    with pytest.raises(ValueError, match="occlusion"):
        Route(run=(bright_spot.NAME,), explain="tea leaves")


@once
def test_a_node_that_starts_again_does_not_take_an_explained_job_for_one_of_another_version(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def outdated(*given: Any) -> tuple[()]:
        seen.extend(given[-1])
        return ()

    monkeypatch.setattr(plans, "outdated", outdated)
    settings, one = asking(Role.MAP)
    plan.plan_again(settings, ledger)
    wanted = as_asked(settings, route.pipeline(bright_spot.NAME), [one])
    assert parameters_of(wanted) in seen
    assert parameters_of(route.pipeline(bright_spot.NAME)) in seen


def test_a_pipeline_tried_on_a_folder_shows_what_it_looked_at(radnode: Command) -> None:
    folder = radnode.folder / "study"
    folder.mkdir()
    for image in ct_series("cli run"):
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    said = radnode("run", bright_spot.NAME, folder, "--out", "out", "--explain", "occlusion")
    assert said.status == 0, said.err
    made_of = {path.stem: path for path in (radnode.folder / "out").iterdir()}
    assert set(made_of) == {"map", "sc", "seg", "sr"}
    assert "explain=occlusion" in said.out
    assert "Shown for bright spot" in said.out
    shown = dcmread(made_of["map"])
    mapping = shown.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert quantity.CodeValue == SALIENCY.value
    values = np.frombuffer(shown.FloatPixelData, "<f4")
    assert 0.1 < values.max() <= 1.0
    assert 0 < np.count_nonzero(values) < values.size / 4


def test_the_map_of_a_volume_is_laid_over_its_most_telling_slice() -> None:
    source = made.classic()
    values = np.zeros(source.study.shape, np.float32)
    values[1, :2] = 0.5
    one = ParametricMap("Saliency: x", SALIENCY, "1", values)
    views = content(source, Result(maps=(one,)), made.work()).views
    assert views[-1].caption == "Saliency: x, highest 0.5"
    assert views[-1].pixels.ndim == 3
    other = ParametricMap("Another", VOLUME, "1", values)
    plain = content(source, Result(maps=(other,)), made.work()).views
    assert all("highest" not in view.caption for view in plain)


def test_the_inference_process_explains_what_a_job_asks_for_and_the_gate_lets_it_pass(
    tmp_path: Path,
) -> None:
    files, headers = [], []
    for image in ct_series("explained job"):
        files.append(str(tmp_path / f"{image.InstanceNumber}.dcm"))
        image.save_as(files[-1], enforce_file_format=True)
        headers.append(dcmread(files[-1], stop_before_pixels=True))
    told: list[dict[str, Any]] = []
    answers = [
        inference_child._answer(
            {
                "job_id": "0" * 32,
                "pipeline": bright_spot.NAME,
                "explain": explain,
                "inputs": {"": files},
                "superseded": [],
                "rejected": [],
                "roles": ["map", "seg", "sr"],
                "analysed_at": 1_700_000_000.0,
                "folder": str(tmp_path / str(explain)),
                "scratch": str(tmp_path / "scratch"),
            },
            seat=None,
            tell=told.append,
        )
        for explain in ("occlusion", None)
    ]
    assert [set(one["files"]) for one in answers] == [{"map", "seg", "sr"}, {"seg", "sr"}]
    verify([dcmread(path) for path in answers[0]["files"].values()], headers)
