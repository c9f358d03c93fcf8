"""The few images, or the stretch of a recording, that show best what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from node.encode.draw import window
from node.encode.draw.heat import drawn_maps, heat_views, most_telling
from node.encode.multiframe.images import image
from pipelines.contract import Images, Volume, Waveform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from node.encode.draw.overlays import Color, Overlay
    from node.encode.multiframe.images import Image
    from node.load.source import Source
    from pipelines.contract import MultiplexGroup, ParametricMap, Region, Result

MOST_VIEWS = 6
MOST_LEADS = 12
STRIP_S = 10.0
_SMALL = 1 / 8
"""A region of less than this share of the image is enlarged ..."""
_CONTEXT = 0.4
"""... to a part of the image of at least this share."""

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""Along x, y and z of the patient, towards plus and minus (PS3.3 C.7.6.1.1.1)."""
_OPPOSITE = str.maketrans("LRPAHF", "RLAPFH")
_MILLIVOLTS = {"uV": 0.001, "mV": 1.0, "V": 1000.0}


@dataclass(frozen=True)
class View:
    """One image with what is drawn on it.

    Attributes:
        pixels: uint8, shape (rows, columns), or (rows, columns, 3) for colour.
        pixel_aspect: Height of a pixel over its width.
        shapes: What is drawn, each in its colour.
        labels: Of what is drawn, with their colours.
        caption: Which image it is.
        left: Letters of the patient's side at the left edge; empty if not known.
        top: Ditto, at the top edge.
        part: Columns from and to, rows from and to, that are shown.
    """

    pixels: npt.NDArray[np.uint8]
    pixel_aspect: float
    shapes: tuple[tuple[Color, Region], ...]
    labels: tuple[tuple[Color, str], ...]
    caption: str
    left: str
    top: str
    part: tuple[float, float, float, float]


@dataclass(frozen=True)
class Lead:
    """One channel: its name, its values about their median, where it is marked, in seconds."""

    label: str
    values: npt.NDArray[np.float32]
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Strip:
    """A stretch of a recording.

    Attributes:
        seconds: Of each sample.
        leads: With a value for each of these; in millivolts where ``unit`` says so.
        unit: ``mV``, or empty where the channels have other units.
    """

    seconds: npt.NDArray[np.float64]
    leads: tuple[Lead, ...]
    unit: str


def views(
    source: Source, drawn: Sequence[Overlay], maps: Sequence[ParametricMap] = ()
) -> tuple[View, ...]:
    """Return at most ``MOST_VIEWS`` views, in the order of the images; maps over them last."""
    study = source.study
    if isinstance(study, Waveform):
        return ()
    values = source.on_images(study.voxels) if isinstance(study, Volume) else study.frames
    sizes = [overlay.sizes() for overlay in drawn]
    otherwise = None if values.ndim == 4 else window.spanning(values.astype(np.float32, copy=False))
    maps = drawn_maps(study, maps)
    chosen = list(dict.fromkeys([*most_telling(maps), *_chosen(study, sizes)]))
    kept = sorted(chosen[: max(1, MOST_VIEWS - len(maps))])
    plain = tuple(
        _view(
            image(source, index),
            _pixels(image(source, index), values[index], otherwise),
            (study.spacing_mm or (1.0, 1.0))[-2:],
            [
                (overlay, overlay.shapes(index))
                for overlay, on in zip(drawn, sizes, strict=True)
                if index in on
            ],
        )
        for index in kept
    )
    heated = heat_views(study, maps, tuple(zip(kept, plain, strict=True)))
    return (*plain, *heated)[:MOST_VIEWS]


def _chosen(study: Volume | Images, sizes: Sequence[Mapping[int, int]]) -> list[int]:
    """Return which images are shown: of each thing the one that it is largest on, then more."""
    largest = [max(on, key=lambda index: (on[index], -index)) for on in sizes if on]
    marked = [index for on in sizes for index, pixels in on.items() if not pixels]
    chosen = list(dict.fromkeys([*largest, *marked]))
    if len(chosen) < 2:
        spread = sorted(sizes[0]) if sizes else range(study.shape[0])
        quarters = (
            spread[len(spread) * quarter // 4] for quarter in ((1, 3), (1, 2, 3))[not chosen]
        )
        chosen = list(dict.fromkeys([*chosen, *quarters]))
    return chosen[:MOST_VIEWS]


def _pixels(
    one: Image, values: npt.NDArray[np.float32] | npt.NDArray[np.uint8], otherwise: object
) -> npt.NDArray[np.uint8]:
    if not isinstance(otherwise, window.Window):
        return values.astype(np.uint8, copy=False)
    # The reader has mirrored the values of a MONOCHROME1 image, but not its window.
    mirrored = one.instance.get("PhotometricInterpretation") == "MONOCHROME1"
    shown = otherwise if mirrored else window.stated(one) or otherwise
    return shown.gray(values.astype(np.float32, copy=False))


def _view(
    one: Image,
    pixels: npt.NDArray[np.uint8],
    spacing_mm: Sequence[float],
    drawn: Iterable[tuple[Overlay, tuple[Region, ...]]],
) -> View:
    shapes = tuple((overlay.color, shape) for overlay, found in drawn for shape in found)
    left, top = _orientation(one)
    rows, columns = pixels.shape[:2]
    part = _part(rows, columns, [point for _, shape in shapes for point in shape.points])
    number = one.first("InstanceNumber") if one.frame_number is None else one.frame_number
    caption = f"{'Image' if one.frame_number is None else 'Frame'} {number or ''}".strip()
    enlarged = columns / (part[1] - part[0])
    return View(
        pixels=pixels,
        pixel_aspect=float(spacing_mm[0]) / float(spacing_mm[1]),
        shapes=shapes,
        labels=tuple((overlay.color, overlay.label) for overlay, _ in drawn),
        caption=f"{caption}, {enlarged:.1f}x" if enlarged > 1.05 else caption,
        left=left,
        top=top,
        part=part,
    )


def _part(
    rows: int, columns: int, points: Sequence[tuple[float, float]]
) -> tuple[float, float, float, float]:
    """Return the whole image, or the surroundings of what is small on it."""
    if not points:
        return (0.0, float(columns), 0.0, float(rows))
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    share = float(np.max((high - low) / (columns, rows)))
    if share >= _SMALL:
        return (0.0, float(columns), 0.0, float(rows))
    size = max(_CONTEXT, 3.0 * share) * np.array([columns, rows])
    start = np.clip((low + high - size) / 2.0, 0.0, (columns, rows) - size)
    (left, top), (right, bottom) = start.tolist(), (start + size).tolist()
    return (left, right, top, bottom)


def _orientation(one: Image) -> tuple[str, str]:
    """Return the patient's side at the left edge and at the top edge, as viewers print it."""
    cosines = one.first("ImageOrientationPatient")
    if cosines:
        along = np.array(cosines, dtype=np.float64).reshape(2, 3)
        return _side(-along[0]), _side(-along[1])
    towards = one.first("PatientOrientation") or ("", "")
    if isinstance(towards, str) or len(towards) != 2:  # type: ignore[arg-type]
        return "", ""
    left, top = (str(side).translate(_OPPOSITE) for side in towards)  # type: ignore[attr-defined]
    return left, top


def _side(direction: npt.NDArray[np.float64]) -> str:
    """Return the letters of a direction, the strongest first; weak ones are left out."""
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(
        _LETTERS[axis][0 if direction[axis] > 0 else 1]
        for axis in order[:2]
        if abs(direction[axis]) > 0.2
    )


def strip(source: Source, result: Result) -> Strip | None:
    """Return the stretch that shows the first marked span; None where there is no recording."""
    if not isinstance(source.study, Waveform) or not source.study.groups:
        return None
    spans = [span for finding in result.findings for span in finding.spans]
    groups = source.study.groups
    group = next(
        (one for one in groups if spans and one.number == spans[0].group),
        max(groups, key=lambda one: one.duration_s),
    )
    spans = [span for span in spans if span.group == group.number]
    start_s = min((span.start_s for span in spans), default=0.0)
    start_s = max(0.0, min(start_s - 1.0, group.duration_s - STRIP_S))
    first, last = (round(at * group.sampling_hz) for at in (start_s, start_s + STRIP_S))
    channels = _channels(group, {span.channel for span in spans})
    scales = [_MILLIVOLTS.get(group.channels[number - 1].unit) for number in channels]
    known = None not in scales
    leads = []
    for number, scale in zip(channels, scales, strict=True):
        values = group.samples[number - 1, first:last] * np.float32((scale or 1.0) if known else 1)
        middle = np.nanmedian(values) if np.isfinite(values).any() else 0.0
        marked = tuple((one.start_s, one.end_s) for one in spans if one.channel == number)
        leads.append(Lead(_name(group, number), (values - middle).astype(np.float32), marked))
    count = leads[0].values.size
    seconds = (first + np.arange(count)) / group.sampling_hz
    return Strip(seconds, tuple(leads), "mV" if known else "")


def _channels(group: MultiplexGroup, marked: set[int]) -> list[int]:
    """Return the channels that are shown: marked ones, then II and V1, then the first others."""
    everything = range(1, len(group.channels) + 1)
    rhythm = [number for number in everything if _name(group, number) in ("II", "V1")]
    chosen = list(dict.fromkeys([*sorted(marked), *rhythm, *everything]))[:MOST_LEADS]
    return sorted(chosen)


def _name(group: MultiplexGroup, number: int) -> str:
    channel = group.channels[number - 1]
    return (channel.label or channel.source.meaning).removeprefix("Lead ").split(" (")[0]
