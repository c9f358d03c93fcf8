"""What the outlines of a clip amount to: measurements, drawings and a chart."""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines import codes
from pipelines.contract import (
    Chart,
    CouldNotLook,
    Curve,
    Finding,
    Graphic,
    Measurement,
    Region,
    Result,
    Segment,
)
from pipelines.echo_lv.codes import (
    END_DIASTOLE,
    END_SYSTOLE,
    FOUR_CHAMBER,
    HEART_RATE,
    LEFT_VENTRICLE,
    LENGTH_4C,
)
from pipelines.echo_lv.discs import Measured, method_of_discs
from pipelines.outline import enclosed_area

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.contract import Code, Images
    from pipelines.echo_lv.codes import Names
    from pipelines.echo_lv.cycle import Beat, Cycle
    from pipelines.outline import Points

LABEL = "Left ventricle"
_ML_PER_MM3 = 0.001
_LARGEST_ML = 1000.0
_POSSIBLE = (3.0, 92.0)
"""Per cent: an ejection fraction beyond is a fault of the outlines."""


class Ventricle(NamedTuple):
    """Everything that was read from a clip.

    Attributes:
        clip: As it came.
        names: Of the measurements of its view.
        masks: bool, shape of the clip.
        outlines: Frame -> closed outline.
        cycle: Its beats.
    """

    clip: Images
    names: Names
    masks: npt.NDArray[np.bool_]
    outlines: dict[int, Points]
    cycle: Cycle


def result(ventricle: Ventricle) -> Result:
    """Return what is reported: of several beats the one of median ejection fraction.

    Raises:
        CouldNotLook: The numbers are none that a heart can have.
    """
    clip, names, _, _, cycle = ventricle
    measured = {
        at: method_of_discs(outline, clip.spacing_mm) for at, outline in ventricle.outlines.items()
    }
    by_beat = {beat: _ejection_fraction(measured, beat, ventricle) for beat in cycle.beats}
    middle = median_low(by_beat.values())
    beat = next(one for one, fraction in by_beat.items() if fraction == middle)
    if not _POSSIBLE[0] <= middle <= _POSSIBLE[1]:
        raise CouldNotLook(
            f"The outlines give an ejection fraction of {middle:.0f} %, which no heart has."
        )
    largest = measured[_nearest(ventricle, beat.diastole)].volume * _ML_PER_MM3
    if clip.spacing_mm is not None and largest > _LARGEST_ML:
        raise CouldNotLook("The outlines are larger than any heart; the calibration may be wrong.")
    findings = (
        Finding(
            LEFT_VENTRICLE,
            category=codes.ANATOMICAL_STRUCTURE,
            segment=LABEL,
            measurements=tuple(_of_beat(ventricle, middle)),
            normal=True,
        ),
        _moment(ventricle, END_DIASTOLE, beat.diastole, measured, names.end_diastolic_volume),
        _moment(ventricle, END_SYSTOLE, beat.systole, measured, names.end_systolic_volume),
    )
    segment = Segment(LABEL, codes.ANATOMICAL_STRUCTURE, LEFT_VENTRICLE, ventricle.masks)
    notes = tuple(_notes(ventricle, list(by_beat.values())))
    return Result(findings, (segment,), notes, charts=(_chart(ventricle, measured, beat),))


def _nearest(ventricle: Ventricle, frame: int) -> int:
    return min(ventricle.outlines, key=lambda one: abs(one - frame))


def _ejection_fraction(measured: dict[int, Measured], beat: Beat, ventricle: Ventricle) -> float:
    """Return per cent; pixels that are square need no size for that."""
    full, empty = (measured[_nearest(ventricle, frame)].volume for frame in beat)
    return 100.0 * (full - empty) / full


def _of_beat(ventricle: Ventricle, ejection_fraction: float) -> list[Measurement]:
    found = [Measurement(ventricle.names.ejection_fraction, ejection_fraction, "%")]
    times, cycle = ventricle.clip.times_s, ventricle.cycle
    if times and not cycle.by_header:
        seconds = cycle.period * float(np.median(np.diff(times)))
        found.append(Measurement(HEART_RATE, 60.0 / seconds, "/min"))
    return found


def _moment(
    ventricle: Ventricle,
    moment: Code,
    frame: int,
    measured: dict[int, Measured],
    name: Code,
) -> Finding:
    """Return one of the two frames with its outline, and its volume; else its area in pixels."""
    shown = _nearest(ventricle, frame)
    points = tuple((float(x), float(y)) for x, y in ventricle.outlines[shown])
    numbers = []
    if ventricle.clip.spacing_mm is not None:
        numbers.append(Measurement(name, measured[shown].volume * _ML_PER_MM3, "mL"))
        if moment == END_DIASTOLE and ventricle.names is FOUR_CHAMBER:
            numbers.append(Measurement(LENGTH_4C, measured[shown].length / 10.0, "cm"))
    else:
        area_px = enclosed_area(ventricle.outlines[shown])
        numbers.append(Measurement(codes.AREA, area_px, "{pixels}"))
    return Finding(
        moment,
        measurements=tuple(numbers),
        regions=(Region(shown, Graphic.POLYLINE, points),),
        normal=True,
    )


def _chart(ventricle: Ventricle, measured: dict[int, Measured], beat: Beat) -> Chart:
    clip = ventricle.clip
    frames = clip.shape[0]
    x = np.array(clip.times_s or np.arange(1, frames + 1), np.float64)
    volume = np.full(frames, np.nan)
    for frame, one in measured.items():
        volume[frame] = one.volume
    known = clip.spacing_mm is not None
    y = volume * _ML_PER_MM3 if known else 100.0 * volume / volume[_nearest(ventricle, beat[0])]
    return Chart(
        "Left ventricular volume over the clip",
        "Time (s)" if clip.times_s else "Frame",
        "Volume (mL)" if known else "Volume (% of end diastole)",
        (Curve("Method of discs", x, y),),
        ((float(x[beat.diastole]), "ED"), (float(x[beat.systole]), "ES")),
    )


def _notes(ventricle: Ventricle, fractions: list[float]) -> list[str]:
    notes = [
        "One plane only: a ventricle whose walls move or bulge unequally has another volume.",
        "Whether the view is foreshortened was not checked.",
    ]
    if ventricle.clip.spacing_mm is None:
        notes.append(
            "The size of the pixels is not known for certain, so there are no volumes in mL."
        )
    if not ventricle.names.view:
        notes.append(
            "The header does not name the view; an apical four- or two-chamber view is assumed."
        )
    if len(fractions) > 1:
        each = ", ".join(f"{one:.0f}" for one in fractions)
        notes.append(f"Ejection fraction of each beat: {each} %. The median is reported.")
    if ventricle.cycle.by_header:
        notes.append("The length of a beat was taken from the header's heart rate.")
    lost = ventricle.clip.shape[0] - len(ventricle.outlines)
    if lost:
        notes.append(f"The ventricle was not outlined in {lost} of the frames.")
    return notes
