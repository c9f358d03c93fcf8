"""What a pipeline sees: arrays with their place in the patient, or in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping


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
