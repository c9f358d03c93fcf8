"""The picture and the document of a result, laid out."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from matplotlib.backends.backend_pdf import PdfPages

from node.encode.draw.chart import draw_charts
from node.encode.draw.page import DARK, LIGHT, Page, clipped, settings, width, wrapped
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from node.encode.draw.content import Content, Statement
    from node.encode.draw.page import Box
    from node.encode.draw.views import Strip, View
    from sr_templates.quantities import Quantity

_PICTURE = (1024.0, 1024.0)
_A4 = (595.0, 842.0)
"""Points: 210 by 297 mm."""

_GRIDS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2), 6: (3, 2)}
"""Number of views -> columns and rows."""
_CHART_ROWS = (0.0, 190.0, 300.0)
"""How high no, one and two rows of charts are in the picture."""
_SIZES = (28.0, 24.0, 21.0, 19.0)
"""Of the words of a picture: the largest at which all fit, else the smallest."""


def picture(content: Content) -> npt.NDArray[np.uint8]:
    """Return a summary on one dark page: uint8, shape (1024, 1024, 3)."""
    with settings():
        page = Page(_PICTURE, DARK)
        left, right = 40.0, _PICTURE[0] - 40.0
        title = clipped(content.title, 34.0, right - left, bold=True)
        page.text((left, 66.0), title, 34.0, bold=True)
        page.rule(92.0, left, right)
        footer = _Footer(page, content, 17.0, (left, right), most_lines=4)
        top, end = 110.0, footer.draw(_PICTURE[1] - 28.0) - 10.0
        if content.refusal:
            page.text((left, 190.0), content.refusal, 56.0, page.theme.warning, bold=True)
            top = 210.0
        tallest, lowest = _band(content)
        words = _Words(page, content, _SIZES[-1], (left, right))
        for size in _SIZES:
            words = _Words(page, content, size, (left, right))
            if words.height(content.statements) <= end - top - tallest:
                break
        tall = max(lowest, min(tallest, end - top - words.height(content.statements)))
        charted = _CHART_ROWS[_rows_of_charts(content)]
        tall -= charted
        if content.strip is not None:
            top = _strip(page, content.strip, (left, top, right - left, tall), 17.0)
        elif content.views:
            top = _views(page, content.views, (left, top, right - left, tall), 17.0)
        if content.charts:
            box = (left, top + 8.0, right - left, charted - 8.0)
            top = draw_charts(page, content.charts, box, 15.0)
        words.draw(content.statements, top, end, overflow=True)
        return page.pixels()


def _band(content: Content) -> tuple[float, float]:
    """Return how high the images and charts of a picture are at most, and at least."""
    charted = _CHART_ROWS[_rows_of_charts(content)]
    if content.strip is not None:
        leads = len(content.strip.leads)
        least = 34.0 + (36.0 - 8.0 * bool(charted)) * leads
        return 34.0 + 60.0 * leads + charted, least + charted
    if charted:
        bands = {0: (0.0, 0.0), 1: (360.0, 260.0), 2: (340.0, 260.0), 3: (300.0, 220.0)}
        most, least = bands.get(len(content.views), (400.0, 320.0))
        return most + charted, least + charted
    bands = {0: (0.0, 0.0), 1: (560.0, 420.0), 2: (500.0, 400.0), 3: (350.0, 300.0)}
    return bands.get(len(content.views), (580.0, 440.0))


def _rows_of_charts(content: Content) -> int:
    return -(-len(content.charts) // 2)


def document(content: Content) -> bytes:
    """Return the whole content as a PDF of A4 pages, without a date or an identifier."""
    buffer = BytesIO()
    # Matplotlib would write the time, and its own version, into every file.
    metadata = {"CreationDate": None, "Creator": None, "Producer": None, "Title": content.title}
    with settings(), PdfPages(buffer, metadata=metadata) as pages:
        remaining, number = content.statements, 1
        while remaining or number == 1:
            page = Page(_A4, LIGHT)
            top, bottom = _document_frame(page, content, number)
            words = _Words(page, content, 10.0, (48.0, _A4[0] - 48.0))
            done = words.draw(remaining, top, bottom, overflow=False)
            remaining, number = remaining[max(done, 1) :], number + 1
            pages.savefig(page.figure)
    return buffer.getvalue()


def _document_frame(page: Page, content: Content, number: int) -> tuple[float, float]:
    """Draw what surrounds the statements; return where they may begin and must end."""
    left, right = 48.0, _A4[0] - 48.0
    page.text((left, 64.0), clipped(content.title, 20.0, right - left, bold=True), 20.0, bold=True)
    page.text((left, 82.0), "Patient and study: see the DICOM header.", 9.0, page.theme.faint)
    said = f"Page {number}"
    page.text((right - width(said, 9.0), 82.0), said, 9.0, page.theme.faint)
    page.rule(92.0, left, right)
    footer = _Footer(page, content, 8.5, (left, right), most_lines=8)
    bottom = footer.draw(_A4[1] - 40.0) - 12.0
    top = 106.0
    if number == 1 and content.refusal:
        page.text((left, 140.0), content.refusal, 26.0, page.theme.warning, bold=True)
        top = 152.0
    elif number == 1 and content.strip is not None:
        box = (left, top, right - left, 16.0 + 30.0 * len(content.strip.leads))
        top = _strip(page, content.strip, box, 8.5)
    elif number == 1 and content.views:
        tall = {1: 300.0, 2: 240.0, 3: 180.0}.get(len(content.views), 340.0)
        if content.charts:
            tall = min(tall, 270.0)
        top = _views(page, content.views, (left, top, right - left, tall), 8.5)
    if number == 1 and content.charts:
        high = 120.0 * _rows_of_charts(content)
        top = draw_charts(page, content.charts, (left, top + 6.0, right - left, high), 8.5)
    return top, bottom


def _views(page: Page, views: tuple[View, ...], box: Box, size: float) -> float:
    """Draw the views in a grid, each over its caption; return where they end."""
    columns, rows = _GRIDS[len(views)]
    gap = size
    wide = (box[2] - gap * (columns - 1)) / columns
    high = box[3] / rows
    for place, view in enumerate(views):
        left = box[0] + (place % columns) * (wide + gap)
        top = box[1] + (place // columns) * high
        image = page.image(view, (left, top, wide, high - 2.0 * size), size)
        needed = _caption_width(view, size)
        start = max(left, min(image[0], left + wide - needed))
        _caption(page, view, (start, image[1] + image[3] + 1.25 * size), (left + wide, size))
    return box[1] + box[3]


def _caption_width(view: View, size: float) -> float:
    labels = sum(1.8 * size + width(label, size) for _, label in view.labels)
    return width(view.caption, size) + labels


def _caption(
    page: Page, view: View, place: tuple[float, float], limit: tuple[float, float]
) -> None:
    """Write which image it is, then what is drawn on it as far as there is room."""
    x, y = place
    right, size = limit
    page.text((x, y), clipped(view.caption, size, right - x), size, page.theme.faint)
    x += width(view.caption, size) + 0.9 * size
    for color, label in view.labels:
        needed = 0.9 * size + width(label, size)
        if x + needed > right:
            break
        page.patch((x, y - 0.66 * size, 0.6 * size, 0.6 * size), color)
        page.text((x + 0.9 * size, y), label, size)
        x += needed + 0.9 * size


def _strip(page: Page, strip: Strip, box: Box, size: float) -> float:
    """Draw the recording over its scale; return where it ends."""
    left, top, wide, high = box
    page.strip(strip, (left, top, wide, high - 2.0 * size), size)
    seconds = strip.seconds
    scale = "Grid 0.2 s, 0.5 mV" if strip.unit == "mV" else "Grid 0.2 s"
    span = f"{seconds[0]:.1f} to {seconds[-1]:.1f} s" if seconds.size else ""
    page.text((left, top + high - 0.4 * size), f"{scale}.  Shown: {span}", size, page.theme.faint)
    return top + high


class _Words:
    """Statements under each other, their measurements in columns of their own."""

    def __init__(
        self, page: Page, content: Content, size: float, sides: tuple[float, float]
    ) -> None:
        self._page, self._size = page, size
        self._left, self._right = sides
        drawn = any(statement.color is not None for statement in content.statements)
        self._indent = 1.5 * size if drawn else 0.0

    def height(self, statements: tuple[Statement, ...]) -> float:
        """Return how much room all of them take."""
        return sum(map(self._height, statements)) + self._size

    def draw(
        self, statements: tuple[Statement, ...], top: float, end: float, *, overflow: bool
    ) -> int:
        """Draw what fits between ``top`` and ``end``; return how many statements that was.

        With ``overflow``, a last line says how many more there are.
        """
        y = top + 1.5 * self._size
        for place, statement in enumerate(statements):
            left_over = len(statements) - place
            reserve = 1.5 * self._size if overflow and left_over > 1 else 0.0
            if y + self._height(statement) + reserve > end + self._size and (place or overflow):
                if overflow:
                    more = f"and {left_over} more: see the report."
                    self._page.text((self._left, y), more, self._size, self._page.theme.faint)
                return place
            y = self._statement(statement, y)
        return len(statements)

    def _lines(self, statement: Statement) -> tuple[str, ...]:
        room = self._right - self._left - self._indent
        if not statement.about:
            return wrapped(statement.text, self._size, room)
        about = f"{statement.about}:"
        bolder = width(about, self._size, bold=True) - width(about, self._size)
        return wrapped(f"{about} {statement.text}", self._size, room - bolder - 0.3 * self._size)

    def _rows(self, statement: Statement) -> list[tuple[Quantity, ...]]:
        """Return the measurements as rows: all in the statement's own line, or two by two."""
        found = statement.measurements
        if self._beside(statement):
            return []
        half = (self._right - self._left - self._indent) / 2.0
        count = 2 if all(self._measured_width(one) <= half for one in found) else 1
        return [found[start : start + count] for start in range(0, len(found), count)]

    def _beside(self, statement: Statement) -> bool:
        """Whether the measurements have room at the right of the statement."""
        lines = self._lines(statement)
        needed = sum(map(self._measured_width, statement.measurements))
        room = self._right - self._left - self._indent - 1.5 * self._size
        return len(lines) == 1 and width(lines[0], self._size, bold=True) + needed <= room

    def _measured_width(self, measurement: Quantity) -> float:
        size = 0.9 * self._size
        named, plain = f"{measurement.name}  ", f"  {measurement.remark}".rstrip()
        value = width(measurement.value, size, bold=True)
        return width(named, size) + value + width(plain, size) + 1.4 * size

    def _height(self, statement: Statement) -> float:
        lines = len(self._lines(statement)) + len(self._rows(statement))
        return (1.42 * lines + 0.35) * self._size

    def _statement(self, statement: Statement, y: float) -> float:
        page, size = self._page, self._size
        left = self._left + self._indent
        if statement.color is not None:
            page.patch((self._left, y - 0.74 * size, 0.8 * size, 0.8 * size), statement.color)
        if self._beside(statement):
            x = self._right - sum(map(self._measured_width, statement.measurements))
            for one in statement.measurements:
                self._measurement(one, (x, y), self._right - x)
                x += self._measured_width(one)
        about = f"{statement.about}:" if statement.about else ""
        for place, line in enumerate(self._lines(statement)):
            if place == 0 and about and line.startswith(about):
                page.text((left, y), about, size, bold=True)
                rest = line.removeprefix(about).strip()
                page.text((left + width(f"{about}  ", size, bold=True), y), rest, size)
            else:
                page.text((left, y), line, size)
            y += 1.42 * size
        for row in self._rows(statement):
            room = (self._right - left) / len(row)
            for column, one in enumerate(row):
                self._measurement(one, (left + column * room, y), room)
            y += 1.42 * size
        return y + 0.35 * size

    def _measurement(self, one: Quantity, place: tuple[float, float], room: float) -> None:
        """Write a name, its value and its details; these and the name are cut to the room."""
        size = 0.9 * self._size
        x, y = place
        end = x + room
        faint = self._page.theme.faint
        others = self._measured_width(one) - width(one.name, size)
        name = clipped(one.name, size, max(room - others, 0.4 * room))
        self._page.text((x, y), name, size, faint)
        x += width(f"{name}  ", size)
        self._page.text((x, y), one.value, size, bold=True)
        if one.remark:
            x += width(f"{one.value}  ", size, bold=True)
            self._page.text((x, y), clipped(one.remark, size, end - x), size, faint)


class _Footer:
    """Who made it and what it is not for, at the foot of each page."""

    def __init__(
        self,
        page: Page,
        content: Content,
        size: float,
        sides: tuple[float, float],
        most_lines: int,
    ) -> None:
        self._page, self._size = page, size
        self._left, self._right = sides
        first, *others = content.provenance
        said = [first.removeprefix(NOT_FOR_DIAGNOSIS).strip(), *others]
        lines = [line for one in said for line in wrapped(one, size, sides[1] - sides[0])]
        self._lines = lines[:most_lines]

    def draw(self, bottom: float) -> float:
        """Draw it down to ``bottom``; return where it begins."""
        page, size = self._page, self._size
        top = bottom - 1.45 * size * len(self._lines)
        page.rule(top - 1.5 * size, self._left, self._right)
        page.text((self._left, top), NOT_FOR_DIAGNOSIS, size, page.theme.warning, bold=True)
        for place, line in enumerate(self._lines, start=1):
            page.text((self._left, top + 1.45 * size * place), line, size, page.theme.faint)
        return top - 1.5 * size
