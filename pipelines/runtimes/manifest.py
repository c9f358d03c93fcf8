"""Read a ``pipeline.toml``: what a model's folder says of itself."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipelines.contract import Model
from pipelines.runtimes.model_sections import (
    OWN_PREPARATION,
    Container,
    ModelSection,
    MonaiBundle,
    Nnunet,
    TotalSegmentator,
)
from pipelines.runtimes.sections import (
    Detection,
    Input,
    Label,
    Output,
    Quantity,
    Section,
    WaveformInput,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE = "pipeline.toml"
_LARGEST_BYTES = 1_000_000
"""A manifest is a page of text; whatever is larger is something else."""

Task = Literal["segmentation", "detection", "classification", "regression", "waveform"]
Text = Annotated[str, Field(min_length=1, max_length=1024)]

_PREPARATION = {
    "view", "spacing_mm", "size", "fit", "channels", "window", "normalisation", "region", "mean",
    "std", "percentiles", "scale_to", "patch", "overlap", "divisible_by", "batch",
}  # fmt: skip


class ManifestError(ValueError):
    """A ``pipeline.toml`` cannot be used as it is.

    Attributes:
        problems: Each names the key and says what to write.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Manifest(Section):
    """A whole ``pipeline.toml``.

    Attributes:
        name: Of the pipeline, as in routes.
        version: Of the model; a new one means new results.
        title: What the reader sees as series description.
        maker: Who made the model.
        licence: Under which it may be used.
        citation: What its authors ask to be cited.
        trained_on: One line on the training data; says "synthetic" where it was.
        intended_use: What it is for, and what not.
        question: Name of the shipped pipeline that does the clinical reading with this network.
        task: What the network does.
        report: Name of the report in ``sr_templates``; empty: as fits the task.
        deadline_s: After this long the inference process is killed.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    title: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\\\x00-\x1f]+$")]
    maker: Text
    licence: Text
    citation: str = ""
    trained_on: Text
    intended_use: str = ""
    question: Annotated[str, Field(pattern=r"^([a-z0-9]+(-[a-z0-9]+)*)?$")] = ""
    task: Task
    report: Annotated[str, Field(pattern=r"^([a-z]+(_[a-z]+)*)?$")] = ""
    deadline_s: Annotated[float, Field(gt=0.0, le=86400.0)] = 600.0
    input: Input
    model: ModelSection
    output: Output = Output()
    labels: tuple[Label, ...] = ()
    detection: Detection | None = None
    quantities: tuple[Quantity, ...] = ()
    waveform: WaveformInput | None = None

    @property
    def report_name(self) -> str:
        """The report's template."""
        return self.report or ("ecg_report" if self.task == "waveform" else "measurement_report")

    @property
    def weights_sha256(self) -> str:
        """Digest of what the model is: its files' digests, or the section that names it."""
        digests = self.model.digests
        if digests:
            said = "".join(f"{digest}  {path}\n" for path, digest in digests.items())
        else:
            said = json.dumps(
                self.model.model_dump(mode="json", exclude={"gpu_memory_gb"}), sort_keys=True
            )
        return hashlib.sha256(said.encode()).hexdigest()

    def described(self) -> Model:
        """Return the algorithm as result objects name it."""
        return Model(
            name=self.name,
            version=self.version,
            maker=self.maker,
            weights_sha256=self.weights_sha256,
            trained_on=self.trained_on,
            citation=self.citation,
        )

    def parameters(self) -> Mapping[str, str]:
        """Return everything stated that changes the result, as text: dotted key -> value."""
        stated = self.model_dump(
            mode="json",
            include={"input", "model", "output", "labels", "detection", "quantities", "waveform"},
            exclude={"model": {"gpu_memory_gb"}},
            exclude_defaults=True,
        )
        return dict(_flat(stated))

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        problems = [*self._task_problems(), *self._model_problems(), *self._label_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _task_problems(self) -> Iterator[str]:
        needs = {
            "segmentation": ("labels",),
            "detection": ("labels", "detection"),
            "classification": ("labels",),
            "regression": ("quantities",),
            "waveform": ("waveform",),
        }[self.task]
        for section in needs:
            if not getattr(self, section):
                how = f"[[{section}]]" if section in ("labels", "quantities") else f"[{section}]"
                yield f"{section}: a {self.task} model needs {how}"
        if self.task == "waveform" and not (self.labels or self.quantities):
            yield "labels: a waveform model needs [[labels]] or [[quantities]]"
        takes = {"waveform": {"labels", "quantities"}, "detection": {"labels"}}
        for section in ("labels", "detection", "quantities", "waveform"):
            if (
                getattr(self, section)
                and section not in needs
                and section not in takes.get(self.task, ())
            ):
                yield f"{section}: a {self.task} model has no such section"
        decides = self.task in ("segmentation", "classification") or (
            self.task == "waveform" and self.labels
        )
        if (
            decides
            and self.output.activation is None
            and not isinstance(self.model, OWN_PREPARATION)
        ):
            yield (
                'output.activation: state "softmax" (one label a voxel), "sigmoid" (labels apart) '
                'or "none" (the network gives probabilities)'
            )

    def _model_problems(self) -> Iterator[str]:
        if not isinstance(self.model, OWN_PREPARATION):
            if self.task != "waveform":
                yield from (f"input.{problem}" for problem in self.input.problems())
            return
        runtime = self.model.runtime
        if self.task not in ("segmentation", "detection") or (
            self.task == "detection" and runtime != "monai-bundle"
        ):
            yield f"task: the runtime {runtime} does segmentation"
        for key in sorted(_PREPARATION & self.input.model_fields_set):
            yield f"input.{key}: leave it out, the runtime {runtime} prepares the images itself"
        if isinstance(self.model, (TotalSegmentator, Container)) and self.input.series:
            yield f"input.series: the runtime {runtime} takes one series: use match"
        if self.input.orientation is not None and not isinstance(self.model, (Nnunet, MonaiBundle)):
            yield f"input.orientation: leave it out, the runtime {runtime} is told by the image"
        if self.input.orientation is None and isinstance(self.model, Nnunet):
            yield (
                "input.orientation: nnU-Net takes arrays as they lie; state how the training "
                'images lay, such as "SPL" for axial NIfTI or DICOM files read by SimpleITK, '
                '"RAS" for NibabelIOWithReorient'
            )

    def _label_problems(self) -> Iterator[str]:
        for rows, key in (
            (self.labels, "label"),
            (self.labels, "index"),
            (self.quantities, "index"),
        ):
            values = [getattr(row, key) for row in rows]
            for value in sorted({value for value in values if values.count(value) > 1}, key=str):
                yield f"labels: {key} = {value!r} is there twice"
        mutually_exclusive = self.task == "segmentation" and (
            self.output.activation == "softmax" or isinstance(self.model, OWN_PREPARATION)
        )
        if mutually_exclusive and any(label.index == 0 for label in self.labels):
            yield "labels: index 0 is the background; the first label has index 1"


def read(folder: Path) -> Manifest:
    """Read the manifest of a model's folder.

    Raises:
        ManifestError: It is missing, no TOML, or cannot be right; with every problem found.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError:
        raise ManifestError([f"{FILE}: the folder has none; docs/models.md shows how to"]) from None
    if len(content) > _LARGEST_BYTES:
        raise ManifestError([f"{FILE}: it is larger than 1 MB; it is a page of text"])
    return parse(content)


def parse(content: bytes) -> Manifest:
    """Read a manifest from the bytes of the file.

    Raises:
        ManifestError: As of ``read``.
    """
    try:
        stated = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError([f"{FILE}: {error}"]) from None
    try:
        return Manifest.model_validate(stated)
    except ValidationError as error:
        raise ManifestError([line for one in error.errors() for line in _lines(one)]) from None


def _lines(error: Any) -> Iterator[str]:
    """Yield a problem that pydantic found as sentences that name the key."""
    loc = error["loc"][:1] + error["loc"][2:] if error["loc"][:1] == ("model",) else error["loc"]
    where = ".".join(str(part) for part in loc if not (isinstance(part, str) and "[" in part))
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "extra_forbidden":
        yield f"{where}: no such key{_nearest(str(error['loc'][-1]))}"
    elif error["type"] == "missing":
        yield f"{where}: it is missing"
    elif isinstance(cause, ValueError):
        yield from (f"{where}: {line}" if where else line for line in str(cause).split("\n"))
    else:
        yield f"{where}: {error['msg']}"


def _nearest(key: str) -> str:
    sections = (Manifest, Input, Output, Label, Detection, Quantity, WaveformInput)
    known = {name for section in sections for name in section.model_fields}
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for row in value:
            yield from _flat(row, f"{key}.{row.get('index', '')}")
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)
