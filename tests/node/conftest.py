"""The command and a configured node, for tests of the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node import route
from node.configuration import CONFIG_VARIABLE
from node.settings import FolderDestination, Route, Settings
from tests.node.command import Command
from tests.peers import bright_spot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def radnode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    folder = tmp_path / "site-packages"
    folder.mkdir()
    bright_spot.install(folder)
    monkeypatch.syspath_prepend(folder)
    route.registry._installed.cache_clear()
    yield Command(monkeypatch, capsys, tmp_path)
    route.registry._installed.cache_clear()


@pytest.fixture
def node(radnode: Command, settings: Settings) -> Settings:
    """A configured node with two routes: one takes every CT, one takes heads of MR."""
    out = FolderDestination(kind="folder", path=radnode.folder / "out")
    routes = (
        Route(name="all ct", match={"Modality": "CT"}, run=(bright_spot.NAME,), send_to=("out",)),
        Route(
            name="heads",
            match={"Modality": "MR", "BodyPartExamined": ("HEAD*", "BRAIN")},
            run=(bright_spot.NAME,),
            send_to=("out",),
        ),
    )
    changes = {"destinations": {"out": out}, "routes": routes}
    configured = settings.model_copy(update=changes)
    radnode.configure(configured)
    return configured
