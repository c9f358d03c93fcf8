"""Outlines, regions and labels as a Grayscale Softcopy Presentation State (PS3.3 A.33.1).

Built by hand: highdicom shows every image with square pixels. Coordinates need no change: both
the contract and PIXEL units count from the outer corner of the first pixel (PS3.3 C.10.5).
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import numpy as np
from highdicom.color import CIELabColor
from pydicom import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage
from pydicom.valuerep import DSfloat

from node.domain import Role
from node.encode import identity
from node.encode.draw.overlays import overlays
from node.encode.draw.window import spanning, stated
from node.encode.multiframe.images import image
from node.load.headers import rescale
from pipelines.contract import Graphic, Volume, Waveform
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from node.encode.draw.overlays import Overlay
    from node.encode.draw.window import Window
    from node.encode.multiframe.images import Image
    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Region, Result

MOST_ANNOTATIONS = 3000
"""Labels times images. Beyond it whole labels are left out, the last ones first: an outline
that is missing on some of its images would be read as the end of what it outlines."""

MOST_POINTS = 8000
"""Of one line: 8191 points are all that the length of a value holds (FL, PS3.5 7.1.2)."""

_GRAY_IMAGES = ("MONOCHROME1", "MONOCHROME2", "")


def encode_presentation(source: Source, result: Result, work: Work) -> Dataset | None:
    """Return a presentation state of the images that show something.

    Returns:
        None where nothing is drawn, on a waveform, and on colour images, which a grayscale
        presentation state may not refer to.
    """
    if isinstance(source.study, Waveform) or not _is_gray(source):
        return None
    everything = overlays(result, work)
    drawn = _within_budget(everything)
    if not drawn:
        return None
    shown = {
        index: image(source, index)
        for index in sorted({index for _, sizes in drawn for index in sizes})
    }
    layers = _layer_names([overlay.label for overlay, _ in drawn])
    dataset = Dataset()
    dataset.SOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    dataset.SOPInstanceUID = work.uid(Role.GSPS)
    dataset.SeriesInstanceUID = work.uid(f"{Role.GSPS}-series")
    dataset.Modality = "PR"
    dataset.Laterality = ""  # of paired parts, where the images do not say it themselves
    dataset.InstanceNumber = 1
    dataset.ContentLabel = "AI_FINDINGS"
    left_out = len(everything) - len(drawn)
    dataset.ContentDescription = (
        f"{left_out} more not drawn. Not for primary diagnosis." if left_out else NOT_FOR_DIAGNOSIS
    )
    dataset.ContentCreatorName = ""  # nobody; type 2
    dataset.ReferencedSeriesSequence = [_series(shown.values())]
    dataset.GraphicAnnotationSequence = [
        _annotation(overlay, index, shown[index], layer)
        for (overlay, sizes), layer in zip(drawn, layers, strict=True)
        for index in sizes
    ]
    dataset.GraphicLayerSequence = [
        _layer(overlay, name, order)
        for order, ((overlay, _), name) in enumerate(zip(drawn, layers, strict=True), start=1)
    ]
    dataset.DisplayedAreaSelectionSequence = [_displayed_area(source, next(iter(shown.values())))]
    _set_gray(dataset, source, tuple(shown.values()))
    identity.stamp(dataset, source.instances[0], work, Role.GSPS)
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    return dataset


def _is_gray(source: Source) -> bool:
    return str(source.instances[0].get("PhotometricInterpretation", "")) in _GRAY_IMAGES


def _within_budget(everything: Sequence[Overlay]) -> list[tuple[Overlay, dict[int, int]]]:
    """Return what is drawn, each with its images; the first always is."""
    drawn: list[tuple[Overlay, dict[int, int]]] = []
    count = 0
    for overlay in everything:
        sizes = overlay.sizes()
        if drawn and count + len(sizes) > MOST_ANNOTATIONS:
            break
        drawn.append((overlay, sizes))
        count += len(sizes)
    return drawn


def _layer_names(labels: Iterable[str]) -> list[str]:
    """Return a code string for each label (VR CS: 16 capitals, digits, blanks, underscores)."""
    names: list[str] = []
    for number, label in enumerate(labels, start=1):
        name = re.sub(r"[^A-Z0-9]+", "_", label.upper()).strip("_")[:16].strip("_")
        if not name or name in names:
            numbered = (f"{name[:11]}_{count}".lstrip("_") for count in itertools.count(number))
            name = next(one for one in numbered if one not in names)
        names.append(name)
    return names


def _layer(overlay: Overlay, name: str, order: int) -> Dataset:
    layer = Dataset()
    layer.GraphicLayer = name
    layer.GraphicLayerOrder = order
    layer.GraphicLayerDescription = overlay.label
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = 0xFFFF
    layer.GraphicLayerRecommendedDisplayCIELabValue = list(
        CIELabColor.from_rgb(*overlay.color).value
    )
    return layer


def _annotation(overlay: Overlay, index: int, on: Image, layer: str) -> Dataset:
    shapes = overlay.shapes(index)
    annotation = Dataset()
    annotation.ReferencedImageSequence = [on.reference()]
    annotation.GraphicLayer = layer
    annotation.TextObjectSequence = [_text(overlay, shapes, on.instance)]
    annotation.GraphicObjectSequence = [
        _graphic(overlay, shape.graphic, points)
        for shape in shapes
        for points in _pieces(shape.points)
    ]
    return annotation


def _pieces(points: tuple[tuple[float, float], ...]) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yield a long line as several, each beginning where the one before ends."""
    for start in range(0, max(1, len(points) - 1), MOST_POINTS - 1):
        yield points[start : start + MOST_POINTS]


def _graphic(
    overlay: Overlay, graphic: Graphic, points: tuple[tuple[float, float], ...]
) -> Dataset:
    drawn = Dataset()
    drawn.GraphicAnnotationUnits = "PIXEL"
    drawn.GraphicDimensions = 2
    drawn.NumberOfGraphicPoints = len(points)
    drawn.GraphicData = [float(value) for point in points for value in point]
    drawn.GraphicType = graphic.value
    if graphic is not Graphic.POINT and (graphic is not Graphic.POLYLINE or _is_closed(points)):
        drawn.GraphicFilled = "N"
    drawn.TrackingID = overlay.label
    drawn.TrackingUID = overlay.tracking_uid
    return drawn


def _is_closed(points: tuple[tuple[float, float], ...]) -> bool:
    return points[0] == points[-1]


def _text(overlay: Overlay, shapes: Sequence[Region], instance: Dataset) -> Dataset:
    """Return the label, in a box above what is drawn, or below where there is no room."""
    rows, columns = int(instance.Rows), int(instance.Columns)
    points = [point for shape in shapes for point in shape.points]
    top, bottom = min(row for _, row in points), max(row for _, row in points)
    left = min(column for column, _ in points)
    height = min(max(10.0, rows / 30.0), float(rows))
    width = min(0.7 * height * len(overlay.label), float(columns))
    upper = top - height if top >= height else min(bottom, rows - height)
    left = max(0.0, min(left, columns - width))
    text = Dataset()
    text.BoundingBoxAnnotationUnits = "PIXEL"
    text.UnformattedTextValue = overlay.label
    text.BoundingBoxTopLeftHandCorner = [left, upper]
    text.BoundingBoxBottomRightHandCorner = [left + width, upper + height]
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    text.TrackingID = overlay.label
    text.TrackingUID = overlay.tracking_uid
    return text


def _series(shown: Iterable[Image]) -> Dataset:
    """Return what the state refers to; the frames of one instance in one item."""
    items: dict[str, Dataset] = {}
    for one in shown:
        item = items.setdefault(str(one.instance.SOPInstanceUID), one.reference())
        if one.frame_number is not None:
            earlier = item.ReferencedFrameNumber
            numbers = list(earlier) if item["ReferencedFrameNumber"].VM > 1 else [earlier]
            item.ReferencedFrameNumber = sorted({*map(int, numbers), one.frame_number})
        series_uid = one.instance.SeriesInstanceUID
    series = Dataset()
    series.SeriesInstanceUID = series_uid
    series.ReferencedImageSequence = list(items.values())
    return series


def _displayed_area(source: Source, one: Image) -> Dataset:
    """Return the whole image, its pixels as wide and high as they are (PS3.3 C.10.4)."""
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [
        int(one.instance.Columns),
        int(one.instance.Rows),
    ]
    area.PresentationSizeMode = "SCALE TO FIT"
    spacing_mm = source.study.spacing_mm  # type: ignore[union-attr]
    if spacing_mm is not None:
        area.PresentationPixelSpacing = [_decimal(value) for value in spacing_mm[-2:]]
    else:
        area.PresentationPixelAspectRatio = one.first("PixelAspectRatio") or [1, 1]
    return area


def _set_gray(dataset: Dataset, source: Source, shown: Sequence[Image]) -> None:
    """State how values become grey: as the images say, for the state overrides them all.

    One rescale holds for all images of a state (PS3.3 C.11.1). Where they differ, there is
    none, and each image's window is in its stored values.
    """
    header = shown[0].instance
    inverse = header.get("PhotometricInterpretation") == "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    rescales = [rescale(one.description) for one in shown]
    shared = len(set(rescales)) == 1
    if "ModalityLUTSequence" in header:
        dataset.ModalityLUTSequence = header.ModalityLUTSequence
    elif shared:
        slope, intercept = rescales[0]
        dataset.RescaleIntercept, dataset.RescaleSlope = _decimal(intercept), _decimal(slope)
        unit = "HU" if header.get("Modality") == "CT" else "US"
        dataset.RescaleType = shown[0].first("RescaleType") or unit
    together: dict[Window, list[Image]] = {}
    for one, found, (slope, intercept) in zip(
        shown, _windows(source, shown, mirrored=inverse), rescales, strict=True
    ):
        if found is not None:
            window = found if shared else found.before(slope, intercept)
            together.setdefault(window, []).append(one)
    if together:
        everywhere = len(together) == 1
        dataset.SoftcopyVOILUTSequence = [
            _voi(window, () if everywhere else images) for window, images in together.items()
        ]


def _windows(source: Source, shown: Sequence[Image], *, mirrored: bool) -> list[Window | None]:
    """Return each image's window; one that spans all values where its header has none.

    The reader has mirrored the values of MONOCHROME1 images, so that theirs tell no window.
    """
    windows = [stated(one) for one in shown]
    if mirrored or None not in windows or isinstance(source.study, Waveform):
        return windows
    study = source.study
    values = study.voxels if isinstance(study, Volume) else study.frames
    spanned = spanning(values.astype(np.float32, copy=False))
    return [window or spanned for window in windows]


def _voi(found: Window, images: Sequence[Image]) -> Dataset:
    """Return a window, and the images it is for; for all where none is named."""
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = _decimal(found.center), _decimal(found.width)
    if found.function != "LINEAR":
        voi.VOILUTFunction = found.function
    if images:
        voi.ReferencedImageSequence = [one.reference() for one in images]
    return voi


def _decimal(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)
