"""What every template is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom import Dataset

    from pipelines.contract import Finding, Model, Study

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
        instances: Headers of the instances that were analysed, as ``node.load.source.Source``
            orders them.
        study: What the pipeline saw of them.
        author: The algorithm.
        tracking_uid: Segment label, or ``finding-N`` for a finding without one -> UID.
        segments: Label -> where it is stored. An empty segment is not stored.
        frame_numbers: Multi-frame only: image ``k`` is frame ``frame_numbers[k]``, from 1.
        beside: Headers of other series that were analysed together with them.
    """

    instances: tuple[Dataset, ...]
    study: Study
    author: Author
    tracking_uid: Callable[[str], str]
    segments: Mapping[str, SegmentReference] = field(default_factory=dict)
    frame_numbers: tuple[int, ...] = ()
    beside: tuple[Dataset, ...] = ()

    def image(self, index: int) -> tuple[Dataset, int | None]:
        """Return the instance that holds an image of the study, and its frame number if any."""
        if self.frame_numbers:
            return self.instances[0], self.frame_numbers[index]
        return self.instances[index], None

    def tracking_uid_of(self, finding: Finding, number: int) -> str:
        """Return the UID a finding is tracked by: an earlier study's, its segment's, or its own.

        Args:
            finding: One of the result.
            number: Its place in the result, from 1.
        """
        return finding.tracking_uid or self.tracking_uid(finding.segment or f"finding-{number}")


@dataclass(frozen=True)
class Report:
    """A content tree and the kind of document it goes into.

    Attributes:
        sop_class_uid: Enhanced, Comprehensive, Comprehensive 3D or Chest CAD SR.
        root: The root container, a highdicom ``ContainerContentItem``.
        complete: False when the study could not be analysed (Completion Flag, PS3.3 C.17.2).
    """

    sop_class_uid: str
    root: Any
    complete: bool = True
