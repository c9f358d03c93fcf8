"""The node itself, in processes of its own: as a hospital runs it, or one role at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tomli_w

from tests.peers import REPOSITORY, accepts, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from node.settings import Settings

STOP_S = 30.0


@dataclass
class Node:
    """The processes of one node.

    Attributes:
        settings: As the processes read them from ``config``.
        config: The configuration file.
        environment: What they get beside the environment of the test.
    """

    settings: Settings
    config: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self,
        *verb: str,
        crash_at: str = "",
        how: str = "SIGKILL",
        before: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start ``radnode VERB``; with ``crash_at`` it sends itself a signal at that point.

        ``before`` is a program that starts it, and becomes it.
        """
        log = self.settings.data.parent / "node.log"
        environment = {**os.environ, **self.environment, "RADNODE_CRASH_AT": crash_at}
        environment["RADNODE_CRASH_BY"] = how
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "node.cli", *verb, "--config", str(self.config)],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes[verb[0]] = process
        return process

    def ask(self, *verb: str) -> subprocess.CompletedProcess[str]:
        """Run ``radnode VERB`` to its end, beside what runs, on a screen wide enough."""
        return subprocess.run(
            [sys.executable, "-m", "node.cli", *verb, "--config", str(self.config)],
            cwd=REPOSITORY,
            env={**os.environ, **self.environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def listening(self, timeout_s: float = 60.0) -> None:
        """Wait until the listener takes associations."""
        wait_until(
            lambda: accepts(self.settings.listen.port),
            timeout_s=timeout_s,
            what="The start of the listener",
        )

    def crashed(self, verb: str, timeout_s: float = 90.0) -> None:
        """Wait until the process of ``verb`` has killed itself at its crash point."""
        process = self.processes[verb]
        wait_until(
            lambda: process.poll() is not None,
            timeout_s=timeout_s,
            what=f"The crash of '{verb}'",
        )
        assert process.returncode == -signal.SIGKILL, f"'{verb}' ended with {process.returncode}"
        del self.processes[verb]

    def stop(self, *verbs: str) -> None:
        """End processes politely; all of them if none is named."""
        for verb in verbs or tuple(self.processes):
            process = self.processes.pop(verb)
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def write_config(settings: Settings, path: Path) -> Path:
    """Write ``settings`` as the file that says the same."""
    path.write_text(tomli_w.dumps(_without_none(settings.model_dump(mode="json"))))
    return path


def _without_none(table: Any) -> Any:
    if isinstance(table, dict):
        return {key: _without_none(value) for key, value in table.items() if value is not None}
    if isinstance(table, list):
        return [_without_none(value) for value in table]
    return table
