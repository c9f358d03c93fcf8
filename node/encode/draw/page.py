"""A page to draw on: text, images and leads at places counted from its upper left corner.

Only the process that encodes imports this; Matplotlib takes half a second. Its figures are made
without pyplot and without the user's settings, so that the same content makes the same bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.patheffects import withStroke

from pipelines.contract import Graphic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from node.encode.draw.overlays import Color
    from node.encode.draw.views import Lead, Strip, View
    from pipelines.contract import Region

Box = tuple[float, float, float, float]
"""Left, top, width, height."""

_FONTS = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_DPI = 72.0


@dataclass(frozen=True)
class Theme:
    """Colours of a page, as Matplotlib reads them."""

    paper: str
    ink: str
    faint: str
    rule: str
    warning: str
    trace: str
    grid: str
    marked: str


DARK = Theme(
    paper="#0b0d10",
    ink="#f2f4f7",
    faint="#a3adba",
    rule="#2c333d",
    warning="#ffb74d",
    trace="#d7e3ee",
    grid="#1b222b",
    marked="#ffb74d",
)
LIGHT = Theme(
    paper="#ffffff",
    ink="#15191e",
    faint="#5b6672",
    rule="#cfd6de",
    warning="#a84300",
    trace="#15191e",
    grid="#f3d9d6",
    marked="#ffb74d",
)


@cache
def font(*, bold: bool) -> FontProperties:
    """Return the font that comes with Matplotlib; what else is installed makes no difference."""
    return FontProperties(fname=f"{mpl.get_data_path()}/fonts/ttf/{_FONTS[bold]}")


@lru_cache(maxsize=10_000)
def _width_at_100(text: str, *, bold: bool) -> float:
    """Return the width at a size where the rounding of hinted glyphs does not matter."""
    face = get_font(str(font(bold=bold).get_file()))
    face.set_size(100.0, _DPI)
    face.set_text(text, 0.0)
    return float(face.get_width_height()[0]) / 64.0


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a line of text is, in units of the page."""
    return _width_at_100(text, bold=bold) * size / 100.0


@lru_cache(maxsize=1000)
def wrapped(text: str, size: float, room: float) -> tuple[str, ...]:
    """Return the text in lines that fit; a word that does not is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width(longer, size) <= room:
            lines[-1] = longer
            continue
        rest = word
        while rest:
            fits = max(_fitting(rest, size, room), 1)
            lines.append(rest[:fits])
            rest = rest[fits:]
    return tuple(line for line in lines if line)


def clipped(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Return the text, cut to one line where it does not fit."""
    if width(text, size, bold=bold) <= room:
        return text
    fits = _fitting(text, size, room - width("…", size, bold=bold), bold=bold)
    return f"{text[:fits].rstrip()}…"


def _fitting(text: str, size: float, room: float, *, bold: bool = False) -> int:
    """Return how many of its characters fit."""
    lengths = range(1, len(text) + 1)
    return bisect_right(lengths, room, key=lambda length: width(text[:length], size, bold=bold))


class Page:
    """A sheet of ``size`` units, y downwards; a font of size 10 is 10 units high."""

    def __init__(self, size: tuple[float, float], theme: Theme) -> None:
        self.size = size
        self.theme = theme
        self.figure = Figure(
            figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, facecolor=theme.paper
        )
        self._sheet = self.axes((0.0, 0.0, *size), (0.0, size[0], size[1], 0.0))

    def axes(self, box: Box, limits: tuple[float, float, float, float]) -> Any:
        """Return axes that fill a box; ``limits`` are its left, right, bottom and top."""
        left, top, wide, high = box
        across, down = self.size
        axes = self.figure.add_axes(
            (left / across, 1.0 - (top + high) / down, wide / across, high / down)
        )
        axes.set_axis_off()
        axes.set_xlim(limits[0], limits[1])
        axes.set_ylim(limits[2], limits[3])
        return axes

    def text(
        self,
        place: tuple[float, float],
        text: str,
        size: float,
        color: str | None = None,
        *,
        bold: bool = False,
    ) -> None:
        """Write one line whose baseline begins at ``place``."""
        self._sheet.text(
            *place,
            text,
            color=color or self.theme.ink,
            fontproperties=font(bold=bold),
            size=size,
            va="baseline",
            parse_math=False,
        )

    def rule(self, top: float, left: float, right: float) -> None:
        """Draw a thin line across."""
        self._sheet.plot([left, right], [top, top], color=self.theme.rule, linewidth=1.0)

    def patch(self, box: Box, color: Color) -> None:
        """Fill a small box: the colour that something is drawn in."""
        left, top, wide, high = box
        self._sheet.add_patch(Rectangle((left, top), wide, high, color=_rgb(color), linewidth=0.0))

    def image(self, view: View, box: Box, size: float) -> Box:
        """Draw a view as large as fits the box, in its middle; return where it is.

        Args:
            view: The image and what is drawn on it.
            box: Where there is room for it.
            size: Of the letters on it; lines are in proportion.
        """
        from_column, to_column, from_row, to_row = view.part
        high_over_wide = (to_row - from_row) * view.pixel_aspect / (to_column - from_column)
        wide = min(box[2], box[3] / high_over_wide)
        high = wide * high_over_wide
        place = (box[0] + (box[2] - wide) / 2.0, box[1] + (box[3] - high) / 2.0, wide, high)
        axes = self.axes(place, (from_column, to_column, to_row, from_row))
        rows, columns = view.pixels.shape[:2]
        axes.imshow(
            view.pixels,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(0.0, columns, rows, 0.0),
            aspect="auto",
            interpolation="bilinear",
        )
        axes.set_xlim(from_column, to_column)
        axes.set_ylim(to_row, from_row)
        scale = wide / (to_column - from_column)
        for color, shape in view.shapes:
            for drawn in _drawn(shape, scale, view.pixel_aspect):
                drawn.set_path_effects(
                    [withStroke(linewidth=0.2 * size, foreground=(0, 0, 0, 0.55))]
                )
                drawn.set_edgecolor(_rgb(color))
                drawn.set_linewidth(0.13 * size)
                (axes.add_collection if isinstance(drawn, LineCollection) else axes.add_patch)(
                    drawn
                )
        self._sides(axes, view, size)
        return place

    def _sides(self, axes: Any, view: View, size: float) -> None:
        """Write the patient's sides on the image, at its left and its top edge."""
        outlined = [withStroke(linewidth=0.15 * size, foreground="black")]
        for at, side, across, up in (
            ((0.02, 0.5), view.left, "left", "center"),
            ((0.5, 0.98), view.top, "center", "top"),
        ):
            axes.text(
                *at,
                side,
                transform=axes.transAxes,
                ha=across,
                va=up,
                color="white",
                fontproperties=font(bold=True),
                size=size,
                path_effects=outlined,
                parse_math=False,
            )

    def strip(self, strip: Strip, box: Box, size: float) -> None:
        """Draw the leads one under the other on a grid of 0.2 s by 0.5 mV."""
        if not strip.seconds.size:
            return
        label_wide = 4.0 * size
        left, top, wide, high = box
        pitch = _pitch(strip)
        first, last = float(strip.seconds[0]), float(strip.seconds[-1])
        down = len(strip.leads) * pitch
        axes = self.axes((left + label_wide, top, wide - label_wide, high), (first, last, -down, 0))
        axes.vlines(np.arange(first, last + 0.01, 0.2), -down, 0, color=self.theme.grid, lw=0.8)
        if strip.unit == "mV":
            axes.hlines(np.arange(-down, 0.01, 0.5), first, last, color=self.theme.grid, lw=0.8)
        for place, lead in enumerate(strip.leads):
            middle = -(place + 0.5) * pitch
            self._lead(axes, lead, strip, (middle, pitch))
            row = top + (place + 0.5) * high / len(strip.leads)
            self.text((left, row + size / 3.0), lead.label[:8], size, bold=bool(lead.spans))

    def _lead(self, axes: Any, lead: Lead, strip: Strip, row: tuple[float, float]) -> None:
        middle, pitch = row
        low, high = _reach(lead)
        for start_s, end_s in lead.spans:
            axes.add_patch(
                Rectangle(
                    (start_s, middle - pitch / 2.0),
                    end_s - start_s,
                    pitch,
                    color=self.theme.marked,
                    alpha=0.28,
                    linewidth=0.0,
                )
            )
        heights = middle + lead.values - (low + high) / 2.0
        axes.plot(strip.seconds, heights, color=self.theme.trace, linewidth=1.1)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the page as uint8, shape (height, width, 3)."""
        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba(), dtype=np.uint8)
        return np.ascontiguousarray(drawn[..., :3])


def settings() -> Any:
    """Return a context in which Matplotlib draws as it is shipped, with fonts kept as text."""
    return mpl.rc_context({**mpl.rcParamsDefault, "pdf.fonttype": 42, "backend": "agg"})


def _drawn(shape: Region, scale: float, aspect: float) -> Iterator[Any]:
    """Yield what a region looks like; ``scale`` is the width of a pixel on the page."""
    points = np.array(shape.points, dtype=np.float64)
    if shape.graphic is Graphic.POLYLINE:
        yield LineCollection([points])
    elif shape.graphic is Graphic.CIRCLE:
        radius = float(np.hypot(*((points[1] - points[0]) * (1.0, aspect))))
        yield Ellipse(points[0], 2.0 * radius, 2.0 * radius / aspect, fill=False)
    elif shape.graphic is Graphic.ELLIPSE:
        turns = np.linspace(0.0, 2.0 * np.pi, 73)[:, np.newaxis]
        major, minor = (points[1] - points[0]) / 2.0, (points[3] - points[2]) / 2.0
        middle = (points[0] + points[1]) / 2.0
        yield LineCollection([middle + np.cos(turns) * major + np.sin(turns) * minor])
    else:
        arm = 9.0 / scale * np.array([[1.0, 0.0], [0.0, 1.0 / aspect]])
        yield LineCollection([np.array([points[0] - one, points[0] + one]) for one in arm])


def _pitch(strip: Strip) -> float:
    """Return how high the row of a lead is: whole half millivolts where the unit is known."""
    highest = max((high - low for low, high in map(_reach, strip.leads)), default=0.0) or 1.0
    return float(np.ceil(highest * 2.1) / 2.0) if strip.unit == "mV" else 1.05 * highest


def _reach(lead: Lead) -> tuple[float, float]:
    """Return between which values the lead runs, but for single spikes."""
    known = lead.values[np.isfinite(lead.values)]
    if not known.size:
        return 0.0, 0.0
    low, high = np.quantile(known, (0.001, 0.999))
    return float(low), float(high)


def _rgb(color: Color) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255.0, green / 255.0, blue / 255.0
