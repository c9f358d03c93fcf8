"""The command: every verb explains itself, answers people and programs, and fails in two lines."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click import Context
from rich.console import Console

from node import cli, watch
from node.dimse.identity import Users
from node.log import short
from node.settings import DimseDestination, Settings
from node.store import deliveries, jobs, workers
from tests.node.command import Command, scan
from tests.node.ledger_rows import claimed
from tests.node.results import states, waiting_result
from tests.peers import REPOSITORY, bright_spot, dcmtk, free_port
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger

VERBS = [
    *("init", "check", "up", "listen", "work", "relay", "deliver", "watch", "studies", "jobs"),
    *("deliveries", "show", "why", "retry", "cancel", "reanalyse", "send", "echo", "verify", "run"),
    *("retain", "reconcile", "release", "discard"),
    *("pipelines", "logs", "models", "compare", "train", "evaluate", "export", "audit"),
    "password",
]

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


# --- every verb ------------------------------------------------------------------------------


def test_the_verbs_are_those_that_people_were_promised() -> None:
    assert sorted(cli.main.list_commands(Context(cli.main))) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself_and_takes_a_configuration(radnode: Command, verb: str) -> None:
    said = radnode(verb, "--help")
    assert said.status == 0
    assert "Usage:" in said.out
    command = cli.main.get_command(Context(cli.main), verb)
    assert command
    if verb == "password":  # it looks into no configuration
        return
    assert "--config" in [option for one in command.params for option in one.opts]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["studies"], "There is no ledger"),
        (["jobs"], "There is no ledger"),
        (["why", "abcd"], "There is no ledger"),
        (["echo", "pacs"], "No destination is called 'pacs'"),
        (["run", "no-such", ".", "--out", "out"], "No pipeline is called 'no-such'"),
        (["run", bright_spot.NAME, "empty", "--out", "out"], "There is no DICOM file"),
        (["studies", "--config", "absent.toml"], "There is no configuration file"),
        (["studies", "--config", "wrong.toml"], "wrong.toml: dta: there is no such key"),
        (["up", "--config", "unroutable.toml"], "No pipeline is called 'no-such'"),
        (["init", "--config", "no/such/folder/radnode.toml"], "No such file or directory"),
        (["init", "--config", "wrong.toml"], "is there already"),
    ],
)
def test_what_goes_wrong_is_two_lines(radnode: Command, words: list[str], what: str) -> None:
    (radnode.folder / "empty").mkdir()
    (radnode.folder / "wrong.toml").write_text("dta = 1")
    (radnode.folder / "unroutable.toml").write_text('[[routes]]\nrun = ["no-such"]')
    assert what in radnode(*words).error
    assert not (radnode.folder / "radnode-data").exists()


def test_a_database_that_is_away_is_two_lines(radnode: Command) -> None:
    url = f"postgresql://user:hunter2@127.0.0.1:{free_port()}/name"
    radnode.configure(Settings(data=radnode.folder, database=url))
    said = radnode("studies")
    assert "The ledger does not answer" in said.error
    assert "hunter2" not in said.err


def test_a_database_without_a_schema_is_two_lines(radnode: Command) -> None:
    (radnode.folder / "ledger.sqlite").touch()
    radnode.configure(Settings(data=radnode.folder))
    assert "The ledger does not answer" in radnode("jobs").error


# --- before there is a node ------------------------------------------------------------------


def test_init_writes_a_file_that_check_reads(radnode: Command) -> None:
    assert radnode("init").status == 0
    said = radnode("check", "--json")
    findings = json.loads(said.out)
    assert {"ok": False, "what": "There are no routes."}.items() <= findings[-1].items()
    assert all(finding["ok"] for finding in findings[:-1])
    assert "1 of" in said.error


def test_check_is_readable(radnode: Command) -> None:
    assert "FAILED" in radnode("check").out


@once
def test_the_pipelines_are_listed_with_what_they_ask(radnode: Command, node: Settings) -> None:
    listed = {one["name"]: one for one in radnode("pipelines", "--json").json}
    found = listed[bright_spot.NAME]
    assert found["input"] == "Modality = CT, ImageType = ORIGINAL"
    assert found["routed"] == "yes"
    assert {"ecg-atrial-fibrillation", "brain-mr-volumetry"} <= set(listed)
    assert bright_spot.NAME in radnode("pipelines").out.replace("\n", "")


def test_a_pipeline_runs_on_a_folder_without_a_node(radnode: Command) -> None:
    folder = radnode.folder / "study"
    folder.mkdir()
    for image in ct_series("cli run"):
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("not DICOM")
    said = radnode("run", bright_spot.NAME, folder, "--out", "out")
    assert said.status == 0, said.err
    assert sorted(path.name for path in (radnode.folder / "out").iterdir()) == ["seg.dcm", "sr.dcm"]
    assert "Volume" in said.out
    assert not (radnode.folder / "radnode-data").exists()


def test_a_pipeline_refuses_a_folder_without_a_series_for_it(radnode: Command) -> None:
    (image,) = ct_series("cli run", 1, spot=False)
    image.Modality = "MR"
    image.save_as(radnode.folder / "mr.dcm", enforce_file_format=True)
    said = radnode("run", bright_spot.NAME, radnode.folder, "--out", "out")
    assert "None of the series in" in said.error
    assert "Modality = CT" in said.err


def test_send_and_echo_reach_a_pacs(radnode: Command) -> None:
    folder = radnode.folder / "study"
    folder.mkdir()
    for image in ct_series("cli send"):
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    with dcmtk.storescp(radnode.folder / "pacs") as pacs:
        peer = DimseDestination(kind="dimse", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        radnode.configure(Settings(data=radnode.folder / "data", destinations={"pacs": peer}))
        assert "answered in" in radnode("echo", "pacs").out
        assert "6 of 6" in radnode("send", folder, "pacs").out
    assert "pacs" in radnode("echo", "pacs").error.lower()
    assert "No answer from 'pacs'" in radnode("send", folder, "pacs").error


# --- asking the ledger -----------------------------------------------------------------------


def test_lists_are_for_people_and_for_programs(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    (study,) = radnode("studies", "--json").json
    assert (study["study"], study["instances"], study["series"]) == (short(study_uid), 6, 1)
    (job,) = radnode("jobs", "--json").json
    assert (job["state"], job["study"]) == ("scheduled", short(study_uid))
    assert radnode("jobs", "--json", "--state", "quarantined").json == []
    assert radnode("deliveries", "--json").json == []
    assert short(study_uid) in radnode("studies").out
    assert job["id"][:12] in radnode("jobs").out
    assert not any("token" in key for key in job)


@once
def test_a_limit_keeps_the_newest(radnode: Command, node: Settings, ledger: Ledger) -> None:
    for name in ("older", "newer"):
        waiting_result(node, ledger, ["out"], name=name)
    assert len(radnode("deliveries", "--json").json) == 4
    assert len(radnode("deliveries", "--json", "--limit", 1).json) == 1


def test_why_explains_each_routes_yes_and_no(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    said = radnode("why", short(study_uid)).out
    assert f"all ct -> {bright_spot.NAME}: yes" in said
    assert f"heads -> {bright_spot.NAME}: no" in said
    assert "FAILS  route wants Modality = MR; it is CT" in said
    assert "holds  route wants BodyPartExamined = HEAD* or BRAIN; it is HEAD" in said
    (series,) = radnode("why", study_uid, "--json").json
    assert [one["taken"] for one in series["decisions"]] == [True, False]


@once
def test_a_study_or_job_is_named_by_the_start_of_its_id(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    (job,) = radnode("jobs", "--json").json
    assert radnode("why", short(study_uid)[:4]).status == 0
    assert radnode("show", job["id"][:4]).status == 0
    assert "No study is called that" in radnode("why", short(study_uid)[:3]).error
    for text in ("ffff-no", "%%%%", "", job["id"][:3]):
        assert "No job is called that" in radnode("show", text).error


@once
def test_show_tells_the_history_of_a_job(radnode: Command, node: Settings, ledger: Ledger) -> None:
    scan(node, ledger)
    lease = claimed(ledger)
    with ledger.write() as db:
        jobs.quarantine(db, lease, what="It failed.", do="Look at it.")
    said = radnode("show", lease.job.id)
    for word in ("quarantined", "It failed.", "Look at it.", "job_scheduled", "job_started"):
        assert word in said.out
    shown = radnode("show", lease.job.id, "--json").json
    assert [one["kind"] for one in shown["events"]][-1] == "job_quarantined"
    assert shown["job"]["what"] == "It failed."
    assert lease.token not in json.dumps(shown)


# --- changing it -----------------------------------------------------------------------------


def test_a_job_is_canceled_and_retried(radnode: Command, node: Settings, ledger: Ledger) -> None:
    scan(node, ledger)
    (job,) = radnode("jobs", "--json").json

    def state() -> str:
        return str(radnode("jobs", "--json").json[0]["state"])

    assert "canceled" in radnode("cancel", job["id"][:8]).out
    assert state() == "canceled"
    assert "finished" in radnode("cancel", job["id"]).error
    assert "analysed again" in radnode("retry", job["id"][:8]).out
    assert state() == "scheduled"
    assert "neither quarantined" in radnode("retry", job["id"]).error


def test_refused_results_are_sent_again_and_unsent_ones_are_kept_back(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    result = waiting_result(node, ledger, ["out"], name="abcdef")
    with ledger.write() as db:
        for one in result:
            deliveries.mark_refused(
                db, one.sop_instance_uid, "out", what="No.", do="Ask.", status=None
            )
    assert "2 objects are sent again" in radnode("retry", "abcdef").out
    assert states(ledger) == ["pending", "pending"]
    assert "2 objects are not sent" in radnode("cancel", "abcdef").out
    assert states(ledger) == ["canceled", "canceled"]


# --- watching --------------------------------------------------------------------------------


@once
def test_the_overview_shows_what_needs_a_person(node: Settings, ledger: Ledger) -> None:
    scan(node, ledger)
    lease = claimed(ledger, "worker-here-1")
    with ledger.write() as db:
        workers.touch_worker(db, "worker-here-1", lease.job.id)
        jobs.quarantine(db, lease, what="It failed.", do="Look at it.")
    console = Console(width=160)
    with console.capture() as captured:
        console.print(watch.overview(ledger))
    shown = captured.get()
    for words in ("1 quarantined", "worker-here-1", lease.job.id[:12], "It failed."):
        assert words in shown


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for role, seconds in (("relay", (1, 4)), ("work-1", (2, 3))):
        times = [f"2026-01-01T00:00:0{s}Z" for s in seconds]
        lines = [json.dumps({"event": role, "timestamp": time}) for time in times]
        (folder / f"{role}.log").write_text("\n".join([*lines, ""]))
    return folder


def events(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


def test_logs_of_all_roles_come_in_the_order_of_time(radnode: Command, logged: Path) -> None:
    radnode.configure(Settings(data=logged.parent))
    assert events(radnode("logs").out.splitlines()) == ["relay", "work-1", "work-1", "relay"]
    assert events(radnode("logs", "--role", "work-1").out.splitlines()) == ["work-1", "work-1"]
    assert events(radnode("logs", "--lines", "1").out.splitlines()) == ["relay"]
    assert radnode("logs", "--lines", "0").out == ""


def test_only_whole_new_lines_are_followed_also_over_a_rotation(logged: Path) -> None:
    seen: dict[str, int] = {}
    assert len(watch.read_new_lines(logged, "*", seen)) == 4
    assert watch.read_new_lines(logged, "*", seen) == []
    line = json.dumps({"event": "new", "timestamp": "2026-01-01T00:00:09Z"})
    with (logged / "relay.log").open("a") as file:
        file.write(line[:10])
        file.flush()
        assert watch.read_new_lines(logged, "*", seen) == []
        file.write(line[10:] + "\n")
        file.flush()
        assert events(watch.read_new_lines(logged, "*", seen)) == ["new"]
    (logged / "relay.log").write_text(line + "\n")
    assert events(watch.read_new_lines(logged, "*", seen)) == ["new"]


@once
def test_the_installed_command_is_the_same_one(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    scan(node, ledger)
    command = [sys.executable, "-m", "node.cli", "studies", "--json", "--config"]
    assert radnode.config is not None
    finished = subprocess.run(
        [*command, radnode.config], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert len(json.loads(finished.stdout)) == 1


def test_a_passcode_is_printed_as_what_the_configuration_holds(radnode: Command) -> None:
    said = radnode("password", "--passcode", "correct horse")
    assert said.status == 0
    assert Users({"ct1": said.out.strip()})._knows("ct1", b"correct horse")
