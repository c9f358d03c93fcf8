"""Images sorted into folders by what they show: ``CLASS/image`` or ``CLASS/PATIENT/image``.

DICOM says whose an image is. Of a picture (PNG, JPEG) the folder between its class and itself
does; without one, each picture counts as a patient of its own. The same bytes in one folder twice
count once, and in two classes are refused.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from node.errors import UsageError
from node.evaluate.files import patient_key
from node.load.images import load_images
from node.malformed import MALFORMED
from pipelines.contract import CouldNotLook, Images
from pipelines.training.data import Example, Seen

if TYPE_CHECKING:
    from pathlib import Path

_PICTURES = {".png", ".jpg", ".jpeg"}
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""


def class_examples(folder: Path) -> list[Example]:
    """Return the images below the folder, one for each, with the name of its class.

    Raises:
        UsageError: There is none, or one is in two classes.
    """
    found: dict[str, tuple[str, Example]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or len(parts) < 2 or any(part.startswith(".") for part in parts):
            continue
        patient = _patient(path, parts)
        if patient is None:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        example = Example(patient, digest, partial(read_image, path), {parts[0]: True})
        earlier = found.setdefault(digest, (parts[0], example))
        if earlier[0] != parts[0]:
            raise UsageError(
                f"One image is in the folders '{earlier[0]}' and '{parts[0]}'.",
                do="Keep it in the one that it belongs to.",
            )
    if not found:
        raise UsageError(
            f"There is no image in a folder of its class in {folder}.",
            do="Sort DICOM, PNG or JPEG files into a folder for each class.",
        )
    return [example for _, example in found.values()]


def read_image(path: Path) -> Seen:
    """Read one image: grey, or colour made grey.

    Raises:
        UsageError: It is damaged, or its pixels mean something that is not read here.
    """
    try:
        if path.suffix.lower() in _PICTURES:
            with Image.open(path) as picture:
                return Seen(Images(np.asarray(picture.convert("F"), np.float32)[None]))
        study = load_images(dcmread(path)).study
    except (*MALFORMED, CouldNotLook, UnidentifiedImageError) as error:
        raise UsageError(
            f"An image cannot be read: {path.name}.", do="Take it out, or export it again."
        ) from error
    assert isinstance(study, Images)  # noqa: S101 - for the type checker
    if study.frames.ndim == 4:
        grey = np.asarray(study.frames, np.float32) @ _GREY
        study = Images(grey, study.spacing_mm, study.times_s, study.attributes)
    return Seen(study)


def _patient(path: Path, parts: tuple[str, ...]) -> str | None:
    """Return whose an image is; None for a file that is none."""
    if path.suffix.lower() in _PICTURES:
        return patient_key(parts[1] if len(parts) > 2 else "/".join(parts))
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "Rows"])
    except InvalidDicomError:
        return None
    if "Rows" not in header:
        return None
    return patient_key(str(header.get("PatientID") or "/".join(parts)))
