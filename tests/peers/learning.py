"""Data sets to learn from whose truth is known: pictures in class folders, CT with SEG, ECGs."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydicom.uid import CTImageStorage, MRImageStorage

from node.encode.segmentation import encode_segmentation
from node.load.source import load
from pipelines import codes
from pipelines.contract import Finding, Segment
from tests.peers import ecg
from tests.peers.made_images import ds, made_image
from tests.sr_templates.made import work

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CT_SHAPE = (20, 32, 32)


def head_picture(random: np.random.Generator, *, tumour: bool) -> npt.NDArray[np.uint8]:
    """Return a bright oval on dark ground, with a brighter disc in it or none."""
    y, x = np.mgrid[:90, :100]
    picture = 40.0 + 80.0 * (((y - 45) / 40) ** 2 + ((x - 50) / 44) ** 2 < 1.0)
    if tumour:
        row, column, radius = random.uniform((32, 34, 10), (58, 66, 16))
        picture += 110.0 * ((y - row) ** 2 + (x - column) ** 2 < radius**2)
    noisy = picture + 10.0 * random.standard_normal(picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_classes(folder: Path, patients: int, *, dicom: bool) -> None:
    """Write ``tumour`` and ``none``, two images a patient, as PNG or as single MR slices."""
    random = np.random.default_rng(0)
    for patient in range(patients):
        tumour = patient % 2 == 1
        for number in range(2):
            picture = head_picture(random, tumour=tumour)
            place = folder / ("tumour" if tumour else "none") / f"patient{patient}"
            place.mkdir(parents=True, exist_ok=True)
            if not dicom:
                Image.fromarray(picture).save(place / f"{number}.png")
                continue
            image = made_image(
                picture.astype(np.uint16),
                MRImageStorage,
                f"{patient}-{number}",
                PatientID=f"P{patient}",
                PixelSpacing=ds(1.0, 1.0),
            )
            image.save_as(place / f"{number}.dcm", enforce_file_format=True)


def write_ct_with_segmentation(folder: Path, patient: int) -> None:
    """Write a CT series with one ball of 60 HU in noise, and its segmentation beside it."""
    random = np.random.default_rng(patient)
    radius = random.uniform(5.0, 8.0)
    centre = np.array(CT_SHAPE) / 2 + random.uniform(-2.0, 2.0, size=3)
    places = np.indices(CT_SHAPE) - centre[:, None, None, None]
    ball = (places**2).sum(axis=0) < radius**2
    hounsfield = np.where(ball, 60.0, -80.0) + 20.0 * random.standard_normal(CT_SHAPE)
    folder.mkdir(parents=True)
    paths = []
    for k, plane in enumerate(hounsfield):
        image = made_image(
            np.round(plane + 1024.0).astype(np.uint16),
            CTImageStorage,
            f"ct-{patient}-{k}",
            PatientID=f"P{patient}",
            StudyInstanceUID=f"1.2.3.{patient}",
            SeriesInstanceUID=f"1.2.3.{patient}.1",
            InstanceNumber=k + 1,
            ImagePositionPatient=ds(0.0, 0.0, float(k)),
            ImageOrientationPatient=ds(1, 0, 0, 0, 1, 0),
            PixelSpacing=ds(1.0, 1.0),
            SliceThickness="1",
            RescaleSlope=1,
            RescaleIntercept=-1024,
        )
        paths.append(folder / f"{k}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    source = load(paths)
    segment = Segment("Ball", codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, ball)
    finding = Finding(codes.NODULE, segment="Ball")
    made = work(uid_parts=("learning", str(patient)))
    seg = encode_segmentation(source, (segment,), made, findings=(finding,))
    seg.save_as(folder / "seg.dcm", enforce_file_format=True)


def write_recordings(folder: Path, patients: int) -> None:
    """Write twenty seconds of ECG for each patient, every other one fibrillating, and the table."""
    with (folder / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("study", "concept", "value", "patient"))
        for patient in range(patients):
            simulate = ecg.fibrillation if patient % 2 else ecg.sinus
            recording = simulate(60 + 5 * (patient % 7), duration_s=20, seed=patient)
            place = folder / f"study{patient}"
            place.mkdir()
            written = ecg.waveform_object(recording, patient_id=f"P{patient}")
            written.save_as(place / "ecg.dcm", enforce_file_format=True)
            said = "yes" if patient % 2 else "no"
            rows.writerow((place.name, "Atrial Fibrillation", said, f"P{patient}"))
