"""From the files of one series to what a pipeline sees of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from node import part10
from node.errors import UnreadableSeries
from node.load.kinds import is_judged_alone, is_waveform
from node.malformed import MALFORMED
from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset
    from pydicom.tag import BaseTag

    from pipelines.contract import Study

_BULK = 0x54000000
"""Waveforms (5400), spectra (5600) and pixels (7FE0) follow; what describes them comes before."""

_UIDS = tuple(
    map(part10.tag_of, ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"))
)
"""Without which no report can refer to an instance."""

_Scalar = TypeVar("_Scalar", bound=np.generic)

DAMAGED = "A file of the series is damaged: it cannot be read as DICOM."


@dataclass(frozen=True)
class Source:
    """The instances a result refers to, and what the pipeline sees of them.

    Attributes:
        study: What the pipeline sees.
        instances: Their data sets without bulk data. For a volume of single-frame instances in
            slice order: ``instances[k]`` is slice ``k``. Otherwise exactly one.
        frame_numbers: Multi-frame only: slice ``k`` is frame ``frame_numbers[k]``, from 1.
        shifts_px: Where the volume was straightened because the slices are sheared, as with a
            tilted gantry: slice ``k`` of the volume is image ``k`` moved by ``shifts_px[k]``
            (rows, columns). Empty: the volume's slices are the images.
        beside: Headers of the other series that were analysed with it, as evidence.
    """

    study: Study
    instances: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...] = ()
    shifts_px: tuple[tuple[float, float], ...] = ()
    beside: tuple[Dataset, ...] = ()

    def on_images(self, values: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """Return a mask or map of the study as it lies on the images that it was made of.

        Args:
            values: Shape of the study.

        Returns:
            Shape (images, rows, columns): each image's own values, moved back by the nearest
            whole pixel; ``values`` itself where nothing was moved.
        """
        if not self.shifts_px:
            return values
        return np.stack(
            [plane[of_image] for plane, of_image in zip(values, self._images(), strict=True)]
        )

    def within_images(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return a mask of the study without what lies beside the images that it was made of."""
        if not self.shifts_px:
            return mask
        within = np.zeros_like(mask)
        for k, of_image in enumerate(self._images()):
            within[k][of_image] = mask[k][of_image]
        return within

    def _images(self) -> Iterator[tuple[slice, slice]]:
        """Yield where in its slice of the volume each image lies."""
        rows, columns = int(self.instances[0].Rows), int(self.instances[0].Columns)
        for down, right in self.shifts_px:
            yield (
                slice(round(down), round(down) + rows),
                slice(round(right), round(right) + columns),
            )


def read_headers(paths: Sequence[Path]) -> tuple[Dataset, ...]:
    """Read data sets up to their bulk data, in the order of ``paths``.

    Raises:
        pydicom.errors.InvalidDicomError: A file is not DICOM Part 10.
    """
    return tuple(part10.read(path, stop_at=_BULK) for path in paths)


def _is_whole(header: Dataset) -> bool:
    return all(_is_stated(header, tag) for tag in _UIDS)


def _is_stated(header: Dataset, tag: BaseTag) -> bool:
    """Say whether a header has a value here, without having it parsed."""
    if tag not in header:
        return False
    element = part10.unparsed(header, tag)
    if element is None:
        return bool(header[tag].value)
    return bool(element.value and element.value.strip(b"\0 "))


def readable_headers(paths: Sequence[Path]) -> tuple[Dataset, ...]:
    """Read data sets up to their bulk data, in the order of ``paths``, without damaged ones.

    Raises:
        UnreadableSeries: No file says which instance of which study it is.
    """
    headers: list[Dataset] = []
    for path in paths:
        with suppress(*MALFORMED):
            headers += (header for header in read_headers([path]) if _is_whole(header))
    if not headers:
        raise UnreadableSeries(
            f"None of the {len(paths)} files of this series can be read.",
            do="Check the disk that they are on, then have the series sent again.",
        )
    return tuple(headers)


def load(paths: Sequence[Path]) -> Source:
    """Read the files of one series, in any order.

    Raises:
        CouldNotLook: They are neither a regular volume nor one waveform, radiograph or clip; the
            reason says why.
    """
    # The readers need this module's Source.
    from node.load.images import load_images  # noqa: PLC0415
    from node.load.volume import load_volume  # noqa: PLC0415
    from node.load.waveform import load_waveform  # noqa: PLC0415

    try:
        datasets = [part10.read(path) for path in paths]
    except MALFORMED as error:
        raise CouldNotLook(DAMAGED) from error
    if not all(map(_is_whole, datasets)):
        raise CouldNotLook(DAMAGED)
    alone = [one for one in datasets if is_judged_alone(part10.uid_of(one.get_item(_UIDS[0])))]
    if not alone:
        return load_volume(datasets)
    recording = is_waveform(str(alone[0].SOPClassUID))
    if len(datasets) > 1:
        expected = "waveform recording" if recording else "image or clip"
        raise CouldNotLook(
            f"The series holds {len(datasets)} objects where one {expected} was expected."
        )
    return load_waveform(alone[0]) if recording else load_images(alone[0])
