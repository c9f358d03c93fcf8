"""What every template is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom import Dataset

    from pipelines.contract import Model, Volume, Waveform

NOT_FOR_DIAGNOSIS = "Made by an algorithm. Not for primary diagnosis."


@dataclass(frozen=True)
class Author:
    """The algorithm that speaks.

    Attributes:
        model: Name, version, maker, digest of the weights, training data.
        device_uid: Changes whenever the model changes (IHE AIR 6.5.3.1).
        pipeline: Name and version of the code around the model.
        parameters: What else changes the result.
    """

    model: Model
    device_uid: str
    pipeline: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentReference:
    """Where the segment of a label is stored."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        instances: Headers of the instances that were analysed.
        study: What the pipeline saw of them.
        author: The algorithm.
        tracking_uid: Segment label, or ``finding-N`` for a finding without one -> UID.
        segments: Label -> where it is stored. An empty segment is not stored.
    """

    instances: tuple[Dataset, ...]
    study: Volume | Waveform
    author: Author
    tracking_uid: Callable[[str], str]
    segments: Mapping[str, SegmentReference] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A content tree and the kind of document it goes into.

    Attributes:
        sop_class_uid: Enhanced, Comprehensive or Comprehensive 3D SR.
        root: The root container, a highdicom ``ContainerContentItem``.
        complete: False when the study could not be analysed (Completion Flag, PS3.3 C.17.2).
    """

    sop_class_uid: str
    root: Any
    complete: bool = True
