"""A map laid over the image it is of.

Every map of images that no parametric map object can be about, for that needs a place in the
patient (PS3.3 A.75.3), which radiographs and clips lack; of a volume its saliency.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contract import Images
from pipelines.explain.codes import SALIENCY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from node.encode.draw.views import View
    from pipelines.contract import ParametricMap, Study

_OPAQUE = 0.6
"""Of the colour over the image, where the map is highest."""
_RAMP = np.array(((60, 0, 90), (220, 40, 60), (255, 170, 30), (255, 255, 140)), np.float32)
"""From a third of the highest value up; lower ones show the image alone."""


def drawn_maps(study: Study, maps: Sequence[ParametricMap]) -> tuple[ParametricMap, ...]:
    """Return the maps that are drawn over images."""
    every = isinstance(study, Images)
    return tuple(one for one in maps if every or one.quantity == SALIENCY)


def most_telling(maps: Sequence[ParametricMap]) -> tuple[int, ...]:
    """Return on which image each saliency map is highest."""
    return tuple(
        int(one.values.max(axis=(1, 2)).argmax()) for one in maps if one.quantity == SALIENCY
    )


def heat_views(
    study: Study, maps: Sequence[ParametricMap], shown: Sequence[tuple[int, View]]
) -> tuple[View, ...]:
    """Return each map over the image on which it is highest, if that image is shown.

    Args:
        study: What the maps are of.
        maps: Shape of the images.
        shown: Index of an image, and its view.
    """
    plain = dict(shown)
    found = []
    for one in drawn_maps(study, maps):
        highest = one.values.max(axis=(1, 2))
        index = int(highest.argmax())
        if highest[index] > 0.0 and index in plain:
            view = plain[index]
            rows, columns = view.pixels.shape[:2]
            caption = f"{one.label}, highest {float(highest[index]):.3g}"
            found.append(
                replace(
                    view,
                    pixels=_over(view.pixels, one.values[index] / highest[index]),
                    shapes=(),
                    labels=(),
                    caption=caption,
                    part=(0.0, float(columns), 0.0, float(rows)),
                )
            )
    return tuple(found)


def _over(pixels: npt.NDArray[np.uint8], share: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the image with colours over it; ``share`` is 1 where the map is highest."""
    grey = pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2)
    place = np.clip(share, 0.0, 1.0) * (len(_RAMP) - 1)
    colour = np.stack(
        [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, part]) for part in range(3)], axis=-1
    )
    opaque = (_OPAQUE * np.clip(1.5 * share - 0.5, 0.0, 1.0))[..., np.newaxis]
    return np.asarray(grey * (1.0 - opaque) + colour * opaque, np.float32).astype(np.uint8)
