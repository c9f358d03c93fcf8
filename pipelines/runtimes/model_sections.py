"""The ``[model]`` section of a ``pipeline.toml``: which runtime, and its files by digest."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.runtimes.sections import Count, Section, Sha256

Device = Literal["auto", "cpu", "cuda"]


def check_path(path: str) -> str:
    """Return a path below the model's folder as it is.

    Raises:
        ValueError: It leads out of the folder.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
        raise ValueError(f"{path!r}: name a file below the folder, without .. and drive letters")
    return path


class _Files(Section):
    """What every runtime has.

    Attributes:
        device: Where it runs; "auto": on a graphics card, if there is one.
        gpu_memory_gb: What a run takes of the card at most, beside the weights; none: it has the
            card for itself. No other result, so no parameter.
    """

    device: Device = "auto"
    gpu_memory_gb: Annotated[float, Field(gt=0.0)] | None = None

    @property
    def digests(self) -> dict[str, str]:
        """Path below the folder -> SHA-256, in the order in which the files are used."""
        return {}


class _Torch(_Files):
    """What runs in torch.

    Attributes:
        precision: What the network's layers compute in on a graphics card, by torch.autocast;
            sums are in float32. "float32" is torch's own, whose convolutions round to TF32.
    """

    precision: Literal["float32", "bfloat16", "float16"] = "float32"


class _OneFile(_Files):
    file: str
    sha256: Sha256

    @model_validator(mode="after")
    def _stays_inside(self) -> _OneFile:
        check_path(self.file)
        return self

    @property
    def digests(self) -> dict[str, str]:
        return {self.file: self.sha256}


class _ManyFiles(_Files):
    files: Annotated[dict[str, Sha256], Field(min_length=1)]

    @model_validator(mode="after")
    def _stay_inside(self) -> _ManyFiles:
        for path in self.files:
            check_path(path)
        return self

    @property
    def digests(self) -> dict[str, str]:
        return dict(self.files)


class Onnx(_OneFile):
    """An ONNX graph. ``inputs`` and ``outputs`` name its tensors where it has several."""

    runtime: Literal["onnx"]
    input: str = ""
    outputs: tuple[str, ...] = ()


class TorchScript(_Torch, _OneFile):
    """A TorchScript archive. ``outputs`` are the keys, where it returns a dictionary."""

    runtime: Literal["torchscript"]
    outputs: tuple[str, ...] = ()


class Safetensors(_Torch, _OneFile):
    """Weights alone. ``network`` = ``name`` of a MONAI class and its arguments."""

    runtime: Literal["safetensors"]
    network: dict[str, Any]
    outputs: tuple[str, ...] = ()


class MonaiBundle(_Torch, _ManyFiles):
    """A MONAI bundle: ``files`` are its configs and weights.

    Attributes:
        weights: Which of the files the network is loaded from.
        config: The inference config.
    """

    runtime: Literal["monai-bundle"]
    config: str = "configs/inference.json"
    weights: str = "models/model.pt"

    @model_validator(mode="after")
    def _are_listed(self) -> MonaiBundle:
        for path in (self.config, self.weights):
            if path not in self.files:
                raise ValueError(f'files: add "{path}" = "its SHA-256"')
        return self


class Nnunet(_ManyFiles):
    """An nnU-Net v2 model folder, as ``nnUNetv2_train`` writes it.

    Attributes:
        folds: Whose checkpoints are averaged.
        checkpoint: Name of the file in each fold's folder.
        mirroring: Average over mirrored images, too, where the training allows it.
    """

    runtime: Literal["nnunet"]
    folds: Annotated[tuple[int | Literal["all"], ...], Field(min_length=1)] = (0,)
    checkpoint: str = "checkpoint_final.pth"
    mirroring: bool = True

    @model_validator(mode="after")
    def _are_listed(self) -> Nnunet:
        needed = ["dataset.json", "plans.json"]
        needed += [f"fold_{fold}/{self.checkpoint}" for fold in self.folds]
        for path in needed:
            if path not in self.files:
                raise ValueError(f'files: add "{path}" = "its SHA-256"')
        return self


class TotalSegmentator(_Files):
    """The site's own TotalSegmentator, called as a command.

    Attributes:
        command: Absolute path of the program, or its name where it is on the path.
        version: What the command says its version is; another one is refused.
        subtask: Its ``--task``.
        fast: Its ``--fast``.
    """

    runtime: Literal["totalsegmentator"]
    command: str = "TotalSegmentator"
    version: Annotated[str, Field(min_length=1)]
    subtask: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "total"
    fast: bool = False


class Container(_Files):
    """A container that reads a folder and writes a folder (MONAI MAP, mercure).

    Attributes:
        engine: What runs it.
        image: With its digest: ``name@sha256:...``; for apptainer the path of a file in the folder.
        sha256: Of that file.
        input: What lies in the folder that it reads.
        interface: "monai-map" (HOLOSCAN_ and MONAI_ variables) or "mercure" (MERCURE_IN_DIR and
            MERCURE_OUT_DIR).
        arguments: Added to the command line of the image.
        memory_gb: It gets no more than this.
        gpu: It sees the graphics card.
    """

    runtime: Literal["container"]
    engine: Literal["podman", "docker", "apptainer"] = "podman"
    image: str
    sha256: Sha256 | None = None
    input: Literal["nifti", "dicom"] = "nifti"
    interface: Literal["monai-map", "mercure"] = "monai-map"
    arguments: tuple[str, ...] = ()
    memory_gb: Count = 8
    gpu: bool = False

    @model_validator(mode="after")
    def _is_pinned(self) -> Container:
        if self.engine == "apptainer":
            check_path(self.image)
            if self.sha256 is None:
                raise ValueError("sha256: state the digest of the image file")
        else:
            _, _, digest = self.image.partition("@sha256:")
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(
                    "image: pin it by digest, name@sha256:...; a tag may be another tomorrow"
                )
        if self.image.startswith("-"):
            raise ValueError("image: a name does not start with a dash")
        return self

    @property
    def digests(self) -> dict[str, str]:
        """The image file of apptainer; an engine checks the digest of its own images."""
        return {self.image: self.sha256} if self.sha256 else {}


ModelSection = Annotated[
    Onnx | TorchScript | Safetensors | MonaiBundle | Nnunet | TotalSegmentator | Container,
    Field(discriminator="runtime"),
]

OWN_PREPARATION = (MonaiBundle, Nnunet, TotalSegmentator, Container)
"""They do their own preparation of the images: keys of it in ``[input]`` would not be heard."""
