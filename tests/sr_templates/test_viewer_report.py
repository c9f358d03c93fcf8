"""What viewers draw: each thing that was found, where it is, with the numbers a reader needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import ComprehensiveSRStorage

from node.load.source import Source
from pipelines import codes as shared
from pipelines.contract import Finding, Graphic, Images, Presence, Region, Result, Segment
from sr_templates import codes
from sr_templates.report import Subject
from sr_templates.tree import children_named, code_of, is_named, name_of, walk
from sr_templates.viewer_report import viewer_report
from tests.sr_templates import made

REGION = (Region(2, Graphic.POINT, ((3.5, 4.5),)),)


def subject(source):
    return Subject(
        instances=source.instances,
        study=source.study,
        author=made.work().author,
        tracking_uid=lambda label: made.work().uid(f"tracking-{label}"),
        frame_numbers=source.frame_numbers,
    )


def groups(root):
    return [item for item in walk(root) if is_named(item, codes.MEASUREMENT_GROUP)]


def drawn(node):
    return [item for item in walk(node) if item.ValueType == "SCOORD"]


def identifier(group):
    return children_named(group, codes.TRACKING_IDENTIFIER)[0].TextValue


def uids(root):
    return [children_named(group, codes.TRACKING_UID)[0].UID for group in groups(root)]


def numbers(group):
    """Name -> value and unit of each number of a group."""
    return {
        name_of(item).meaning: (
            float(item.MeasuredValueSequence[0].NumericValue),
            code_of(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]).value,
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def points(item):
    return np.array(item.GraphicData).reshape(-1, 2)


def reported(result, source=None):
    report = viewer_report(subject(source or made.classic()), result)
    return groups(report.root)


@pytest.mark.parametrize("kind", ["lesion", "lesion-enhanced", "drawn", "drawn-enhanced"])
def test_every_group_is_drawn_and_tracked_by_a_uid_of_its_own(report, kind):
    sr = report(kind, "viewer-sr")
    assert sr.SOPClassUID == ComprehensiveSRStorage
    assert is_named(sr, codes.IMAGING_MEASUREMENT_REPORT)
    assert groups(sr)
    assert all(drawn(group) for group in groups(sr))
    assert len(set(uids(sr))) == len(groups(sr))
    assert not any("Cornerstone" in identifier(group) for group in groups(sr))


@pytest.mark.parametrize("kind", ["lesion", "lesion-enhanced"])
def test_an_outline_is_on_the_image_where_the_mask_is_largest(report, kind):
    sr, source = report(kind, "viewer-sr"), made.everything()[kind][0]
    outline = drawn(groups(sr)[0])[0]
    largest = int(made.mask().sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(made.mask()[largest])
    corners = points(outline)
    assert corners.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert corners.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    assert np.array_equal(corners[0], corners[-1])
    reference = outline.ContentSequence[0].ReferencedSOPSequence[0]
    if source.frame_numbers:
        assert reference.ReferencedFrameNumber == source.frame_numbers[largest]
    else:
        assert reference.ReferencedSOPInstanceUID == source.instances[largest].SOPInstanceUID
        assert "ReferencedFrameNumber" not in reference


def test_the_outline_has_the_uid_of_its_segment_and_what_a_reader_needs(report, files):
    outline = groups(report("lesion", "viewer-sr"))[0]
    segment = report("lesion", "seg").SegmentSequence[0]
    assert (identifier(outline), children_named(outline, codes.TRACKING_UID)[0].UID) == (
        segment.SegmentLabel,
        segment.TrackingUID,
    )
    said = numbers(outline)
    assert list(said)[:3] == ["Area", "Long Axis", "Short Axis"]
    assert {name: said[name] for name in list(said)[3:]} == {
        "Volume": (pytest.approx(made.millilitres(made.mask())), "mL"),
        "Attenuation Coefficient": (0.0, "[hnsf'U]"),
        "Certainty of Finding": (93.0, "%"),
    }
    (site,) = children_named(outline, codes.FINDING_SITE)
    assert code_of(site.ConceptCodeSequence[0]) == shared.LUNG


def test_each_axis_of_a_lesion_is_as_long_as_its_line(report):
    """Outline and axes are one group: two would write their labels over each other."""
    lesion = groups(report("lesion", "viewer-sr"))[0]
    axes = (
        *children_named(lesion, shared.LONG_AXIS),
        *children_named(lesion, shared.SHORT_AXIS),
    )
    assert len(axes) == 2
    for item in axes:
        (line,) = item.ContentSequence
        across_mm = np.diff(points(line), axis=0)[0] * made.SPACING_MM[:0:-1]
        stated = float(item.MeasuredValueSequence[0].NumericValue)
        assert np.hypot(*across_mm) == pytest.approx(stated, rel=1e-5)
    images = {
        line.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for line in drawn(lesion)
    }
    assert len(images) == 1


def test_the_area_is_that_within_its_outline(report):
    (area,) = children_named(groups(report("lesion", "viewer-sr"))[0], shared.AREA)
    largest = made.mask()[int(made.mask().sum(axis=(1, 2)).argmax())]
    _, row_mm, column_mm = made.SPACING_MM
    stated = float(area.MeasuredValueSequence[0].NumericValue)
    assert stated == pytest.approx(largest.sum() * row_mm * column_mm)


def test_an_organ_has_an_outline_but_no_axes(report):
    names = [identifier(group) for group in groups(report("lesion", "viewer-sr"))]
    assert names == ["Nodule 1", "Lung"]


def test_regions_are_drawn_as_they_are_the_first_with_the_measurements(report):
    first, second, third = groups(report("drawn", "viewer-sr"))
    assert [drawn(group)[0].GraphicType for group in (first, second, third)] == [
        "CIRCLE",
        "POINT",
        "POLYLINE",
    ]
    assert [identifier(group) for group in (first, second, third)] == [
        "Opacity 1, drawing 1",
        "Opacity 1, drawing 2",
        "Nodule 2",
    ]
    assert numbers(first) == {"Diameter": (5.4, "mm"), "Certainty of Finding": (70.0, "%")}
    assert numbers(second) == {}


def test_two_findings_of_one_segment_are_not_merged():
    nodule = made.lesion(made.classic())
    twice = replace(nodule, findings=nodule.findings * 2)
    tracked = [children_named(group, codes.TRACKING_UID)[0].UID for group in reported(twice)]
    assert len(set(tracked)) == len(tracked) == 3


@pytest.mark.parametrize("presence", [Presence.ABSENT, Presence.INDETERMINATE])
def test_what_is_not_there_is_not_drawn(presence):
    result = Result((Finding(shared.NODULE, presence, regions=REGION),))
    assert viewer_report(subject(made.classic()), result) is None


def test_without_a_place_on_images_there_is_no_report(files):
    assert not any("viewer-sr" in files[kind] for kind in ("nothing", "ecg-present"))
    no_place = Result((Finding(shared.HAEMORRHAGE),))
    assert viewer_report(subject(made.classic()), no_place) is None


@pytest.mark.parametrize("spacing_mm", [None, (0.5, 0.25)])
def test_a_lesion_on_an_image_of_unknown_size_has_no_axes(spacing_mm):
    (first, *_) = made.classic().instances
    block = made.mask()[5:6]
    source = Source(Images(block.astype(np.float32), spacing_mm), (first,))
    segment = Segment("Mass", shared.MORPHOLOGICALLY_ABNORMAL, shared.NODULE, block)
    found = reported(Result(segments=(segment,)), source)
    assert [identifier(group) for group in found] == ["Mass"]
    assert ("Long Axis" in numbers(found[0])) is bool(spacing_mm)
    if spacing_mm:
        rows, columns = np.nonzero(block[0])
        size_mm = (np.ptp(rows) + 1) * 0.5, (np.ptp(columns) + 1) * 0.25
        assert numbers(found[0])["Long Axis"] == (pytest.approx(np.hypot(*size_mm)), "mm")
