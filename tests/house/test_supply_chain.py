"""What is installed is what was tested, is written down, and is asked about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distributions
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.house import audit
from tests.peers import REPOSITORY, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASHED = ("requirements-build.lock", "requirements.lock", "requirements-models.lock")
RELEASE = r"[a-z0-9.-]+==[^ ;]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n"

PINNED = {
    name: version
    for lock in audit.LOCKS
    for name, version in audit.pinned(REPOSITORY / lock).items()
}
INSTALLED = {canonicalize_name(one.name): Version(one.version) for one in distributions()}


@pytest.mark.parametrize("lock", HASHED)
def test_a_lock_file_names_releases_with_their_hashes_and_no_place_to_get_them(lock: str) -> None:
    text = re.sub(r"^#.*\n", "", (REPOSITORY / lock).read_text(), flags=re.MULTILINE)
    assert re.fullmatch(f"({RELEASE})+", text)


def test_a_node_gets_what_the_tests_run_with() -> None:
    models = audit.pinned(REPOSITORY / "requirements-models.lock")
    assert models.items() <= PINNED.items()


def test_the_lock_files_satisfy_all_that_radnode_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, asked):
        pinned = PINNED[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement}: run 'make lock'"


def test_the_tests_run_with_what_the_lock_files_name() -> None:
    others = {name: one.public for name, one in INSTALLED.items() if name in PINNED}
    assert others == {name: PINNED[name] for name in others}


def test_the_bill_of_materials_holds_every_installed_distribution(tmp_path: Path) -> None:
    """As ``make sbom`` writes it; without its check of the format, which takes half a minute."""
    bill = tmp_path / "sbom.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--spec-version", "1.6"),
            *("--no-validate", "--pyproject", REPOSITORY / "pyproject.toml"),
            *("--output-file", bill, sys.executable),
        ],
        check=True,
        capture_output=True,
    )
    written = json.loads(bill.read_text())
    assert (written["bomFormat"], written["specVersion"]) == ("CycloneDX", "1.6")
    components = [written["metadata"]["component"], *written["components"]]
    named = {canonicalize_name(one["name"]): Version(one["version"]) for one in components}
    assert named == INSTALLED


class Database(BaseHTTPRequestHandler):
    """Answers as OSV does: it knows something against pydicom 3.0.1."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {
            "id": "CVE-2026-32711",
            "affected": [
                {
                    "package": question["package"],
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "3.0.2"}]}],
                }
            ],
        }
        bad = (question["package"]["name"], question["version"]) == ("pydicom", "3.0.1")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [known]} if bad else {}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def database() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", free_port()), Database) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"--osv-url=http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def test_the_audit_fails_on_a_release_with_a_known_vulnerability(capsys) -> None:
    with database() as there:
        assert audit.audit({"pydicom": "3.0.1", "numpy": "2.4.6"}, there) == 1
    told = capsys.readouterr().out
    assert "pydicom 3.0.1: CVE-2026-32711, mended in 3.0.2" in told
    assert "2 of 2 pinned releases audited, 1 vulnerabilities" in told


def test_the_audit_passes_releases_that_nothing_is_known_against(capsys) -> None:
    with database() as there:
        assert audit.audit({"pydicom": "3.0.2"}, there) == 0
    assert "1 of 1 pinned releases audited, 0 vulnerabilities" in capsys.readouterr().out


def test_the_audit_says_that_it_could_not_ask(capsys) -> None:
    assert audit.audit({"pydicom": "3.0.1"}, f"--osv-url=http://127.0.0.1:{free_port()}") == 0
    assert "NOT AUDITED: the vulnerability database does not answer" in capsys.readouterr().out


def soup() -> list[tuple[str, str, str]]:
    """Return the rows of the table in docs/security.md: name, release here, mended in."""
    text = (REPOSITORY / "docs" / "security.md").read_text()
    return re.findall(r"^\| ([a-z0-9-]+) \| ([0-9a-z.]+) \| ([0-9.]+|-) \|", text, re.MULTILINE)


def test_the_security_page_names_the_pinned_releases_and_none_that_is_vulnerable() -> None:
    assert len(soup()) > 8
    for name, release, mended in soup():
        assert release == PINNED[name]
        assert mended == "-" or Version(release) >= Version(mended)


@pytest.mark.parametrize("recipe", ["Makefile", "docker/Dockerfile", "docker/Dockerfile.gpu"])
def test_what_comes_from_an_index_is_checked_unless_it_is_torch(recipe: str) -> None:
    text = (REPOSITORY / recipe).read_text().replace("\\\n", " ")
    commands = re.findall(
        r"pip install ([^;&\n]*)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    )
    assert len(commands) == 4
    for command in commands:
        words = command.split()
        hashed = "--require-hashes" in words and words[-1].endswith(".lock")
        torch = "requirements-torch.lock" in words and {"torch", "torchvision"} & {words[-1]}
        ours = {"--no-deps", "--no-build-isolation"} <= set(words) and words[-1] == "."
        assert hashed or torch or ours, command


SERVICES = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 0
    assert service["pids_limit"] > 0
    assert service["user"].partition(":")[0] not in {"", "0", "root"}
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc"}


@pytest.mark.parametrize("recipe", ["Dockerfile", "Dockerfile.gpu"])
def test_an_image_runs_as_nobody_of_note(recipe: str) -> None:
    final = (REPOSITORY / "docker" / recipe).read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
