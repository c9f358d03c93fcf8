"""What each segment is, which algorithm outlined it, and where in the body it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highdicom as hd

from sr_templates import codes
from sr_templates.items import concept

if TYPE_CHECKING:
    from pydicom import Dataset

    from node.encode.work import Work
    from pipelines.contract import Code, Finding, Segment


def describe(number: int, segment: Segment, findings: tuple[Finding, ...], work: Work) -> Dataset:
    """Return an item of the Segment Sequence (PS3.3 C.8.20.4).

    Args:
        number: Of the segment, from 1.
        segment: What it is.
        findings: Of the result; the segment lies where the finding that it outlines does.
        work: The job.
    """
    model = work.model
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=concept(codes.ARTIFICIAL_INTELLIGENCE),
        version=model.version[:64],
        source=model.maker[:64],
        parameters={
            "pipeline": f"{work.pipeline} {work.pipeline_version}",
            "weights_sha256": model.weights_sha256,
            **{name: work.parameters[name] for name in sorted(work.parameters)},
        },
    )
    description: Dataset = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.property),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=work.tracking_uid(segment),
        tracking_id=segment.label,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    outlined = (finding for finding in findings if finding.segment == segment.label)
    placed = next((finding for finding in outlined if finding.site is not None), None)
    if placed is not None and placed.site is not None:
        _place(description, segment, placed.site, placed.laterality)
    return description


def _place(description: Dataset, segment: Segment, site: Code, laterality: Code | None) -> None:
    """State the site with its side: of what is the site itself, like a kidney, the side too."""
    region: Any = concept(site)
    if laterality is not None:
        region.AnatomicRegionModifierSequence = [concept(laterality)]
        if site == segment.property:
            (kind,) = description.SegmentedPropertyTypeCodeSequence
            kind.SegmentedPropertyTypeModifierCodeSequence = [concept(laterality)]
    description.AnatomicRegionSequence = [region]
