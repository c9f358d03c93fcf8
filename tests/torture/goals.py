"""Figures in a table: what was measured, what it had to reach, and whether it did."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.torture.subject import Figure

WIDTH = 110


def to_json(figure: Figure) -> dict[str, Any]:
    """Return a figure as torture.json holds it."""
    return {**asdict(figure), "met": figure.met}


def wanted(figure: dict[str, Any]) -> str:
    """Return the bound in words; empty if there is none."""
    if figure["at_least"] is not None:
        return f"≥ {figure['at_least']:g}"
    return "" if figure["at_most"] is None else f"≤ {figure['at_most']:g}"


def measured(figure: dict[str, Any]) -> str:
    """Return the figure with its number of trials."""
    value = float(figure["measured"])
    said = f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"
    return said if figure["of"] is None else f"{said} of {figure['of']}"


def table(title: str, figures: Iterable[dict[str, Any]]) -> Table:
    """Return what is printed of one subject."""
    drawn = Table(title=title, box=None, title_justify="left")
    for column in ("", "measured", "wanted", ""):
        drawn.add_column(column, justify="right" if column else "left")
    for figure in figures:
        said = figure["note"] if figure["met"] else f"[bold red]missed[/] {figure['note']}"
        drawn.add_row(figure["what"], measured(figure), wanted(figure), said)
    return drawn
