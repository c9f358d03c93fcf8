"""What the papers promise is there: verbs, targets, files; and they name no one machine."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click import Context

from node.cli import main
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
VERBS = {
    *("init", "check", "up", "listen", "work", "relay", "deliver"),
    *("watch", "studies", "jobs", "deliveries", "show", "why", "retry", "cancel", "logs"),
    *("send", "echo", "verify", "run", "pipelines", "models", "compare", "reanalyse"),
    *("retain", "reconcile", "release", "discard"),
    *("train", "evaluate", "audit", "export", "password"),
}


def test_the_command_has_the_verbs_it_promises() -> None:
    assert set(main.list_commands(Context(main))) == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb: str) -> None:
    command = main.get_command(Context(main), verb)
    assert command
    assert (command.help or "").strip().endswith(".")


def test_the_readme_names_only_verbs_that_exist() -> None:
    named = {verb for code in CODE for verb in re.findall(r"\bradnode ([a-z]+)\b", code)}
    assert named
    assert named <= VERBS


def test_the_readme_names_only_targets_that_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {target for code in CODE for target in re.findall(r"\bmake ([a-z]+)\b", code)}
    assert {"demo", "test"} <= named <= targets


def test_the_readme_points_at_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def tracked_files() -> list[Path]:
    finished = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        pytest.skip("this is not a git checkout")
    return [path for name in finished.stdout.split("\0") if (path := REPOSITORY / name).is_file()]


def test_the_repository_speaks_of_no_machine_and_no_package_index() -> None:
    """Paths of one machine and hosts of package indexes work in one place only."""
    # In pieces, so that this file may be searched too.
    forbidden = re.compile(
        rb"/wo"
        rb"rk/|/ro"
        rb"ot/|/ho"
        rb"me/\w|/opt/py"
        rb"pi|/opt/whe"
        rb"els"
        rb"|py"
        rb"pi\.org|pythonh"
        rb"osted|download\.py"
        rb"torch|deb\.deb"
        rb"ian\.org"
    )
    named = [
        f"{path.relative_to(REPOSITORY)}: {found.group().decode()}"
        for path in tracked_files()
        if (found := forbidden.search(path.read_bytes()))
    ]
    assert named == []
