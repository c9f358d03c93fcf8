"""The command: which objects a destination takes, which a pipeline makes, and asking once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node import plan, route
from node.domain import Role
from node.profiles import SOP_CLASSES
from node.settings import DimseDestination, Settings
from tests.node.command import scan
from tests.node.results import happened
from tests.peers import bright_spot, free_port
from tests.peers.bright_spot import ct_series
from tests.peers.pacs import Script, pacs

if TYPE_CHECKING:
    from node.store.ledger import Ledger
    from tests.node.command import Command

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def sending_to(radnode: Command, port: int, **fields: object) -> None:
    peer = DimseDestination(kind="dimse", ae_title="PACS", host="127.0.0.1", port=port, **fields)
    radnode.configure(Settings(data=radnode.folder / "data", destinations={"pacs": peer}))


def test_verify_tells_what_a_pacs_takes_and_proposes_a_profile(radnode: Command) -> None:
    with pacs(radnode.folder / "pacs") as archive:
        sending_to(radnode, archive.port)
        said = radnode("verify", "pacs")
        answer = radnode("verify", "pacs", "--json").json
        assert archive.files() == ()
    assert "Storage commitment: yes." in said.out
    assert 'Proposed for [destinations.pacs]: profile = "ohif"' in said.out
    taken = {row["object"]: row["taken"] for row in answer["objects"]}
    assert taken["seg"]
    assert taken["sr"]
    assert taken["pdf"]
    assert answer["profiles"][0] == "ohif"
    assert {row["object"] for row in answer["objects"] if row["sent"]} == {"seg", "sr"}


def test_verify_proposes_a_list_where_no_profile_fits(radnode: Command) -> None:
    script = Script(sop_classes=(SOP_CLASSES[Role.SC],), commits=False)
    with pacs(radnode.folder / "pacs", script=script) as archive:
        sending_to(radnode, archive.port)
        said = radnode("verify", "pacs")
    assert "Profiles that fit: none." in said.out
    assert 'objects = ["sc"]' in said.out
    assert "commit = false" in said.out


def test_verify_of_a_pacs_that_is_away_is_two_lines(radnode: Command) -> None:
    sending_to(radnode, free_port(), timeout_s=2.0)
    assert "No answer from 'pacs'" in radnode("verify", "pacs").error


def test_a_pipeline_makes_the_objects_of_a_profile(radnode: Command) -> None:
    folder = radnode.folder / "study"
    folder.mkdir()
    for image in ct_series("cli run"):
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    said = radnode("run", bright_spot.NAME, folder, "--out", "out", "--profile", "weasis")
    assert said.status == 0, said.err
    made = {path.stem for path in (radnode.folder / "out").iterdir()}
    assert made == {"seg", "sr", "gsps", "ko"}


@once
def test_a_study_is_judged_again_by_a_new_model_only(
    radnode: Command, node: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = scan(node, ledger)
    (first,) = radnode("jobs", "--json").json
    assert "1 series are routed again" in radnode("reanalyse", study_uid).out
    assert happened(ledger, "reanalysed")
    assert plan.run_once(node, ledger) == 0  # the same model has its job already
    monkeypatch.setattr(route.pipeline(bright_spot.NAME), "version", "2.0.0")
    radnode("reanalyse", study_uid)
    assert plan.run_once(node, ledger) == 1
    second, _ = radnode("jobs", "--json").json
    assert second["id"] != first["id"]
