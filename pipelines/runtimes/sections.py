"""The sections of a ``pipeline.toml``, as types. ``docs/models.md`` lists every key in one table.

A key that is not known is refused, and so is a value that cannot be right: what a site meant and
what the node understood must be the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipelines.contract import Code


class Section(BaseModel):
    """A table of the file: closed, and never changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _code(value: Any) -> Any:
    if isinstance(value, Code):
        return value
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, str) for v in value)):
        raise ValueError('write a code as ["value", "scheme", "meaning"]')
    if any(not part.strip() or "\\" in part or not part.isprintable() for part in value):
        raise ValueError("no part of a code is empty or holds a backslash or control character")
    if len(value[1]) > 16 or len(value[2]) > 64:
        raise ValueError("a scheme has at most 16 characters and a meaning at most 64")
    return Code(*value)


def _orientation(value: Any) -> Any:
    letters = "".join(sorted(value)) if isinstance(value, str) else ""
    sides = [{"R", "L"}, {"A", "P"}, {"S", "I"}]
    good = len(letters) == 3 and all(len(set(letters) & side) == 1 for side in sides)
    if value != "as-acquired" and not good:
        raise ValueError(
            'write three letters that say where each axis of the array runs to, such as "RAS" '
            '(right, anterior, superior) or "SPL", or "as-acquired"'
        )
    return value


def _label(value: str) -> str:
    if not value.strip() or set(value) & set("\\|") or not value.isprintable():
        raise ValueError("a label is not blank and holds no backslash, | or control character")
    return value


LabelName = Annotated[str, Field(max_length=64), AfterValidator(_label)]
CodeTriple = Annotated[Code, BeforeValidator(_code)]
Orientation = Annotated[str, BeforeValidator(_orientation)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Pattern = str | tuple[str, ...]
Spacing = tuple[Positive, ...] | Literal["as-acquired"]


class Input(Section):
    """Which series the model is given, and in which form.

    Attributes:
        match: DICOM keyword -> pattern, as of any pipeline.
        series: Name -> patterns, where the model needs several series: its channels, in order.
        view: "volume" (three-dimensional), "slices" (each slice of a volume) or "images"
            (radiographs, and each frame of a clip).
        orientation: Where each axis of the network's array runs to. For slices the first axis
            counts the slices.
        spacing_mm: Between voxels along each axis of the network's array; two numbers, in the
            plane, for slices and images.
        size: The network takes exactly this many voxels along each axis ...
        fit: ... reached by padding and cropping around the middle, or by stretching.
        channels: 3 for networks that expect colour: grey is repeated.
        window: Values at and below the first become 0, at and above the second 1.
        normalisation: After the window, if there is one.
        region: Over which voxels the statistics are taken: all, those that are not 0, or those
            above a number.
        mean: Stated by the network's training instead of taken from the image, with ``std``.
        std: Ditto.
        percentiles: Which become 0 and 1 under "percentiles".
        scale_to: What 0 and 1 of a window, of "min-max" and "percentiles" become.
        patch: Voxels of one step of a sliding window; none: all at once.
        overlap: Of neighbouring windows.
        divisible_by: Without a patch: sizes are padded up to a multiple of this.
        batch: Patches, slices or frames that the network gets at once; none: one, or on a graphics
            card as many patches as fit, where that does not change the answers.
    """

    match: dict[str, Pattern] = {}
    series: dict[str, dict[str, Pattern]] = {}
    view: Literal["volume", "slices", "images"] = "volume"
    orientation: Orientation | None = None
    spacing_mm: Spacing | None = None
    size: tuple[Count, ...] = ()
    fit: Literal["pad", "stretch"] = "pad"
    channels: Literal[1, 3] = 1
    window: tuple[float, float] | None = None
    normalisation: Literal["none", "z-score", "min-max", "percentiles"] | None = None
    region: Literal["whole", "non-zero"] | float = "whole"
    mean: float | tuple[float, ...] | None = None
    std: Positive | tuple[Positive, ...] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    scale_to: tuple[float, float] = (0.0, 1.0)
    patch: tuple[Count, ...] = ()
    overlap: Annotated[float, Field(ge=0.0, le=0.9)] = 0.5
    divisible_by: Count = 1
    batch: Count = 1

    @property
    def dimensions(self) -> int:
        """Spatial axes of what the network is given."""
        return 3 if self.view == "volume" else 2

    @model_validator(mode="after")
    def _fits_together(self) -> Input:
        if bool(self.match) == bool(self.series):
            raise ValueError(
                'state which series: match = { Modality = "CT" }, or, for several, '
                "series.t1 = { ... } and series.flair = { ... }; not both"
            )
        for name in self.series:
            if not name.isidentifier():
                raise ValueError(f"series.{name}: use letters, digits and _ only")
        if self.view == "images" and self.orientation not in (None, "as-acquired"):
            raise ValueError('orientation: images lie in no patient axes; write "as-acquired"')
        if self.size and self.patch:
            raise ValueError("size or patch, not both: a fixed size needs no sliding window")
        for key in ("size", "patch", "spacing_mm"):
            given = getattr(self, key)
            if given and given != "as-acquired" and len(given) != self.dimensions:
                raise ValueError(
                    f'{key}: {self.dimensions} numbers, one for each axis of view = "{self.view}"'
                )
        return self

    @model_validator(mode="after")
    def _intensities_make_sense(self) -> Input:
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError("window = [lowest, highest]: the first must be the lower one")
        if not 0.0 <= self.percentiles[0] < self.percentiles[1] <= 100.0:
            raise ValueError("percentiles = [low, high], between 0 and 100")
        if self.scale_to[0] == self.scale_to[1]:
            raise ValueError("scale_to = [low, high]: two different numbers")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are stated together")
        if self.mean is not None and self.normalisation != "z-score":
            raise ValueError('mean and std are of normalisation = "z-score"')
        return self

    def problems(self) -> list[str]:
        """Return what a network needs stated that does its preparation with us."""
        found = []
        if self.view != "images" and self.orientation is None:
            found.append(
                'orientation: state where the axes of the network\'s array run to, such as "RAS"; '
                'a wrong guess would swap left and right. "as-acquired" if it does not matter'
            )
        if self.view != "images" and self.spacing_mm is None:
            found.append(
                "spacing_mm: state the voxel spacing that the network was trained at, such as "
                '[1.0, 1.0, 1.0], or "as-acquired" if it was trained at any'
            )
        if self.window is None and self.normalisation is None:
            found.append(
                "window or normalisation: state how voxel values become the network's, such as "
                'window = [-1000, 400], normalisation = "z-score", or normalisation = "none"'
            )
        return found


class Output(Section):
    """What the network's numbers mean.

    Attributes:
        activation: What turns them to probabilities; "none" where they are.
        threshold: From which probability on a label is there; not for "softmax", where the
            most probable label is taken.
        keep_largest: Of each label only the largest connected piece counts.
        minimum_ml: Smaller pieces do not count.
        pool: How the scores of slices, frames or windows become one.
    """

    activation: Literal["softmax", "sigmoid", "none"] | None = None
    threshold: Probability = 0.5
    keep_largest: bool = False
    minimum_ml: Annotated[float, Field(ge=0.0)] = 0.0
    pool: Literal["max", "mean"] = "max"


class Label(Section):
    """One thing that the network tells apart.

    Attributes:
        index: Its channel, class number or value in a label map.
        label: What the reader sees.
        category: Segmented property category, or category of the finding.
        property: What it is.
        colour: sRGB to draw it in.
        site: Where it is.
        laterality: "left" or "right".
        threshold: Instead of that of the output.
        indeterminate: Probabilities from the first on, below the second, are undecided.
        report_absent: The report says so if it is not there.
        normal: Its presence is no reason to look, like sinus rhythm.
        keep_largest: Instead of that of the output.
        minimum_ml: Ditto.
    """

    index: Annotated[int, Field(ge=0)]
    label: LabelName
    category: CodeTriple
    property: CodeTriple
    colour: tuple[
        Annotated[int, Field(ge=0, le=255)],
        Annotated[int, Field(ge=0, le=255)],
        Annotated[int, Field(ge=0, le=255)],
    ] = (230, 70, 60)
    site: CodeTriple | None = None
    laterality: Literal["left", "right"] | None = None
    threshold: Probability | None = None
    indeterminate: tuple[Probability, Probability] | None = None
    report_absent: bool = True
    normal: bool = False
    keep_largest: bool | None = None
    minimum_ml: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Label:
        if self.laterality and not self.site:
            raise ValueError("laterality: state the site, too: right or left of what")
        if self.indeterminate and not self.indeterminate[0] < self.indeterminate[1]:
            raise ValueError("indeterminate = [from, below]: the first must be the lower one")
        return self


class Detection(Section):
    """How the network writes boxes.

    Attributes:
        boxes: Two corners ("corners", such as xyxy and xyzxyz) or middle and size ("centre",
            such as cxcywh and cccwhd).
        first: Axis of the first coordinate: "rows-first" where it counts along the first axis of
            the network's array (MONAI), "columns-first" along the last (torchvision, YOLO).
        normalised: Coordinates are shares of the size instead of pixels.
        rows: One tensor with box, score, class in each row instead of one for each.
        overlap: Boxes of one class that share more than this (intersection over union) are one.
        smallest_px: Boxes smaller than this along any axis do not count.
    """

    boxes: Literal["corners", "centre"]
    first: Literal["rows-first", "columns-first"]
    normalised: bool = False
    rows: bool = False
    overlap: Probability = 0.3
    smallest_px: Annotated[float, Field(ge=0.0)] = 0.0


class Quantity(Section):
    """One number that the network estimates.

    Attributes:
        index: Its place in the output.
        name: What it is.
        unit: UCUM code.
        finding: What it is measured of.
        lowest: Below this the model could not look.
        highest: Ditto above.
        scale: The network's number times this ...
        offset: ... plus this is in the unit.
    """

    index: Annotated[int, Field(ge=0)]
    name: CodeTriple
    unit: Annotated[str, Field(min_length=1, max_length=16)]
    finding: CodeTriple
    lowest: float
    highest: float
    scale: float = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Quantity:
        if not self.lowest < self.highest:
            raise ValueError("lowest and highest: the range in which the number makes sense")
        return self


class WaveformInput(Section):
    """What part of a recording the network is given.

    Attributes:
        leads: Names of the leads, in the order of the channels.
        sampling_hz: Of the network's array.
        seconds: Length of one window.
        hop_s: From one window to the next; none: its length.
        unit: Of the network's array: "mV" or "uV".
        normalisation: Of each lead of each window.
    """

    leads: Annotated[tuple[str, ...], Field(min_length=1)]
    sampling_hz: Positive
    seconds: Positive
    hop_s: Positive | None = None
    unit: Literal["mV", "uV"] = "mV"
    normalisation: Literal["none", "z-score", "min-max"] = "none"
