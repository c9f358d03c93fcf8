"""Where a point of an earlier study of a patient is in a later one, if both show the same body.

Rigid: six degrees of freedom, so that no lesion is stretched to another size. What breathes or
bends between two studies stays apart by as much, and who matches by place must allow for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipelines.contract import Volume

FloatArray = npt.NDArray[np.float64]

SAME_BODY = 0.5
"""Least correlation inside the body. Measured on phantoms: the same body, up to 12 degrees and
30 mm apart, 0.91 and more; another part of it, another body, or prone, 0.15 and less."""
SAME_FIELD = 0.3
"""Least part of the smaller body that both studies must show."""

_COARSE_MM, _FINE_MM = 8.0, 4.0
"""Voxels of the working images; phantoms came to lie within 0.2 mm of the truth."""
_BINS = 32
_ITERATIONS = 150
_RELAXATION = 0.8
"""ITK's own 0.5 stops up to 6 mm short on oblique paths (measured)."""
_FIRST_STEP_MM, _LAST_STEP_MM = 4.0, 0.05
_CLIP_PERCENT = (0.5, 99.5)
"""Metal and noise peaks would take most of the histogram's bins."""


@dataclass(frozen=True)
class Alignment:
    """How an earlier study lies in a later one.

    Attributes:
        matrix: 4x4, from the earlier study's patient coordinates to the later one's (LPS, mm).
        similarity: Correlation of the two inside the body, -1 to 1.
        shared: Part of the smaller body that both studies show, 0 to 1.
    """

    matrix: FloatArray
    similarity: float
    shared: float

    @property
    def is_good(self) -> bool:
        """Whether both studies show the same part of a body."""
        return self.similarity >= SAME_BODY and self.shared >= SAME_FIELD

    @property
    def inverse(self) -> Alignment:
        """The way back, from the later study to the earlier one."""
        return replace(self, matrix=np.linalg.inv(self.matrix).astype(np.float64))

    def __call__(self, points_mm: FloatArray) -> FloatArray:
        """Return points of the earlier study, shape (..., 3), where they are in the later one."""
        return points_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3]


def align(earlier: Volume, later: Volume) -> Alignment:
    """Lay an earlier study over a later one; ``is_good`` tells whether that made sense.

    The same volumes give the same alignment: every voxel of the working images counts, none is
    drawn at random, and one thread sums in one order.

    Source: mutual information of Mattes et al. 2003, IEEE Trans Med Imaging 22:120-128, in
    multiple resolutions from the best of three starts.
    """
    then, now = (_working_image(one, _COARSE_MM) for one in (earlier, later))
    kinds = SimpleITK.CenteredTransformInitializerFilter
    starts = [_centred(then, now, kind) for kind in (kinds.MOMENTS, kinds.GEOMETRY)]
    starts.append(SimpleITK.Euler3DTransform())  # as the scanner's coordinates say
    starts[-1].SetCenter(starts[0].GetCenter())
    reached = [_register(then, now, start, _FIRST_STEP_MM) for start in starts]
    _, best = min(reached, key=lambda one: one[0])
    then, now = (_working_image(one, _FINE_MM) for one in (earlier, later))
    _, found = _register(then, now, best, _FIRST_STEP_MM / 4)
    similarity, shared = _agreement(then, now, found)
    return Alignment(_matrix(found), similarity, shared)


def _working_image(volume: Volume, voxel_mm: float) -> Any:
    """Return the volume in voxels of about ``voxel_mm``, each the mean of what it covers."""
    image = SimpleITK.GetImageFromArray(volume.voxels)
    x, y, z = (np.array(axis) for axis in volume.grid.axes[::-1])
    image.SetDirection(np.column_stack((x, y, z)).ravel().tolist())
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.grid.origin_mm)
    factors = [
        max(1, min(size // 4, round(voxel_mm / spacing)))
        for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    image = SimpleITK.BinShrink(image, factors)
    lowest, highest = np.percentile(SimpleITK.GetArrayViewFromImage(image), _CLIP_PERCENT)
    return SimpleITK.Clamp(image, SimpleITK.sitkFloat32, float(lowest), float(highest))


def _centred(fixed: SimpleITK.Image, moving: SimpleITK.Image, kind: int) -> Any:
    rigid = SimpleITK.Euler3DTransform()
    return SimpleITK.Euler3DTransform(
        SimpleITK.CenteredTransformInitializer(fixed, moving, rigid, kind)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let ITK sum in one order. The method's own number of threads is not passed on (ITK 5.4)."""
    process = SimpleITK.ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before)


def _register(
    fixed: SimpleITK.Image, moving: SimpleITK.Image, start: Any, first_step_mm: float
) -> tuple[float, Any]:
    """Return the metric reached, the lower the better, and the transform; inf where it is lost."""
    transform = SimpleITK.Euler3DTransform(start)
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=first_step_mm,
        minStep=_LAST_STEP_MM,
        numberOfIterations=_ITERATIONS,
        relaxationFactor=_RELAXATION,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        with _one_thread():
            method.Execute(fixed, moving)
    except RuntimeError:  # ITK: the two do not overlap (any more)
        return float("inf"), start
    return method.GetMetricValue(), transform


def _agreement(
    fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: Any
) -> tuple[float, float]:
    """Return the correlation inside the body, and which part of the smaller body both show.

    Of the body only: air around it would make any two bodies alike.
    """
    moved = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkLinear, float("nan"))
    first, second = map(SimpleITK.GetArrayFromImage, (fixed, moved))
    seen = np.isfinite(second)
    thresholds = [_body_threshold(image) for image in (fixed, moving)]
    bodies = (first > thresholds[0], np.where(seen, second, -np.inf) > thresholds[1])
    body = seen & (bodies[0] | bodies[1])
    smaller = min(int(bodies[0].sum()), _body_voxels(moving, thresholds[1], fixed))
    shared = float((seen & bodies[0]).sum()) / max(smaller, 1)
    return _correlation(first[body], second[body]), min(1.0, shared)


def _body_threshold(image: SimpleITK.Image) -> float:
    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(image)
    return float(otsu.GetThreshold())


def _body_voxels(image: SimpleITK.Image, threshold: float, like: SimpleITK.Image) -> int:
    """Return the size of the body of ``image``, in voxels of ``like``."""
    inside = int((SimpleITK.GetArrayViewFromImage(image) > threshold).sum())
    voxel_ratio: float = prod(image.GetSpacing()) / prod(like.GetSpacing())
    return round(inside * voxel_ratio)


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) < 2 or not np.std(first) or not np.std(second):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _matrix(transform: Any) -> FloatArray:
    """Return a rigid transform as a matrix, by what it does to the origin and the axes."""
    origin, *axes = (
        np.array(transform.TransformPoint(point))
        for point in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    )
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([axis - origin for axis in axes])
    matrix[:3, 3] = origin
    return matrix
