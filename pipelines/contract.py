"""What a pipeline sees and what it gives back: arrays, geometry, codes. Nothing else.

A pipeline is one function, ``run``. It never meets a socket, a queue, a database, a PACS or
a configuration file; the node does that on both sides of it. A result that breaks a rule stated
here is not published, and its job fails with the reasons.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Patterns = Mapping[str, str | tuple[str, ...]]
"""DICOM keyword -> pattern, or alternatives of which one must match."""


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 section 8): value, scheme designator and meaning.

    With the meaning of PS3.16 or of ``codes.OUTSIDE_PS3_16``, unless the scheme is private
    (``99...``). None is empty or has a backslash or control character; a scheme has at most 16
    characters, a meaning 64.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Grid:
    """A regular grid in the patient coordinate system (LPS, millimetres; PS3.3 C.7.6.2.1.1).

    Attributes:
        shape: Number of (slices, rows, columns).
        origin_mm: Position (x, y, z) of the centre of voxel [0, 0, 0].
        axes: Unit vectors (x, y, z) along which the (slice, row, column) index grows.
        spacing_mm: Distance between voxel centres along (slice, row, column).
    """

    shape: tuple[int, int, int]
    origin_mm: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    spacing_mm: tuple[float, float, float]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4 matrix from (slice, row, column, 1) to (x, y, z, 1) in millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.axes).T * np.array(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return prod(self.spacing_mm) / 1000.0


@dataclass(frozen=True)
class Volume:
    """One image series on a regular grid; of sheared slices, moved onto it.

    Attributes:
        voxels: float32, shape ``grid.shape``, after the modality's rescale (HU for CT).
        grid: Where the voxels are in the patient.
        attributes: Technical attributes of the series by DICOM keyword, as text (multiple
            values joined with a backslash). Never anything that identifies a patient.
    """

    voxels: npt.NDArray[np.float32]
    grid: Grid
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns): the shape of a mask on this volume."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column)."""
        return self.grid.spacing_mm


@dataclass(frozen=True)
class Images:
    """Images that make no volume: a radiograph, or the frames of an ultrasound clip.

    Attributes:
        frames: float32, shape (frames, rows, columns), after the modality's rescale, higher is
            brighter; for colour uint8 RGB, shape (frames, rows, columns, 3).
        spacing_mm: Distance between pixel centres along (row, column) index, for a radiograph
            that was not calibrated that at the detector; None where there is none.
        times_s: Of each frame, from the first; empty where the object does not tell.
        attributes: As in ``Volume``.
    """

    frames: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None
    times_s: tuple[float, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (frames, rows, columns): the shape of a mask on these images."""
        frames, rows, columns = self.frames.shape[:3]
        return (frames, rows, columns)


@dataclass(frozen=True)
class Channel:
    """One channel of a waveform: its coded source (a lead, for an ECG) and its UCUM unit."""

    source: Code
    label: str
    unit: str


@dataclass(frozen=True)
class MultiplexGroup:
    """Channels sampled together (PS3.3 C.10.9).

    Attributes:
        number: 1-based item number in the Waveform Sequence, as SRs refer to it.
        sampling_hz: Samples per second of each channel.
        channels: In the object's order; channel ``n`` of an SR reference is ``channels[n - 1]``.
        samples: float32, shape (channels, samples), in each channel's unit: baseline,
            sensitivity and correction factor applied; NaN where the object says padding.
        original: False for derived groups such as a median beat.
    """

    number: int
    sampling_hz: float
    channels: tuple[Channel, ...]
    samples: npt.NDArray[np.float32]
    original: bool = True

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return float(self.samples.shape[1]) / self.sampling_hz


@dataclass(frozen=True)
class Waveform:
    """One waveform instance: its multiplex groups, and technical attributes as in ``Volume``."""

    groups: tuple[MultiplexGroup, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


Study = Volume | Images | Waveform
"""What a pipeline may be given."""


class Presence(enum.Enum):
    """Whether the model found what it looked for."""

    PRESENT = "present"
    ABSENT = "absent"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True)
class Measurement:
    """One number with its name and UCUM unit, for example 1520.3 ``mL``.

    Attributes:
        name: What was measured.
        value: The number, finite. A ``codes.VOLUME`` is recounted from the segment's voxels, to
            a relative 1e-6, whatever its method; above 0 it needs a segment in a ``Volume``.
        unit: UCUM code (``mL``, ``ms``, ``/min``, ``mV``, ``%``, ``1``).
        method: How, when PS3.16 has a code for it.
        lowest: Bounds of a 95 % interval around the value, when the pipeline knows one.
        highest: Ditto.
        derivation: Which statistic of many values it is (CID 7464: mean, standard deviation).
    """

    name: Code
    value: float
    unit: str
    method: Code | None = None
    lowest: float | None = None
    highest: float | None = None
    derivation: Code | None = None


@dataclass(frozen=True)
class WaveformSpan:
    """A stretch of one channel of a multiplex group, in seconds from its first sample."""

    group: int
    channel: int
    start_s: float
    end_s: float


class Graphic(enum.Enum):
    """Shapes of PS3.3 C.18.6.1.2 that viewers draw."""

    POINT = "POINT"
    POLYLINE = "POLYLINE"
    """Closed where the last point repeats the first."""
    CIRCLE = "CIRCLE"
    """Centre, then a point on it."""
    ELLIPSE = "ELLIPSE"
    """The ends of the major axis, then those of the minor axis."""


@dataclass(frozen=True)
class Region:
    """A shape drawn on one image of the study.

    Attributes:
        image: Index of the slice or frame, from 0.
        graphic: Which shape.
        points: (column, row) of each; (0, 0) is the outer corner of the first pixel, whose
            centre is at (0.5, 0.5).
    """

    image: int
    graphic: Graphic
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Finding:
    """One thing the model says about the study.

    Findings of one segment, or of one tracking UID, are about one thing: they do not differ in
    concept, presence, confidence, or the value of one quantity.

    Attributes:
        finding: What it is about.
        presence: Found, looked for and not found, or undecided.
        category: Its category, for findings with a place (CID 7150 and relatives).
        site: Where, when known.
        laterality: Right or left, when there is a site and it has sides.
        confidence: The model's own probability in 0..1, or None: of the presence stated, so for
            an absent finding that it is absent; if undecided, that it is present. Not calibrated
            unless the model card says so.
        segment: Label of the ``Segment`` that outlines it, if any. Its property is ``finding``;
            it has a voxel if the finding is present, and none if that is absent.
        measurements: What was measured of it.
        regions: Where it is drawn on the images, for findings without a segment.
        spans: Where in a waveform it is.
        normal: It is as it should be, like sinus rhythm: its presence is no reason to look. The
            job says "nothing found" where everything present is normal.
        tracking_uid: Of the same finding in an earlier study; empty: its segment's, or it is new.
            A UID (PS3.5 section 9.1); if it has a segment, that one states it, too.
    """

    finding: Code
    presence: Presence = Presence.PRESENT
    category: Code | None = None
    site: Code | None = None
    laterality: Code | None = None
    confidence: float | None = None
    segment: str | None = None
    measurements: tuple[Measurement, ...] = ()
    regions: tuple[Region, ...] = ()
    spans: tuple[WaveformSpan, ...] = ()
    normal: bool = False
    tracking_uid: str = ""


@dataclass(frozen=True)
class Segment:
    """One labelled region on the grid of the volume, or the images, the pipeline was given.

    Attributes:
        label: Name the reader sees, unique among segments. 1 to 64 characters, not only blanks;
            no backslash, ``|`` or control character.
        category: Segmented property category (CID 7150).
        property: Segmented property type.
        mask: bool, shape of the volume's grid or of the images.
        color: sRGB 0..255 to draw it in.
        tracking_uid: Of the same region in an earlier study; empty: it is new. No other segment's.
    """

    label: str
    category: Code
    property: Code
    mask: npt.NDArray[np.bool_]
    color: tuple[int, int, int] = (230, 70, 60)
    tracking_uid: str = ""


@dataclass(frozen=True)
class ParametricMap:
    """One number for each voxel, like a probability or what the model looked at.

    Attributes:
        label: As of a segment, though it may have a ``|``; unique among maps.
        quantity: What the numbers are.
        unit: Their UCUM unit.
        values: float32, finite, shape of the volume's grid or of the images.
    """

    label: str
    quantity: Code
    unit: str
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """What a pipeline found. Empty findings mean: looked, found nothing.

    Attributes:
        findings: Each becomes one group of the report.
        segments: Each becomes one segment of the segmentation.
        notes: Sentences for the reader: limits, quality remarks. None empty; no control
            characters but line breaks and tabs.
        maps: Each becomes a parametric map, for destinations that ask for them.
    """

    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    maps: tuple[ParametricMap, ...] = ()


class CouldNotLook(Exception):
    """The input is not one this model can judge. The reason goes into a report of its own.

    ``reason`` is a sentence for a radiologist, free of anything that identifies the patient.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Model:
    """Which algorithm speaks, as every result object names it (IHE AIR 6.5.3.1).

    Attributes:
        name: Of the model, not of the pipeline.
        version: As its maker numbers it.
        maker: Who made it.
        weights_sha256: SHA-256 over the weights, in the order they are used (hex).
        trained_on: One line on the training data; says "synthetic" where it was.
        citation: Publication or model card.
    """

    name: str
    version: str
    maker: str
    weights_sha256: str
    trained_on: str
    citation: str = ""


@runtime_checkable
class Pipeline(Protocol):
    """One clinical question. Import must be cheap: load networks in ``warm_up``, not above.

    Attributes:
        name: As in routes and on the command line.
        version: Of this pipeline's code; a new one means new results.
        title: What the reader sees as series description, at most 64 characters.
        input: DICOM keyword -> pattern (or alternatives) that one series must match;
            ``*`` and ``?`` only, a leading ``!`` for "none of its values".
        report: Name of the report in ``sr_templates``: ``measurement_report`` or ``ecg_report``.
        model: The algorithm behind it.
        parameters: What else changes the result, as text.
        deadline_s: After this long the inference process is killed.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    input: ClassVar[Patterns]
    report: ClassVar[str]
    model: ClassVar[Model]
    parameters: ClassVar[Mapping[str, str]]
    deadline_s: ClassVar[float]

    def warm_up(self) -> None:
        """Load the networks, verified by digest. Called once per process before ``run``."""

    def run(self, study: Study, /) -> Result:
        """Judge one series.

        Raises:
            CouldNotLook: The input is not one this model can judge.
        """
