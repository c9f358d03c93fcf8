"""What a pipeline sees and what it gives back: arrays, geometry, codes. Nothing else.

A pipeline is one function, ``run``. It never meets a socket, a queue, a database, a PACS or
a configuration file; the node does that on both sides of it. A result that breaks a rule stated
here is not published, and its job fails with the reasons.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipelines.study import (
    Channel,
    Code,
    Grid,
    Images,
    MultiplexGroup,
    Study,
    Volume,
    Waveform,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "AnyPipeline",
    "Channel",
    "Chart",
    "Code",
    "CouldNotLook",
    "Curve",
    "DerivedImages",
    "Finding",
    "Graphic",
    "Grid",
    "Images",
    "Measurement",
    "Model",
    "MultiplexGroup",
    "ParametricMap",
    "Patterns",
    "Pipeline",
    "Presence",
    "Region",
    "Result",
    "Segment",
    "Study",
    "StudyPipeline",
    "Volume",
    "Waveform",
    "WaveformSpan",
]

Patterns = Mapping[str, str | tuple[str, ...]]
"""DICOM keyword -> pattern, or alternatives of which one must match."""


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
class DerivedImages:
    """Images made of the study's own: the same slices, other grey values. A series of their own.

    Attributes:
        label: As of a segment; becomes the series description. Unique among derived images.
        derivation: How they were made, as a viewer and an archive understand it (CID 7203).
        description: The same in words, with the parameters that matter.
        values: float32, finite, shape of the volume's grid or of the images, in their unit.
    """

    label: str
    derivation: Code
    description: str
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """One line of a chart: float arrays of equal length; NaN in ``y`` leaves a gap."""

    label: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chart:
    """Curves for the summary picture and the PDF, such as a volume over the cardiac cycle.

    Attributes:
        title: As of a segment.
        x_title: Name of the quantity along x, with its unit.
        y_title: Ditto along y.
        curves: At least one.
        marks: What is to be seen where: (x, words), drawn as upright lines.
    """

    title: str
    x_title: str
    y_title: str
    curves: tuple[Curve, ...]
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Result:
    """What a pipeline found. Empty findings mean: looked, found nothing.

    Attributes:
        findings: Each becomes one group of the report.
        segments: Each becomes one segment of the segmentation.
        notes: Sentences for the reader: limits, quality remarks. None empty; no control
            characters but line breaks and tabs.
        maps: Each becomes a parametric map, for destinations that ask for them; of ``Images``,
            which have no place in the patient, they are drawn in the picture and the PDF.
        images: Each becomes a series of images, for destinations that ask for them.
        charts: Drawn in the summary picture and the PDF; at most four, no two of one title.
    """

    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    maps: tuple[ParametricMap, ...] = ()
    images: tuple[DerivedImages, ...] = ()
    charts: tuple[Chart, ...] = ()


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


class Described(Protocol):
    """What every pipeline says of itself, in attributes of its class or of its object.

    A pipeline may also have ``enabled``, False where it does not run until a site says so;
    ``priority``, ``"stat"`` where its jobs and results go before others'
    whatever the route says; and ``gpu_memory_bytes``, what a run takes of a graphics card beside
    its weights: 0 where it needs none, without it a run has the card for itself.
    """

    @property
    def name(self) -> str:
        """As in routes and on the command line."""

    @property
    def version(self) -> str:
        """Of this pipeline's code; a new one means new results."""

    @property
    def title(self) -> str:
        """What the reader sees as series description, at most 64 characters."""

    @property
    def report(self) -> str:
        """Name of the report in ``sr_templates``, such as ``measurement_report``."""

    @property
    def model(self) -> Model:
        """The algorithm behind it."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """What else changes the result, as text."""

    @property
    def deadline_s(self) -> float:
        """After this long the inference process is killed."""

    def warm_up(self) -> None:
        """Load the networks, verified by digest. Called once per process before ``run``."""


@runtime_checkable
class Pipeline(Described, Protocol):
    """One clinical question to one series. Import must be cheap: networks load in ``warm_up``."""

    @property
    def input(self) -> Patterns:
        """What the series must match.

        DICOM keyword -> pattern (or alternatives); ``*`` and ``?`` only, a leading ``!`` for
        "none of its values".
        """

    def run(self, study: Study, /) -> Result:
        """Judge one series.

        Raises:
            CouldNotLook: The input is not one this model can judge.
        """


@runtime_checkable
class StudyPipeline(Described, Protocol):
    """One clinical question to several series of a study, such as T1, T2 and FLAIR.

    Where patterns cannot tell them apart, a method ``input_of(attributes)`` may: it returns which
    of ``inputs`` a series is by its technical attributes (as ``Volume.attributes``), or None. It is
    asked of every series that the patterns match, before any network is loaded.
    """

    @property
    def inputs(self) -> Mapping[str, Patterns]:
        """Name -> what the series must match, as ``Pipeline.input``.

        Segments, maps, regions and images of the result lie on the first one.
        """

    @property
    def run(self) -> Callable[..., Result]:
        """Judge the series, each given by its name: ``run(self, *, t1: Volume, flair: Volume)``.

        Raises:
            CouldNotLook: An input is not one this model can judge.
        """


AnyPipeline = Pipeline | StudyPipeline
