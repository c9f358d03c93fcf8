"""The command as a person types it, run in this process; and a study for it to tell of."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from node import cli, plan
from tests.node.ledger_rows import arrived, complete, receive
from tests.peers.bright_spot import ct_series
from tests.peers.radnode import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """What it says when it fails as it should: what, and what to do."""
        what, do = self.err.splitlines()
        assert self.status == 1
        assert what.startswith("radnode: ")
        assert do.startswith("  ")
        return what


class Command:
    """The command, run in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.folder = folder
        self.config: Path | None = None

    def configure(self, settings: Settings) -> None:
        self.config = write_config(settings, self.folder / "radnode.toml")

    def __call__(self, *words: object) -> Said:
        config = [] if self.config is None else ["--config", str(self.config)]
        self._monkeypatch.setattr(sys, "argv", ["radnode", *map(str, words), *config])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run()
        said = self._capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)


def scan(node: Settings, ledger: Ledger) -> str:
    """Receive, complete, route and plan one CT; its study UID."""
    for image in ct_series("cli"):
        path = node.spool_folder / f"{image.InstanceNumber}.dcm"
        path.parent.mkdir(exist_ok=True)
        image.save_as(path, enforce_file_format=True)
        one = arrived(
            sop_instance_uid=image.SOPInstanceUID,
            study_uid=image.StudyInstanceUID,
            series_uid=image.SeriesInstanceUID,
            digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            path=path.name,
        )
        receive(ledger, one)
    complete(ledger)
    assert plan.run_once(node, ledger) == 1
    return str(image.StudyInstanceUID)
