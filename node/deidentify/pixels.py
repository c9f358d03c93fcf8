"""Whether pixels may leave: never where they may show a name, unless a site says what to blank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.pixels.utils import get_expected_length

from node.errors import NotDeidentified
from node.gate.burned_in import burned_in_annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset

    from node.confidentiality import Blank

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def blanked(dataset: Dataset, blanks: Iterable[Blank]) -> bool:
    """Blank the rectangles that the site states for this device; whether there were any.

    Args:
        dataset: Changed in place: its pixels are native afterwards if it was blanked.
        blanks: Rectangles by device.

    Raises:
        NotDeidentified: The pixels may show a name and no rectangles are stated for the device,
            or there is more in the pixel data than pixels.
    """
    if not any(keyword in dataset for keyword in PIXELS):
        return False
    _hold_pixels_only(dataset)
    stated = [one for one in blanks if _is_of(one, dataset)]
    if stated:
        _blank(dataset, stated)
        dataset.BurnedInAnnotation = "NO"
        return True
    if burned_in_annotation([dataset]) == "YES":
        said = str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"
        raise NotDeidentified(
            "Its pixels show who the patient is, it says."
            if said
            else "Its pixels may show who the patient is, and it does not say that they do not.",
            do="State the rectangles to blank of this device under [deidentify.blank] in "
            "radnode.toml, or leave it out.",
        )
    return False


def _hold_pixels_only(dataset: Dataset) -> None:
    for group in range(0x6000, 0x6020, 2):
        # Retired: an overlay in bits of the pixels that the image does not use (PS3.3 C.9.2).
        if (group, 0x0102) in dataset and int(dataset[group, 0x0102].value or 0) > 0:
            raise NotDeidentified(
                "An overlay lies within its pixel data.", do="Have it sent without the overlay."
            )
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" in dataset and not syntax.is_compressed:
        excess = len(dataset.PixelData) - get_expected_length(dataset)
        if excess > 1:
            raise NotDeidentified(
                f"Its pixel data have {excess} bytes that are no pixels.",
                do="Have it sent again by the device that made it.",
            )
        if excess < 0:
            raise NotDeidentified("Its pixel data are cut short.", do="Have it sent again.")


def _is_of(blank: Blank, dataset: Dataset) -> bool:
    return (
        str(dataset.get("Manufacturer") or "").strip() == blank.manufacturer
        and str(dataset.get("ManufacturerModelName") or "").strip() == blank.model
        and (dataset.get("Rows"), dataset.get("Columns")) == (blank.rows, blank.columns)
    )


def _blank(dataset: Dataset, blanks: Iterable[Blank]) -> None:
    """Set the pixels within the rectangles to 0, in every frame."""
    pixels = dataset.pixel_array.copy()  # of YBR, RGB
    colours = int(dataset.SamplesPerPixel)
    photometric = str(dataset.PhotometricInterpretation)
    frames = pixels.reshape(-1, dataset.Rows, dataset.Columns, colours)
    for blank in blanks:
        for left, top, width, height in blank.rectangles:
            frames[:, top : top + height, left : left + width] = 0
    dataset.set_pixel_data(
        pixels,
        "RGB" if photometric.startswith("YBR") else photometric,
        int(dataset.BitsStored),
        generate_instance_uid=False,
    )
