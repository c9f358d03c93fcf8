"""A chart on a page: curves over a grid with numbers at its sides, and marks across it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from node.encode.draw.page import clipped, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.encode.draw.overlays import Color
    from node.encode.draw.page import Box, Page
    from pipelines.contract import Chart, Curve

_COLORS: tuple[Color, ...] = (
    (79, 155, 235),
    (255, 138, 60),
    (120, 180, 90),
    (200, 110, 190),
)
"""Of the curves, in turn; seen on dark and on white paper."""
_MARKED = 0.2
"""Left free above the curves for the words of marks, ditto."""
_ROOM = 0.06
"""Left free above and below the curves, as a share of what they span."""


def draw_charts(page: Page, charts: Sequence[Chart], box: Box, size: float) -> float:
    """Draw charts, two beside each other where there are several; return where they end.

    Args:
        page: To draw on.
        charts: At least one.
        box: Where there is room for all.
        size: Of the letters.
    """
    left, top, wide, high = box
    columns = min(len(charts), 2)
    rows = -(-len(charts) // columns)
    gap = 1.2 * size
    each = (wide - gap * (columns - 1)) / columns
    for place, chart in enumerate(charts):
        row, column = divmod(place, columns)
        corner = (left + column * (each + gap), top + row * high / rows)
        _draw_chart(page, chart, (*corner, each, high / rows - 0.6 * size), size)
    return top + high


def _draw_chart(page: Page, chart: Chart, box: Box, size: float) -> None:
    left, top, wide, high = box
    title = clipped(chart.title, size, wide, bold=True)
    page.text((left, top + size), title, size, bold=True)
    small = 0.85 * size
    y_title = clipped(chart.y_title, small, wide)
    page.text((left, top + 2.2 * size), y_title, small, page.theme.faint)
    _legend(
        page, chart.curves, (left + width(y_title, small) + 2.0 * small, left + wide), box, size
    )
    x_from, x_to = _span([curve.x for curve in chart.curves], [at for at, _ in chart.marks])
    y_from, y_to = _span([curve.y for curve in chart.curves])
    room = _ROOM * (y_to - y_from)
    above = room + _MARKED * (y_to - y_from) * bool(chart.marks)
    limits = (x_from, x_to, y_from - room, y_to + above)
    y_ticks = _ticks(limits[2], limits[3])
    margin = max(width(_number(at, y_ticks), small) for at in y_ticks) + 0.6 * small
    plot = (left + margin, top + 2.8 * size, wide - margin, high - 5.4 * size)
    axes = page.axes(plot, limits)
    for at in y_ticks:
        axes.hlines(at, x_from, x_to, color=page.theme.rule, lw=0.06 * size)
        y = plot[1] + plot[3] * (limits[3] - at) / (limits[3] - limits[2])
        said = _number(at, y_ticks)
        page.text((plot[0] - width(said, small) - 0.4 * small, y + small / 3.0), said, small)
    _x_scale(page, chart.x_title, plot, (x_from, x_to), size)
    for place, curve in enumerate(chart.curves):
        axes.plot(curve.x, curve.y, color=_hex(place), linewidth=0.13 * size)
    for place, (at, words) in enumerate(chart.marks):
        axes.vlines(
            at, limits[2], limits[3], color=page.theme.marked, lw=0.1 * size, linestyle="--"
        )
        x = plot[0] + plot[2] * (at - x_from) / (x_to - x_from) + 0.3 * small
        x = max(plot[0], min(x, plot[0] + plot[2] - width(words, small)))
        # Marks may stand close together: their words take turns on three lines.
        page.text((x, plot[1] + (1.0 + 1.2 * (place % 3)) * small), words, small)


def _legend(
    page: Page, curves: Sequence[Curve], sides: tuple[float, float], box: Box, size: float
) -> None:
    """Name the curves in their colours, where there are several, as far as there is room."""
    if len(curves) < 2:
        return
    (x, right), small, y = sides, 0.85 * size, box[1] + 2.2 * size
    for place, curve in enumerate(curves):
        label = clipped(curve.label, small, right - x - small)
        if x + 2.0 * small > right:
            return
        page.patch((x, y - 0.66 * small, 0.6 * small, 0.6 * small), _COLORS[place % len(_COLORS)])
        page.text((x + 0.9 * small, y), label, small)
        x += width(label, small) + 2.0 * small


def _x_scale(page: Page, title: str, plot: Box, span: tuple[float, float], size: float) -> None:
    """Write numbers below the plot, and of what."""
    small, foot = 0.85 * size, plot[1] + plot[3]
    ticks = [at for at in _ticks(*span) if span[0] <= at <= span[1]]
    for at in ticks:
        said = _number(at, ticks)
        x = plot[0] + plot[2] * (at - span[0]) / (span[1] - span[0]) - width(said, small) / 2.0
        x = min(max(x, plot[0]), plot[0] + plot[2] - width(said, small))
        page.text((x, foot + 1.15 * small), said, small)
    title = clipped(title, small, plot[2])
    middle = plot[0] + (plot[2] - width(title, small)) / 2.0
    page.text((middle, foot + 2.4 * small), title, small, page.theme.faint)


def _span(values: Sequence[np.ndarray], further: Sequence[float] = ()) -> tuple[float, float]:
    """Return between which numbers all known ones lie, a width of its own where they are one."""
    everything = np.concatenate([*values, np.array(further, np.float64)]).astype(np.float64)
    known = everything[np.isfinite(everything)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [float(at) for at in ticks if low <= at <= high]
    return inside or [low]


def _number(at: float, ticks: Sequence[float]) -> str:
    """Return a number with as many digits as tell it from its neighbours."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(at) or 1.0
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    if digits and abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1  # steps of 0.25
    return f"{at + 0.0:.{digits}f}" if digits < 7 else f"{at:.3g}"


def _hex(place: int) -> str:
    red, green, blue = _COLORS[place % len(_COLORS)]
    return f"#{red:02x}{green:02x}{blue:02x}"
