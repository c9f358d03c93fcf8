"""TotalSegmentator, as the site installed it: NIfTI in, label map out.

It is called as a command and is no dependency: its weights, licences (some tasks need one) and
updates are the site's. Which version speaks is stated, and checked.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runtimes.model_sections import TotalSegmentator
from pipelines.runtimes.network import NetworkFault, RuntimeMissing
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

_ASKING_S = 120.0
"""Its start imports torch."""
_ENVIRONMENT = ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")
_MOST_LABELS = 1024


class TotalSegmentatorModel:
    """The command."""

    def __init__(self, program: str, stated: TotalSegmentator, deadline_s: float) -> None:
        self._program, self._stated, self._deadline_s = program, stated, deadline_s

    def read(self, series: tuple[Volume, ...], /) -> Prediction:
        """Return the label of each voxel.

        Raises:
            NetworkFault: The command failed, or wrote something else.
        """
        (volume,) = series
        device = {"cuda": "gpu", "cpu": "cpu"}.get(self._stated.device)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_nifti(volume, folder / "image.nii.gz")
            (folder / "out").mkdir()
            arguments = [
                *(self._program, "-i", str(folder / "image.nii.gz")),
                *("-o", str(folder / "out" / "labels.nii.gz")),
                *("--ml", "--task", self._stated.subtask),
                *(["--fast"] if self._stated.fast else []),
                *(["--device", device] if device else []),
            ]
            run_program(arguments, self._deadline_s, _ENVIRONMENT)
            files = written(folder / "out", (".nii.gz", ".nii"))
            if len(files) != 1:
                raise NetworkFault(f"TotalSegmentator wrote {len(files)} images instead of one.")
            return Prediction(_MOST_LABELS, None, read_labels(files[0], volume.grid))


def open_network(manifest: Manifest, _files: dict[str, bytes]) -> TotalSegmentatorModel:
    """Find the command and ask for its version.

    Raises:
        RuntimeMissing: It is not installed, or is another version.
    """
    stated = manifest.model
    if not isinstance(stated, TotalSegmentator):
        raise TypeError(stated.runtime)
    program = find_program(stated.command)
    said = run_program([program, "--version"], _ASKING_S, _ENVIRONMENT)
    if stated.version not in re.findall(r"\d+(?:\.\w+)*", said):
        raise RuntimeMissing(
            f"This host's TotalSegmentator is not version {stated.version}, which pipeline.toml "
            "states; another version may give other results."
        )
    return TotalSegmentatorModel(program, stated, manifest.deadline_s)
