"""An evaluation as a page for people (HTML), and as the measured part of a model card."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from pipelines.evaluation.agreement import Measured
    from pipelines.evaluation.classification import Calibration, Roc
    from pipelines.evaluation.detection import Froc

Floats = npt.NDArray[np.float64]

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
"""Between these lines of a card stands what was measured, and nothing else."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border: 1px solid #bbb; padding: .3rem .6rem; text-align: left }
img { max-width: 100% }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e6e6e6 } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of words under a heading."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture of a curve, as PNG."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one pipeline on one set of data.

    Attributes:
        title: Which pipeline, version and model.
        data: What it was measured on: how many studies and patients, their digest.
        tables: The figures.
        figures: The curves.
        notes: What a reader must know to read them.
    """

    title: str
    data: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()


def as_html(evaluation: Evaluation) -> str:
    """Return one page that needs nothing beside itself."""
    parts = [f"<h1>{escape(evaluation.title)}</h1><p>{escape(evaluation.data)}</p>"]
    parts += [f"<p>{escape(note)}</p>" for note in evaluation.notes]
    parts += [_html_table(table) for table in evaluation.tables]
    for figure in evaluation.figures:
        picture = base64.b64encode(figure.png).decode()
        title = escape(figure.title)
        parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{picture}">')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(evaluation.title)}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    return f"<h2>{escape(table.title)}</h2><table><tr>{head}</tr>{body}</table>"


def as_markdown(evaluation: Evaluation) -> str:
    """Return the same without the curves, as a model card has it."""
    blocks = [evaluation.data, *evaluation.notes]
    for table in evaluation.tables:
        lines = [table.columns, ("---",) * len(table.columns), *table.rows]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        blocks.append(f"**{table.title}**\n\n{rows}")
    return "\n\n".join(blocks)


def write_card(path: Path, measured: str) -> None:
    """Put what was measured into a model card, in place of what stood there.

    Raises:
        ValueError: The card has no place for it.
    """
    card = path.read_text("utf-8")
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}.")
    path.write_text(f"{before}{BEGIN}\n{measured.strip()}\n{END}{after}", "utf-8")


def roc_figure(title: str, curve: Roc) -> Figure:
    """Draw sensitivity against false positive rate."""

    def draw(axes: Axes) -> None:
        axes.step(curve.false_positive_rate, curve.sensitivity, where="post")
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))

    return _figure(f"{title}: ROC, area {curve.area}", draw)


def calibration_figure(title: str, told: Calibration) -> Figure:
    """Draw what was observed against what was stated; the size of a dot is how often."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        sizes = 20.0 + 200.0 * told.counts / max(int(told.counts.sum()), 1)
        axes.scatter(told.stated, told.observed, s=sizes)
        axes.set(xlabel="stated probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))

    return _figure(f"{title}: calibration", draw)


def froc_figure(title: str, curve: Froc) -> Figure:
    """Draw sensitivity against false alarms for each study."""

    def draw(axes: Axes) -> None:
        axes.step(curve.false_alarms, curve.sensitivity, where="post")
        axes.set(xlabel="false alarms for each study", ylabel="sensitivity", ylim=(0, 1.01))

    return _figure(f"{title}: FROC", draw)


def agreement_figure(title: str, unit: str, pairs: Sequence[Measured]) -> Figure:
    """Draw differences against means (Bland and Altman)."""
    mean = np.array([(one.said + one.truth) / 2 for one in pairs])
    off = np.array([one.said - one.truth for one in pairs])

    def draw(axes: Axes) -> None:
        axes.scatter(mean, off, s=20)
        deviation = off.std(ddof=1) if len(off) > 1 else 0.0
        for level in (-1.96, 0.0, 1.96):
            axes.axhline(off.mean() + level * deviation, color="0.5", linewidth=1)
        axes.set(xlabel=f"mean, {unit}", ylabel=f"said minus truth, {unit}")

    return _figure(f"{title}: Bland-Altman", draw)


def spread_figure(title: str, label: str, values: Sequence[float]) -> Figure:
    """Draw each study's value, sorted."""

    def draw(axes: Axes) -> None:
        axes.plot(np.sort(np.asarray(values)), marker="o", linestyle="")
        axes.set(xlabel="studies, sorted", ylabel=label)

    return _figure(title, draw)


def _figure(title: str, draw: Callable[[Axes], None]) -> Figure:
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 - half a second to import

    canvas = Canvas(figsize=(5.0, 4.0), dpi=120, layout="constrained")
    axes = canvas.add_subplot()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    written = io.BytesIO()
    canvas.savefig(written, format="png", metadata={"Software": ""})
    return Figure(title, written.getvalue())
