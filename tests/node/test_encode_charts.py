"""Charts, and maps of radiographs, in the picture and the document of a result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.encode.contradictions import contradictions
from node.encode.draw import content, heat, render
from node.encode.draw.page import Page
from node.encode.objects import encode
from node.encode.pdf import encode_pdf
from node.encode.write import write
from node.errors import GateClosed
from pipelines.contract import Chart, Code, Curve, ParametricMap, Result
from tests.node import shown
from tests.node.test_encode_picture import pages_of
from tests.sr_templates import made

TIMES = np.linspace(0.0, 0.8, 41)
WAVE = Curve("Outlined", TIMES, 80.0 + 40.0 * np.cos(2.0 * np.pi * TIMES / 0.8))
CHART = Chart("Volume", "Time (s)", "Volume (mL)", (WAVE,), ((0.0, "ED"), (0.4, "ES")))
BLUE = (79, 155, 235)


@pytest.fixture
def written(monkeypatch):
    """All text that is drawn: where, and which words."""
    texts = []
    draw = Page.text

    def record(self, place, text, size, color=None, *, bold=False):
        texts.append((*place, text))
        draw(self, place, text, size, color, bold=bold)

    monkeypatch.setattr(Page, "text", record)
    return texts


def picture(source, result):
    return render.picture(content.content(source, result, made.work()))


def curve_pixels(pixels, color=BLUE):
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - color).max(axis=2) < 25)
    return rows, columns


def test_a_chart_says_of_what_it_is_and_what_is_marked(written):
    picture(shown.clip(), Result(charts=(CHART,)))
    said = {text for _, _, text in written}
    assert {"Volume", "Time (s)", "Volume (mL)", "ED", "ES", "0.4", "100"} <= said


def test_a_curve_is_drawn_where_its_numbers_are(written):
    pixels = picture(shown.clip(), Result(charts=(CHART,)))
    rows, columns = curve_pixels(pixels)
    upright = {text: y for _, y, text in written if text in ("50", "100")}
    per_ml = (upright["50"] - upright["100"]) / 50.0
    assert np.ptp(rows) / per_ml == pytest.approx(80.0, abs=5.0)  # a line is 2 pixels wide
    middle = (columns.min() + columns.max()) / 2.0
    lowest = columns[rows >= rows.max() - 1].mean()
    assert lowest == pytest.approx(middle, abs=0.02 * np.ptp(columns))  # at 0.4 of 0.8 s


def test_a_gap_in_a_curve_stays_a_gap():
    broken = WAVE.y.copy()
    broken[15:26] = np.nan
    pixels = picture(
        shown.clip(), Result(charts=(replace(CHART, curves=(replace(WAVE, y=broken),)),))
    )
    _, columns = curve_pixels(pixels)
    share = (np.unique(columns) - columns.min()) / np.ptp(columns)
    assert not ((share > 0.38) & (share < 0.62)).any()


def test_several_curves_have_their_names(written):
    second = replace(WAVE, label="Smoothed")
    picture(shown.clip(), Result(charts=(replace(CHART, curves=(WAVE, second)),)))
    assert {"Outlined", "Smoothed"} <= {text for _, _, text in written}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_charts_leave_room_for_words_and_lie_on_the_page(written, count):
    charts = tuple(replace(CHART, title=f"Chart {number}") for number in range(count))
    picture(made.ecg(), replace(made.rhythm(), charts=charts))
    places = {text: (x, y) for x, y, text in written}
    assert len([text for text in places if text.startswith("Chart ")]) == count
    assert all(0.0 <= x < 1024.0 and 0.0 < y < 1024.0 for x, y, _ in written)
    assert "Atrial Fibrillation:" in places


def test_a_document_has_the_chart_too_and_the_same_bytes_each_time(tmp_path):
    result = replace(made.rhythm(), charts=(CHART,))
    document = encode_pdf(made.ecg(), result, made.work("ecg_report"))
    assert "Volume (mL)" in pages_of(document, tmp_path)
    again = encode_pdf(made.ecg(), result, made.work("ecg_report"))
    write(document, tmp_path / "a.dcm")
    write(again, tmp_path / "b.dcm")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


@pytest.mark.parametrize("flat", [np.full(41, 7.0), np.full(41, np.nan)])
def test_a_curve_of_one_value_or_of_none_is_drawn_all_the_same(flat):
    curve = replace(WAVE, y=flat)
    assert picture(shown.clip(), Result(charts=(replace(CHART, curves=(curve,), marks=()),))).any()


@pytest.mark.parametrize(
    ("charts", "why"),
    [
        ((CHART, CHART), "same label"),
        (tuple(replace(CHART, title=str(one)) for one in range(5)), "5 charts"),
        ((replace(CHART, title=" "),), "title"),
        ((replace(CHART, x_title=""),), "without a name"),
        ((replace(CHART, curves=(replace(WAVE, label="\x07"),)),), "without a name"),
        ((replace(CHART, marks=((0.1, ""),)),), "without a name"),
        ((replace(CHART, marks=((np.nan, "ED"),)),), "nowhere"),
        ((replace(CHART, curves=()),), "no curve"),
        ((replace(CHART, curves=(replace(WAVE, x=TIMES[:-1]),)),), "as many"),
        ((replace(CHART, curves=(Curve("none", TIMES[:0], TIMES[:0]),)),), "empty"),
        ((replace(CHART, curves=(replace(WAVE, x=TIMES * np.nan),)),), "numbers that are none"),
        ((replace(CHART, curves=(replace(WAVE, y=TIMES + np.inf),)),), "numbers that are none"),
    ],
)
def test_a_chart_that_cannot_be_read_closes_the_gate(charts, why):
    result = Result(charts=charts)
    (problem,) = contradictions(made.classic(), result, "measurement_report")
    assert why in problem
    with pytest.raises(GateClosed):
        encode(made.classic(), result, made.work())


def heat_map(source, row, column):
    values = np.zeros(source.study.shape, np.float32)
    values[0, row - 3 : row + 4, column - 3 : column + 4] = 0.8
    return ParametricMap("Suspicion", Code("SUSPICION", "99TEST", "Suspicion"), "1", values)


def test_a_map_of_a_radiograph_is_laid_over_it_where_it_is_high():
    source = shown.radiograph()
    one = heat_map(source, 20, 40)
    found = content.content(source, Result(maps=(one,)), made.work()).views
    plain, heated = found
    assert heated.caption == "Suspicion, highest 0.8"
    changed = np.abs(heated.pixels.astype(int) - plain.pixels[..., np.newaxis]).max(axis=2) > 20
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == (17, 23)
    assert (columns.min(), columns.max()) == (37, 43)


def test_an_empty_map_and_that_of_a_volume_are_not_drawn():
    source = shown.radiograph()
    nothing = replace(heat_map(source, 20, 40), values=np.zeros(source.study.shape, np.float32))
    assert len(content.content(source, Result(maps=(nothing,)), made.work()).views) == 1
    volume = made.classic()
    assert heat.heat_views(volume.study, (nothing,), ()) == ()
