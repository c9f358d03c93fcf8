"""The annotated configuration and the examples are files that the node accepts."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from node.configuration import load_settings
from node.errors import ConfigError
from node.settings import Settings
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

ANNOTATED = REPOSITORY / "config" / "radnode.toml"


def sections(annotation: object) -> set[type[BaseModel]]:
    """Return every table type that ``annotation`` mentions, and those inside them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = {annotation}
        for field in annotation.model_fields.values():
            found |= sections(field.annotation)
        return found
    if typing.get_origin(annotation) is None and not isinstance(annotation, types.UnionType):
        return set()
    return set().union(*(sections(argument) for argument in typing.get_args(annotation)))


def keys() -> list[str]:
    return sorted({name for section in sections(Settings) for name in section.model_fields})


def test_the_annotated_configuration_shows_the_defaults_and_nothing_else() -> None:
    with ANNOTATED.open("rb") as file:
        assert Settings.model_validate(tomllib.load(file)) == Settings()


@pytest.mark.parametrize("key", keys())
def test_the_annotated_configuration_mentions(key: str) -> None:
    text = ANNOTATED.read_text(encoding="utf-8")
    assert re.search(rf"^#?(\[+[a-z_.]*\b)?{key}\b", text, re.MULTILINE)


def test_the_annotated_configuration_spells_out_every_default() -> None:
    with ANNOTATED.open("rb") as file:
        table = tomllib.load(file)
    defaults = Settings().model_dump(mode="json")
    for name, value in defaults.items():
        for key in value if isinstance(value, dict) and value else ():
            if value[key] not in ({}, None):  # TOML has no word for None
                assert key in table[name], f"[{name}] lacks {key}"


def test_the_annotated_examples_are_right_too() -> None:
    """Uncommented, the example destinations and routes are a valid file."""
    lines = ANNOTATED.read_text(encoding="utf-8").splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("# --- Destinations"))
    example = "\n".join(
        re.sub(r"^#(?=[a-z\[])", "", line) for line in lines[head:] if not line.startswith("# ")
    )
    settings = Settings.model_validate(tomllib.loads(example))
    assert set(settings.destinations) == {"pacs", "research"}
    assert len(settings.routes) == 1


@pytest.mark.parametrize(
    "path",
    sorted([*REPOSITORY.glob("config/examples/*.toml"), REPOSITORY / "docker" / "radnode.toml"]),
    ids=lambda path: path.name,
)
def test_an_example_configuration_is_valid(path: Path) -> None:
    settings = load_settings(path)
    assert settings.routes
    assert settings.destinations


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "radnode.toml"
    wrong.write_text("[listen]\nae_titel = 'X'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="ae_titel"):
        load_settings(wrong)
