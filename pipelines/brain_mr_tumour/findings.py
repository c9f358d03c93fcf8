"""From masks of a tumour to what the report says of it: parts, sizes, side, how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipelines import codes as shared
from pipelines.brain_mr_tumour import codes
from pipelines.contract import Code, Finding, Measurement, Presence, Segment, Volume
from pipelines.midline import side_of
from pipelines.shape import measure, volume_ml

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipelines.outline import Mask

LOW_AGREEMENT = 0.7
"""Mean Dice overlap of the planes below which the reader is told."""

_OF_THE_WHOLE = (
    shared.LONG_AXIS,
    shared.SHORT_AXIS,
    shared.MAXIMUM_3D_DIAMETER,
    shared.MAJOR_AXIS_3D,
    shared.MINOR_AXIS_3D,
    shared.LEAST_AXIS_3D,
)


class Part(NamedTuple):
    """One of the parts a tumour is made of."""

    label: str
    property: Code
    color: tuple[int, int, int]


PARTS = (
    Part("Enhancing tumour", codes.ENHANCING, (230, 70, 60)),
    Part("Necrotic or non-enhancing core", codes.NOT_ENHANCING, (70, 110, 230)),
    Part("Oedema", codes.OEDEMA, (240, 200, 60)),
)


class Place(NamedTuple):
    """Where a tumour is: its side, None where it has none or that is not known."""

    laterality: Code | None
    left_share: float | None


def segments(whole: Mask, core: Mask, enhancing: Mask) -> tuple[Segment, ...]:
    """Return the parts that have a voxel, none of which is in two of them."""
    masks = (enhancing, core & ~enhancing, whole & ~core)
    return tuple(
        Segment(part.label, shared.MORPHOLOGICALLY_ABNORMAL, part.property, mask, part.color)
        for part, mask in zip(PARTS, masks, strict=True)
        if mask.any()
    )


def place(whole: Mask, left_mm: npt.NDArray[np.float32] | None) -> Place:
    """Return the side of a tumour.

    Args:
        whole: With a voxel at least.
        left_mm: How far each voxel is left of the midline; None: that is not known.
    """
    return Place(*side_of(whole, left_mm))


def tumour(volume: Volume, whole: Mask, core: Mask, where: Place, agreement: float) -> Finding:
    """Return the finding about the tumour as a whole.

    Args:
        volume: T1c, on whose grid the masks are.
        whole: Tumour with its oedema, with a voxel at least.
        core: Without it.
        where: Its side.
        agreement: Of the networks of the three planes.
    """
    sizes = [one for one in measure(whole, volume) if one.name in _OF_THE_WHOLE]
    shares = (
        ()
        if where.left_share is None
        else (Measurement(codes.LEFT_SHARE, 100.0 * where.left_share, "%"),)
    )
    return Finding(
        codes.TUMOUR,
        category=shared.MORPHOLOGICALLY_ABNORMAL,
        site=shared.BRAIN,
        laterality=where.laterality,
        measurements=(
            Measurement(codes.WHOLE_VOLUME, volume_ml(whole, volume.grid), "mL"),
            Measurement(codes.CORE_VOLUME, volume_ml(core, volume.grid), "mL"),
            *sizes,
            *shares,
            Measurement(codes.PLANE_AGREEMENT, agreement, "1"),
        ),
    )


def parts(volume: Volume, found: tuple[Segment, ...], where: Place) -> tuple[Finding, ...]:
    """Return a finding for each part, also for those that were not found."""
    by_label = {segment.label: segment for segment in found}
    return tuple(
        Finding(
            part.property,
            category=shared.MORPHOLOGICALLY_ABNORMAL,
            site=shared.BRAIN,
            laterality=where.laterality,
            segment=part.label,
            measurements=measure(by_label[part.label].mask, volume),
        )
        if part.label in by_label
        else Finding(
            part.property,
            presence=Presence.ABSENT,
            category=shared.MORPHOLOGICALLY_ABNORMAL,
        )
        for part in PARTS
    )


def remarks(where: Place, agreement: float) -> tuple[str, ...]:
    """Return what the reader should know of this tumour besides its numbers."""
    said = []
    if where.left_share is None:
        said.append("The side is not stated: the brain shows no clear midline.")
    elif where.laterality is None:
        said.append(
            f"The outlined tumour lies on both sides of the midline: "
            f"{100.0 * where.left_share:.0f} % of it on the left."
        )
    if agreement < LOW_AGREEMENT:
        said.append(
            "The networks of the three planes disagree about the extent of the tumour "
            f"(mean Dice overlap {agreement:.2f})."
        )
    return tuple(said)
