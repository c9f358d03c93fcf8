"""Series of real patients as a node receives them, and what is made of them on a scanner.

From the shared test data, each written as DICOM files of a folder of its own. To keep tests quick,
large series are thinned: every second pixel, whose place in the patient stays what it was.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.uids import derived_uid
from pipelines.contract import Grid, Volume
from tests.peers import require_data
from tests.peers.body_phantom import to_ct_series
from tests.peers.ecg import GENERAL, TWELVE_LEAD, from_wfdb, waveform_object
from tests.peers.head_phantom import to_mr_series
from tests.peers.tumour_study import Sequence as Acquired
from tests.peers.tumour_study import read_glioma, tumour_study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

Series = dict[str, list["Path"]]
"""Name of a series -> its files. The first is the one that pipelines of one series are given."""


@dataclass(frozen=True)
class Workshop:
    """Where series are written, each made once."""

    folder: Path

    def series(self, name: str) -> Series:
        """Return the files of a study of ``STUDIES``, made when first asked for."""
        target = self.folder / name.replace(" ", "-").replace(",", "")
        if not target.exists():
            target.mkdir(parents=True)
            made: Mapping[str, Sequence[Dataset | Path]] = STUDIES[name](self)
            for one, instances in made.items():
                (target / one).mkdir()
                for number, instance in enumerate(instances):
                    path = target / one / f"{number:04}.dcm"
                    if isinstance(instance, Dataset):
                        instance.save_as(path, enforce_file_format=True)
                    else:
                        shutil.copyfile(instance, path)
        return {
            one.name: sorted(one.iterdir())
            for one in sorted(target.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        }

    def read(self, name: str) -> list[Dataset]:
        """Return the instances of the first series of a study."""
        return [dcmread(path) for path in next(iter(self.series(name).values()))]


Made = dict[str, list[Dataset]]
"""Name of a series -> its instances."""

Taken = dict[str, list["Path"]]
"""Name of a series -> files that are a study's as they lie there."""


def _files(*parts: str) -> Callable[[Workshop], Taken]:
    """Return how to take the files of a folder, or one file, as they are."""

    def take(_workshop: Workshop) -> Taken:
        path = require_data(*parts)
        return {"series": sorted(path.iterdir()) if path.is_dir() else [path]}

    return take


def _chest(_workshop: Workshop) -> Made:
    paths = sorted(require_data("ct", "chest_acrin_042").iterdir())
    return {"series": [_thinned(dcmread(path)) for path in paths]}


def _head_t1(_workshop: Workshop) -> Made:
    archive = require_data("mr", "head_t1_datalad.tar.xz")
    with tarfile.open(archive) as files:
        instances = [
            dcmread(io.BytesIO(file.read()))
            for member in files
            if member.name.endswith(".dcm") and (file := files.extractfile(member))
        ]
    instances.sort(key=lambda one: float(one.ImagePositionPatient[0]))
    return {"series": [_thinned(one) for one in instances[::2]]}


def _thinned(instance: Dataset) -> Dataset:
    """Leave every second row and column out."""
    pixels = np.ascontiguousarray(instance.pixel_array[::2, ::2])
    instance.set_pixel_data(
        pixels, str(instance.PhotometricInterpretation), int(instance.BitsStored)
    )
    instance.PixelSpacing = [2 * float(step) for step in instance.PixelSpacing]
    return instance


def _abdomen(file: str) -> Callable[[Workshop], Made]:
    def make(_workshop: Workshop) -> Made:
        volume = _axial(require_data("ct", "totalsegmentator_examples", file))
        return {"series": to_ct_series(volume, f"real abdomen {file}")}

    return make


def _head(_workshop: Workshop) -> Made:
    """Return the mean of many heads on CT: the shape that every head has."""
    volume = _axial(require_data("ct", "totalsegmentator_examples", "ct_brain_atlas_1mm.nii.gz"))
    grid = volume.grid
    voxels = volume.voxels[::2, ::2, ::2]
    slices, rows, columns = voxels.shape
    down, back, left = grid.spacing_mm
    coarse = Grid(
        (slices, rows, columns), grid.origin_mm, grid.axes, (2 * down, 2 * back, 2 * left)
    )
    return {"series": to_ct_series(Volume(voxels, coarse), "real head")}


def _part_of_abdomen(_workshop: Workshop) -> Made:
    """Return 20 slices whose UIDs were blanked to hide the patient: they get new ones."""
    folder = require_data("ct", "totalsegmentator_examples", "example_ct_dicom")
    instances: list[Dataset] = [dcmread(path) for path in sorted(folder.iterdir())]
    for instance in instances:
        instance.SOPClassUID = instance.file_meta.MediaStorageSOPClassUID
        instance.StudyInstanceUID = derived_uid("real studies", "part of abdomen", "study")
    return {"series": _renamed(instances, "part of abdomen")}


def _abdomen_mr(_workshop: Workshop) -> Made:
    volume = _axial(require_data("ct", "totalsegmentator_examples", "example_mr_sm.nii.gz"))
    return {"series": _mr(volume, "real abdomen mr")}


def _breast_mr(_workshop: Workshop) -> Made:
    volume = _axial(require_data("mr", "tumour_labels_pyradiomics", "breast1_image.nrrd"))
    return {"series": _mr(volume, "real breast")}


def _mr(volume: Volume, root: str) -> list[Dataset]:
    return to_mr_series(np.rint(volume.voxels.clip(0)).astype(np.uint16), volume.grid, root=root)


def _axial(path: Path) -> Volume:
    """Read an image file, with slices from the feet up, seen from there, as scanners send them."""
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32), "LPS")
    voxels = SimpleITK.GetArrayFromImage(image)
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return Volume(voxels, Grid(voxels.shape, image.GetOrigin(), axes, image.GetSpacing()[::-1]))


def _glioma(_workshop: Workshop) -> Made:
    volumes = read_glioma(require_data("mr", "glioma_tcga_fg6692"))
    instances = tumour_study({name: Acquired(volumes[name]) for name in GLIOMA})
    series: Made = {name: [] for name in GLIOMA}
    for instance in instances:
        series[GLIOMA[instance.SeriesNumber - 1]].append(instance)
    return series


GLIOMA = ("t1c", "t1", "t2", "flair")


def _one_of_glioma(name: str) -> Callable[[Workshop], Made]:
    return lambda workshop: {
        "series": [dcmread(path) for path in workshop.series("glioma MR")[name]]
    }


def _ecg_two_leads(_workshop: Workshop) -> Made:
    recording = from_wfdb(require_data("ecg", "cpsc2021", "data_8_4.hea").with_suffix(""))
    return {"series": [waveform_object(recording.cut(0.0, 60.0), sop_class=GENERAL)]}


def _ecg_twelve_leads(_workshop: Workshop) -> Made:
    recording = from_wfdb(require_data("ecg", "cinc2021_georgia", "E07500.hea").with_suffix(""))
    return {"series": [waveform_object(recording, sop_class=TWELVE_LEAD)]}


def _missing(name: str) -> Callable[[Workshop], Made]:
    """Return how to lose a slice in the middle of a series."""

    def lose(workshop: Workshop) -> Made:
        instances = workshop.read(name)
        places = [instance.ImagePositionPatient for instance in instances]
        axis = int(np.ptp(np.array(places, float), axis=0).argmax())
        instances.sort(key=lambda one: float(one.ImagePositionPatient[axis]))
        del instances[len(instances) // 2]
        return {"series": instances}

    return lose


def _derived(name: str, *image_type: str) -> Callable[[Workshop], Made]:
    """Return how a console makes a series of another: each slice the brightest of three."""

    def derive(workshop: Workshop) -> Made:
        instances = workshop.read(name)
        pixels = np.stack([instance.pixel_array for instance in instances])
        brightest = np.maximum(pixels, np.maximum(np.roll(pixels, 1, 0), np.roll(pixels, -1, 0)))
        for instance, plane in zip(instances, brightest, strict=True):
            instance.ImageType = list(image_type)
            _draw(instance, plane)
        return {"series": _renamed(instances, f"{name} {image_type}")}

    return derive


def _localizer(workshop: Workshop) -> Made:
    """Return the chest from the front, as CT scanners plan their slices on."""
    instances = sorted(workshop.read(CHEST), key=lambda one: -float(one.ImagePositionPatient[2]))
    front = np.stack([instance.pixel_array for instance in instances]).mean(axis=1)
    image = instances[0]
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    image.PixelSpacing = [3.27, image.PixelSpacing[1]]
    _draw(image, front.astype(np.int16))
    return {"series": _renamed([image], "localizer")}


def _capture(modality: str, count: int) -> Callable[[Workshop], Made]:
    """Return how a console saves its screen: in colour, with writing in it."""

    def capture(workshop: Workshop) -> Made:
        captures = []
        for number, image in enumerate(workshop.read(CHEST)[40 : 40 + count], start=1):
            grey = np.clip((image.pixel_array.astype(float) + 1000.0) / 8.0, 0, 255)
            screen = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
            screen[8:16, 8:120] = (255, 255, 0)
            for keyword in (
                *("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue"),
                *("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"),
                *("WindowCenter", "WindowWidth", "PixelSpacing", "SliceThickness"),
            ):
                if keyword in image:
                    delattr(image, keyword)
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID(
                SecondaryCaptureImageStorage
            )
            image.Modality, image.ConversionType = modality, "WSD"
            image.ImageType = ["DERIVED", "SECONDARY"]
            image.BurnedInAnnotation, image.InstanceNumber = "YES", number
            image.set_pixel_data(screen, "RGB", 8)
            captures.append(image)
        return {"series": _renamed(captures, f"capture {modality}")}

    return capture


def _draw(image: Dataset, plane: npt.NDArray[np.generic]) -> None:
    stored = plane.astype(np.int16 if image.PixelRepresentation else np.uint16)
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.set_pixel_data(stored, str(image.PhotometricInterpretation), int(image.BitsStored))


def _renamed(instances: list[Dataset], root: str) -> list[Dataset]:
    """Return the instances as a series of its own."""
    for number, instance in enumerate(instances):
        instance.SeriesInstanceUID = derived_uid("real studies", root)
        instance.SOPInstanceUID = derived_uid("real studies", root, str(number))
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    return instances


CHEST, HEAD = "chest CT", "head MR, T1"

STUDIES: dict[str, Callable[[Workshop], Made | Taken]] = {
    CHEST: _chest,
    "chest CT without a slice": _missing(CHEST),
    "chest CT, derived": _derived(CHEST, "DERIVED", "SECONDARY", "MIP"),
    "chest CT, localizer": _localizer,
    "chest CT, two slices": _files("ct", "chest_2_slices"),
    "chest CT, capture of the screen": _capture("OT", 1),
    "chest CT, captures called CT": _capture("CT", 4),
    "head CT, tilted and uneven": _files("ct", "head_ge_tilted"),
    "head CT, mean of many": _head,
    "abdomen CT": _abdomen("example_ct.nii.gz"),
    "abdomen CT, small": _abdomen("example_ct_sm.nii.gz"),
    "abdomen CT, part": _part_of_abdomen,
    "perfusion map, Enhanced CT": _files("objects", "eCT_Supplemental.dcm"),
    HEAD: _head_t1,
    "head MR without a slice": _missing(HEAD),
    "head MR, derived": _derived(HEAD, "DERIVED", "SECONDARY", "MPR"),
    "Enhanced MR, ten frames": _files("objects", "emri_small.dcm"),
    "glioma MR": _glioma,
    **{f"glioma MR, {name}": _one_of_glioma(name) for name in GLIOMA[1:]},
    "abdomen MR": _abdomen_mr,
    "breast MR": _breast_mr,
    "ECG, two leads": _ecg_two_leads,
    "ECG, twelve leads": _ecg_twelve_leads,
    "echo, still": _files("us", "gdcm-US-RGB-8-epicard.dcm"),
    "echo, clip": _files("us", "IM00001.implicit_little_endian.dcm"),
    "chest CR": _files("xr", "RG1_J2KI.dcm"),
    "chest CR, small": _files("xr", "gdcm-CR-MONO1-10-chest.dcm"),
    "segmentation": _files("objects", "seg.dcm"),
    "parametric map": _files("objects", "parametric_map_float.dcm"),
    "real world value map": _files("objects", "rwvm.dcm"),
    "report": _files("objects", "sr.dcm"),
}
"""Name -> how it is made."""
