"""Marks of a chest CAD report: on which image, where, how sure, and whether to show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines import codes as shared
from pipelines.contract import (
    Code,
    Finding,
    Graphic,
    Measurement,
    Presence,
    Region,
    Result,
    Segment,
)
from sr_templates import codes
from sr_templates.chest_cad_report import chest_cad_report
from sr_templates.tree import children_named, code_of, name_of, walk
from tests.sr_templates import made, marked


@pytest.fixture(scope="module")
def sr():
    return marked.cad(marked.nodules())


def value(parent, name):
    """Return the one code that answers ``name`` below ``parent``."""
    (item,) = children_named(parent, name)
    return code_of(item.ConceptCodeSequence[0])


def marks(sr):
    (summary,) = children_named(sr, codes.PROCESSING_SUMMARY)
    return list(summary.get("ContentSequence", ()))


def shape(mark, name):
    (item,) = children_named(mark, name)
    return item.GraphicType, list(item.GraphicData)


def image(mark):
    (item,) = children_named(mark, codes.CENTER)
    return item.ContentSequence[0].ReferencedSOPSequence[0]


def text(mark, name):
    (item,) = children_named(mark, name)
    return item.TextValue


def test_the_document_is_a_chest_cad_sr(sr):
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.65"
    assert name_of(sr) == codes.CHEST_CAD_REPORT
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "4100"
    assert sr.SeriesNumber == 23704


def test_the_root_has_the_rows_of_its_template_and_no_other(sr):
    assert [name_of(item).meaning for item in sr.ContentSequence] == [
        "Language of Content Item and Descendants",
        "CAD Processing and Findings Summary",
        "Summary of Detections",
        "Summary of Analyses",
    ]


def test_a_nodule_is_an_abnormal_opacity_modified(sr):
    first = marks(sr)[0]
    assert code_of(first.ConceptCodeSequence[0]).meaning == "Abnormal opacity"
    assert value(first, codes.SINGLE_IMAGE_FINDING_MODIFIER) == shared.NODULE


def test_a_segment_is_marked_on_the_slice_where_it_is_largest(sr):
    first = marks(sr)[0]
    assert image(first).ReferencedSOPInstanceUID == marked.chest_ct().instances[7].SOPInstanceUID
    assert shape(first, codes.CENTER) == ("POINT", [5.5, 7.5])
    assert shape(first, codes.OUTLINE) == ("POLYLINE", [2, 3, 9, 3, 9, 12, 2, 12, 2, 3])


def test_a_region_is_marked_on_each_image_it_is_drawn_on_and_tracked_as_one(sr):
    _, second, third, _ = marks(sr)
    instances = marked.chest_ct().instances
    assert [image(one).ReferencedSOPInstanceUID for one in (second, third)] == [
        instances[2].SOPInstanceUID,
        instances[3].SOPInstanceUID,
    ]
    assert shape(second, codes.CENTER) == ("POINT", [6, 7])
    assert shape(second, codes.OUTLINE) == ("CIRCLE", [6, 7, 8, 7])
    uids = {children_named(one, codes.TRACKING_UID)[0].UID for one in (second, third)}
    assert len(uids) == 1


def test_a_point_has_no_outline():
    point = Region(4, Graphic.POINT, ((3.5, 4.5),))
    (mark,) = marks(marked.cad(Result((Finding(shared.NODULE, regions=(point,)),))))
    assert shape(mark, codes.CENTER) == ("POINT", [3.5, 4.5])
    assert not children_named(mark, codes.OUTLINE)


def test_what_is_sure_must_be_shown_and_what_is_not_may_be(sr):
    assert [value(mark, codes.RENDERING_INTENT) for mark in marks(sr)] == [
        codes.PRESENTATION_REQUIRED,
        codes.PRESENTATION_OPTIONAL,
        codes.PRESENTATION_OPTIONAL,
        codes.NOT_FOR_PRESENTATION,
    ]


def test_a_finding_without_a_place_is_told_but_not_drawn(sr):
    last = marks(sr)[-1]
    assert code_of(last.ConceptCodeSequence[0]) == codes.SELECTED_REGION
    assert text(last, codes.SELECTED_REGION_DESCRIPTION).startswith("Hemorrhage: present")
    assert shape(last, codes.OUTLINE)[1] == [0, 0, 16, 0, 16, 20, 0, 20, 0, 0]


def test_a_concept_that_the_chest_groups_lack_is_a_selected_region_that_names_it():
    point = Region(4, Graphic.POINT, ((3.5, 4.5),))
    (mark,) = marks(marked.cad(Result((Finding(shared.BRAIN, regions=(point,)),))))
    assert code_of(mark.ConceptCodeSequence[0]) == codes.SELECTED_REGION
    assert text(mark, codes.SELECTED_REGION_DESCRIPTION) == "Brain: present."
    assert value(mark, codes.RENDERING_INTENT) == codes.PRESENTATION_REQUIRED


def test_a_class_of_its_own_needs_no_modifier():
    opacity = Code("112033", "DCM", "Abnormal opacity")
    point = Region(4, Graphic.POINT, ((3.5, 4.5),))
    (mark,) = marks(marked.cad(Result((Finding(opacity, regions=(point,)),))))
    assert code_of(mark.ConceptCodeSequence[0]) == opacity
    assert not children_named(mark, codes.SINGLE_IMAGE_FINDING_MODIFIER)


def test_site_side_measurements_and_certainty_go_with_the_mark(sr):
    first = marks(sr)[0]
    assert value(first, codes.LOCATION_IN_CHEST) == marked.UPPER_LOBE
    assert text(first, codes.TRACKING_IDENTIFIER) == "Nodule 1, Upper lobe of lung, Left"
    (volume,) = children_named(first, shared.VOLUME)
    assert float(volume.MeasuredValueSequence[0].NumericValue) == pytest.approx(0.378)
    (certainty,) = children_named(first, codes.CERTAINTY_OF_FINDING)
    assert certainty.MeasuredValueSequence[0].NumericValue == 93


def test_mean_and_deviation_of_a_mark_can_be_told_apart():
    measured = tuple(
        Measurement(shared.ATTENUATION_COEFFICIENT, hounsfield, "[hnsf'U]", derivation=statistic)
        for hounsfield, statistic in ((41.0, shared.MEAN), (7.0, shared.STANDARD_DEVIATION))
    )
    point = Region(4, Graphic.POINT, ((3.5, 4.5),))
    finding = Finding(shared.NODULE, regions=(point,), measurements=measured)
    (mark,) = marks(marked.cad(Result((finding,))))
    told = children_named(mark, shared.ATTENUATION_COEFFICIENT)
    assert [value(item, codes.DERIVATION) for item in told] == [
        shared.MEAN,
        shared.STANDARD_DEVIATION,
    ]


def test_what_was_looked_for_and_not_found_is_a_detection_without_a_mark(sr):
    (summary,) = children_named(sr, codes.SUMMARY_OF_DETECTIONS)
    performed = children_named(summary.ContentSequence[0], codes.DETECTION_PERFORMED)
    assert marked.EMBOLISM in [code_of(one.ConceptCodeSequence[0]) for one in performed]
    labels = [text(mark, codes.TRACKING_IDENTIFIER) for mark in marks(sr)]
    assert not any("embolism" in label for label in labels)
    assert value(sr, codes.SUMMARY_OF_ANALYSES) == codes.NOT_ATTEMPTED


def test_what_is_normal_has_no_mark():
    lung = Segment("Lung", shared.ANATOMICAL_STRUCTURE, shared.LUNG, made.mask())
    told = Finding(shared.LUNG, segment="Lung", normal=True)
    for findings in ((), (told,)):
        sr = marked.cad(Result(findings, (lung,)))
        assert marks(sr) == []
        assert value(sr, codes.PROCESSING_SUMMARY) == codes.SUCCEEDED_WITHOUT_FINDINGS


@pytest.mark.parametrize(
    ("findings", "summary"),
    [
        ((), codes.SUCCEEDED_WITHOUT_FINDINGS),
        ((Finding(shared.NODULE, Presence.ABSENT),), codes.SUCCEEDED_WITHOUT_FINDINGS),
        ((Finding(shared.NODULE, Presence.INDETERMINATE),), codes.SUCCEEDED_WITH_FINDINGS),
        ((Finding(shared.NODULE),), codes.SUCCEEDED_WITH_FINDINGS),
    ],
)
def test_the_summary_says_whether_there_are_findings(findings, summary):
    assert value(marked.cad(Result(findings)), codes.PROCESSING_SUMMARY) == summary


def test_a_mark_on_a_multi_frame_image_names_its_frame():
    source = made.multiframe()
    first = marks(marked.cad(marked.nodules(), source))[0]
    assert image(first).ReferencedFrameNumber == source.frame_numbers[7]


def test_evidence_covers_every_image_that_is_referred_to(sr):
    listed = {
        one.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert listed >= {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(sr)
        if item.ValueType == "IMAGE"
    }


def test_an_ecg_is_refused():
    about = marked.subject(marked.chest_ct())
    with pytest.raises(TypeError, match="about images"):
        chest_cad_report(replace(about, study=made.ecg().study), Result())
