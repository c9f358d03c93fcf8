"""Volumes and ejection fraction of the left ventricle from one apical clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.contract import CouldNotLook, Images, Patterns, Result, Study
from pipelines.echo_lv import suitability
from pipelines.echo_lv.codes import LEFT_VENTRICLE
from pipelines.echo_lv.contour import contour, one_piece
from pipelines.echo_lv.cycle import find_beats
from pipelines.echo_lv.discs import method_of_discs
from pipelines.echo_lv.report import Ventricle, result
from pipelines.outline import enclosed_area
from pipelines.site_reading import SiteReading

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.outline import Points
    from pipelines.runtimes import SiteNetwork

_FOUND = 0.8
"""Own limit: in how many of the frames the ventricle has to be outlined."""
_LONGEST_GAP = 4
"""Ditto: frames in a row without an outline; the area between is interpolated."""
ROUND = 1.1
"""Own limit: length by width below which an outline is taken for a short axis ..."""
ROUND_UNNAMED = 1.3
"""... and where the header does not name the view. Dilated ventricles of apical views come near."""


class EchoLv(SiteReading):
    """Reads the outlines of a site's network. What they tell and what not is in ``card.md``."""

    name: ClassVar[str] = "echo-lv"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Echo: left ventricle, method of discs"
    report: ClassVar[str] = "echo_report"
    deadline_s: ClassVar[float] = 900.0
    missing: ClassVar[str] = (
        "No model of the left ventricle was added to this node, so nothing was measured."
    )

    @property
    def input(self) -> Patterns:
        """Ultrasound clips, as far as the site's model takes them."""
        network = self._stated()
        own: dict[str, str | tuple[str, ...]] = {
            "Modality": "US",
            "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.3"),
        }
        return own if network is None else {**own, **network.manifest.input.match}

    def run(self, study: Study, /) -> Result:
        """Measure one clip.

        Raises:
            CouldNotLook: There is no model, or the clip cannot be measured as it is.
        """
        clip, names = suitability.require_apical_clip(study)
        masks = _masks(self.network(), clip)
        found = np.asarray(masks.any(axis=(1, 2)))
        _require_found(found)
        suitability.require_grey(clip, masks)
        outlines = {int(frame): contour(masks[frame]) for frame in np.flatnonzero(found)}
        area = _filled(
            [enclosed_area(outlines[at]) if at in outlines else np.nan for at in range(found.size)]
        )
        heart_rate = _heart_rate(clip)
        cycle = find_beats(area, _frame_s(clip), heart_rate)
        field = suitability.sector(clip)
        for frame in {frame for beat in cycle.beats for frame in beat}:
            nearest = min(outlines, key=lambda one: abs(one - frame))
            suitability.require_whole(outlines[nearest], field)
            _require_long(outlines[nearest], clip, ROUND if names.view else ROUND_UNNAMED)
        return result(Ventricle(clip, names, masks, outlines, cycle))


def _masks(network: SiteNetwork, clip: Images) -> npt.NDArray[np.bool_]:
    """Return the ventricle in each frame, of one piece, shape of the clip.

    Raises:
        CouldNotLook: The site's model does not outline a ventricle in single images.
    """
    manifest = network.manifest
    labels = [one.label for one in network.labels if one.property == LEFT_VENTRICLE]
    if manifest.task != "segmentation" or manifest.input.view != "images" or len(labels) != 1:
        raise CouldNotLook(
            "The echo model of this node does not outline the left ventricle in single images."
        )
    marked = network.masks(clip)[labels[0]]
    return np.stack([one_piece(frame) for frame in marked])


def _require_found(found: npt.NDArray[np.bool_]) -> None:
    share = float(found.mean())
    if share < _FOUND:
        raise CouldNotLook(
            f"The left ventricle was outlined in {100.0 * share:.0f} % of the frames only."
        )
    longest = max(map(len, "".join("x" if one else "." for one in found).split("x")))
    if longest > _LONGEST_GAP:
        raise CouldNotLook(f"The left ventricle is lost for {longest} frames in a row.")


def _require_long(outline: Points, clip: Images, least: float) -> None:
    """Refuse a round outline: that of a short-axis view, or of something else."""
    measured = method_of_discs(outline, clip.spacing_mm)
    if measured.length < least * measured.width:
        raise CouldNotLook(
            "What was outlined is round: this is no apical view of a left ventricle."
        )


def _filled(area: list[float]) -> npt.NDArray[np.float64]:
    """Return an area curve without gaps, which were short."""
    known = np.array(area, np.float64)
    at = np.flatnonzero(np.isfinite(known))
    return np.interp(np.arange(known.size), at, known[at])


def _frame_s(clip: Images) -> float | None:
    if not clip.times_s:
        return None
    return float(np.median(np.diff(clip.times_s)))


def _heart_rate(clip: Images) -> float | None:
    try:
        return float(clip.attributes.get("HeartRate", ""))
    except ValueError:
        return None
