"""Containers that read a folder and write a folder: MONAI Application Packages, mercure modules.

A container gets one series and nothing else: no network, no writable root, no capability, a cap
on memory and processes. The image is named by its digest and must be on the host already. The
folder is made from the pipeline's own arrays, so no name, number or date of the patient is in it:
NIfTI, or DICOM with the geometry and technical attributes only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.runtimes import dicom_folder
from pipelines.runtimes.model_sections import Container
from pipelines.runtimes.network import NetworkFault
from pipelines.runtimes.prediction import Prediction
from pipelines.runtimes.programs import (
    find_program,
    read_labels,
    run_program,
    write_nifti,
    written,
)

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.runtimes.manifest import Manifest

_IN, _OUT = "/var/holoscan/input", "/var/holoscan/output"
"""MONAI Application Package specification, section "Table of important paths"."""
_VARIABLES = {
    "monai-map": {
        "HOLOSCAN_INPUT_PATH": _IN,
        "HOLOSCAN_OUTPUT_PATH": _OUT,
        "MONAI_INPUTPATH": _IN,
        "MONAI_OUTPUTPATH": _OUT,
    },
    "mercure": {"MERCURE_IN_DIR": _IN, "MERCURE_OUT_DIR": _OUT},
}
_PROCESSES = 512
_MOST_LABELS = 1024


class ContainerModel:
    """One image on one engine."""

    def __init__(self, program: str, stated: Container, image: str, deadline_s: float) -> None:
        self._program, self._stated = program, stated
        self._image, self._deadline_s = image, deadline_s

    def read(self, series: tuple[Volume, ...], /) -> Prediction:
        """Return the label of each voxel.

        Raises:
            NetworkFault: The container failed, or wrote something else than one segmentation.
        """
        (volume,) = series
        with tempfile.TemporaryDirectory() as name:
            given, answer = Path(name, "in"), Path(name, "out")
            given.mkdir()
            answer.mkdir()
            if self._stated.input == "nifti":
                write_nifti(volume, given / "image.nii.gz")
                instances: list[str] = []
            else:
                instances = dicom_folder.write(volume, given)
            run_program(self._command(given, answer), self._deadline_s)
            return _answer(answer, volume, instances)

    def _command(self, given: Path, answer: Path) -> list[str]:
        stated = self._stated
        variables = [f"{key}={value}" for key, value in _VARIABLES[stated.interface].items()]
        if stated.engine == "apptainer":
            return [
                *(self._program, "run", "--containall", "--no-home", "--net", "--network=none"),
                *(f"--memory={stated.memory_gb}g", f"--pids-limit={_PROCESSES}"),
                *(["--nv"] if stated.gpu else []),
                *(f"--bind={given}:{_IN}:ro", f"--bind={answer}:{_OUT}"),
                *(f"--env={variable}" for variable in variables),
                self._image,
                *stated.arguments,
            ]
        gpu = {"podman": "--device=nvidia.com/gpu=all", "docker": "--gpus=all"}[stated.engine]
        return [
            *(self._program, "run", "--rm", "--pull=never", "--network=none", "--read-only"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp"),
            *(f"--memory={stated.memory_gb}g", f"--pids-limit={_PROCESSES}"),
            *([f"--timeout={int(self._deadline_s)}"] if stated.engine == "podman" else []),
            *([gpu] if stated.gpu else []),
            *(f"--volume={given}:{_IN}:ro", f"--volume={answer}:{_OUT}"),
            *(f"--env={variable}" for variable in variables),
            self._image,
            *stated.arguments,
        ]


def _answer(folder: Path, volume: Volume, instances: list[str]) -> Prediction:
    """Return the one segmentation that a container wrote: a NIfTI label map or a DICOM SEG.

    Raises:
        NetworkFault: There is none, or more than one.
    """
    images = written(folder, (".nii", ".nii.gz"))
    objects = [path for path in written(folder, ("",)) if dicom_folder.is_segmentation(path)]
    if len(images) + len(objects) != 1:
        raise NetworkFault(
            f"The container wrote {len(images)} NIfTI images and {len(objects)} DICOM "
            "segmentations; one segmentation is needed."
        )
    if images:
        return Prediction(_MOST_LABELS, None, read_labels(images[0], volume.grid))
    if not instances:
        raise NetworkFault('The container wrote a DICOM segmentation: state input = "dicom".')
    masks = dicom_folder.read_segmentation(objects[0], instances, volume.shape)

    def probability(index: int) -> np.ndarray:
        return masks[index].astype(np.float32) if index in masks else np.zeros(volume.shape, "f4")

    return Prediction(1 + max(masks, default=0), probability, None)


def open_network(manifest: Manifest, _files: dict[str, bytes]) -> ContainerModel:
    """Find the engine; the image's digest was checked here (apptainer), or is by the engine.

    Raises:
        RuntimeMissing: The engine is not installed.
    """
    stated = manifest.model
    if not isinstance(stated, Container):
        raise TypeError(stated.runtime)
    program = find_program(stated.engine)
    return ContainerModel(program, stated, stated.image, manifest.deadline_s)
