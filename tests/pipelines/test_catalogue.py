"""The catalogue of public weights: pinned, digested, licensed; and pipelines of added models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.models.add import from_folder
from pipelines import catalogue, models, registry
from tests.peers import site_model
from tests.peers.weights import WEIGHTS, added_models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENTRIES = sorted(catalogue.entries())
FREE = {"MIT", "BSD-3-Clause", "Apache-2.0", "CC0-1.0"}


@pytest.fixture(autouse=True)
def _no_models_afterwards() -> Iterator[None]:
    yield
    models.use(None)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_pinned_to_a_commit_and_says_who_made_it_and_what_it_may_be_used_for(name):
    entry = catalogue.entries()[name]
    assert entry.files
    assert entry.licence in FREE
    assert entry.citation
    assert entry.pipelines
    for source in entry.sources:
        assert source.startswith("https://")
        assert any(f"/{commit}/" in source for commit in entry.commits)


def test_only_what_nobody_here_could_digest_has_no_digest() -> None:
    assert [name for name in ENTRIES if catalogue.entries()[name].unpinned] == ["blast-ct"]


def test_the_digests_are_those_of_the_weights_that_tests_run() -> None:
    if not WEIGHTS.is_dir():
        pytest.skip("the public weights are not on this machine")
    listed = {line.split()[0] for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines()}
    weights = [
        sha256
        for entry in catalogue.entries().values()
        for path, sha256 in entry.files.items()
        if sha256 and not path.endswith((".json", ".obo"))
    ]
    assert len(weights) == 26
    assert set(weights) <= listed


@pytest.mark.parametrize(
    "source",
    [
        "http://example.org/0123456789ab/",
        "https://example.org/main/",
        "https://example.org/0123456789ab/../",
        "https://example.org/0123456789ab",
    ],
)
def test_a_source_that_may_change_is_refused(source: str) -> None:
    stated = {"title": "", "pipelines": [], "licence": "", "citation": "", "sha256": {}}
    with pytest.raises(ValueError, match="at one commit"):
        catalogue._entry("x", {**stated, "sources": [source]})


def test_catalogue_weights_taken_from_a_folder_are_there_verified(tmp_path: Path) -> None:
    models.use(added_models(tmp_path / "models", "meshnet-tissues", "hippodeep"))
    assert [model.name for model in models.added()] == ["hippodeep", "meshnet-tissues"]
    for model in models.added():
        model.verify()
    assert models.get("hippodeep").licence == "MIT"
    assert "hippodeep" not in registry.names()


def test_a_model_with_a_page_of_toml_is_a_pipeline_until_it_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    models.use(folder)
    assert site_model.NAME not in registry.names()
    with pytest.raises(registry.UnknownPipeline):
        registry.get(site_model.NAME)
    source = site_model.write(tmp_path / "source", threshold_hu=300.0)
    from_folder(folder, source, taken=registry.is_installed)
    assert site_model.NAME in registry.names()
    assert registry.get(site_model.NAME).title == "Dense spots"
    assert registry.get(site_model.NAME) is registry.get(site_model.NAME)
    manifest = folder / site_model.NAME / "pipeline.toml"
    manifest.write_text(manifest.read_text().replace("Dense spots", "Tumours"))
    with pytest.raises(models.ModelChanged):
        registry.get(site_model.NAME)


def test_a_damaged_model_stands_in_no_other_models_way(tmp_path):
    for name in ("good", "damaged"):
        (tmp_path / name).mkdir()
        (tmp_path / name / models.MANIFEST).write_text("[files]\n")
    (tmp_path / "damaged" / models.MANIFEST).write_text("half a li")
    models.use(tmp_path)
    try:
        assert models.get("good").name == "good"
        with pytest.raises(models.ModelChanged, match="damaged"):
            models.find("damaged")
        assert models.find("missing") is None
    finally:
        models.use(None)
