"""Goals: what a figure of the bench must reach, and whether it does."""

from __future__ import annotations

from typing import Any

from rich.table import Table

Goal = dict[str, Any]

WIDTH = 100
"""Of what is printed, that docs/performance.md quotes."""


def at_least(what: str, measured: float, goal: float) -> Goal:
    """Return a goal that is met by ``goal`` or more."""
    return {"what": what, "measured": measured, "at_least": goal, "met": measured >= goal}


def at_most(what: str, measured: float, goal: float) -> Goal:
    """Return a goal that is met by ``goal`` or less."""
    return {"what": what, "measured": measured, "at_most": goal, "met": measured <= goal}


def met(goals: list[Goal]) -> bool:
    """Whether all are met."""
    return all(goal["met"] for goal in goals)


def table(goals: list[Goal]) -> Table:
    """Return each goal, what was measured, and whether that meets it."""
    drawn = Table(title="Goals", box=None)
    for column in ("", "measured", "goal", ""):
        drawn.add_column(column, justify="right" if column else "left")
    for goal in goals:
        wanted = f">= {goal['at_least']:g}" if "at_least" in goal else f"<= {goal['at_most']:g}"
        said = "" if goal["met"] else "[bold red]missed[/]"
        drawn.add_row(goal["what"], f"{goal['measured']:.3g}", wanted, said)
    return drawn
