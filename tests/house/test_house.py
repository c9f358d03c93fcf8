"""The code keeps the house rules: layers, module sizes, process edges."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers import REPOSITORY

ROOMS = ("node", "pipelines", "sr_templates")
LONGEST_MODULE = 400
LONGEST_MEDIAN = 150

GENERATED = {
    "sr_templates/code_table.py",  # the code table: a line per code
    "node/deidentify/table.py",  # PS3.15 table E.1-1: a line per attribute
}

EDGES = {
    "node/cli/__init__.py",  # the command: two lines instead of a traceback
    "node/dimse/acceptor.py",  # a thread that serves one peer; the others go on
    "node/dimse/receive.py",  # a C-STORE handler must answer with a status, whatever happened
    "node/group_commit.py",  # hands what is raised to every thread that waits for it
    "node/inference_child.py",  # a model may raise anything; the worker decides what it means
    "node/relay.py",  # a loop that one bad study must not end
    "node/plan.py",  # ditto, one bad series
    "node/worker.py",  # ditto, one bad job
    "node/deliver.py",  # ditto, one bad destination
    "node/commit.py",
}
"""Where a process ends and anything may arrive: only here is ``except Exception`` allowed."""

OURS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for room in ROOMS
    for path in (REPOSITORY / room).rglob("*.py")
)
WRITTEN_BY_HAND = [
    path for path in OURS if path not in GENERATED and "/migrations/versions/" not in path
]


def lines_of(path: str) -> int:
    return len((REPOSITORY / path).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", WRITTEN_BY_HAND)
def test_a_module_is_short_enough_to_read_at_once(path: str) -> None:
    assert lines_of(path) <= LONGEST_MODULE, "make it two modules"


def test_most_modules_are_short() -> None:
    lengths = sorted(n for path in WRITTEN_BY_HAND if (n := lines_of(path)))
    assert lengths[len(lengths) // 2] <= LONGEST_MEDIAN


def catches_everything(node: ast.ExceptHandler) -> bool:
    """Whether it catches ``Exception`` or more, and does not simply raise it again."""
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    broad = any(
        one is None or (isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"})
        for one in caught
    )
    last = node.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def test_only_the_edges_of_a_process_catch_everything() -> None:
    broad = [
        f"{path}:{node.lineno}"
        for path in OURS
        if path not in EDGES
        for node in ast.walk(ast.parse((REPOSITORY / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    ]
    assert broad == []


def test_imports_keep_to_their_layers() -> None:
    finished = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout


def test_the_service_starts_without_a_deep_learning_toolkit() -> None:
    started = subprocess.run(
        [sys.executable, "-c", "import node.cli, sys; print(*sys.modules)"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert not {"torch", "onnxruntime", "monai"} & set(started.stdout.split())
