"""Public weights, added to a folder as a site adds them: from a folder, by the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.models.add import from_catalogue
from pipelines import catalogue

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "data" / "weights"


def added_models(folder: Path, *names: str) -> Path:
    """Add models of the catalogue to ``folder``, and return it, for ``pipelines.models.use``.

    Skips the test where the weights are not on this machine.
    """
    if not WEIGHTS.is_dir():
        pytest.skip("the public weights are not on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (folder / name).exists():
            from_catalogue(folder, catalogue.entries()[name], folder=WEIGHTS)
    return folder
