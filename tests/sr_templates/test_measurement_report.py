"""What the report on images says: found, not found, undecided, and nothing."""

from __future__ import annotations

from pipelines import codes as shared
from pipelines.contract import Finding, Presence, Result, Segment
from sr_templates import codes
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, is_named, name_of, walk
from tests.sr_templates import made


def sr_of(result, source=None):
    return made.encode(source or made.classic(), result, made.work())[-1].dataset


def groups(sr):
    return [item for item in walk(sr) if is_named(item, codes.MEASUREMENT_GROUP)]


def comments(sr):
    return [item.TextValue for item in children_named(sr, codes.COMMENT)]


def answers(node):
    return {
        name_of(item).meaning: code_of(item.ConceptCodeSequence[0])
        for item in walk(node)
        if item.ValueType == "CODE"
    }


def test_an_outlined_finding_refers_to_its_segment_and_shares_its_tracking_uid(report, files):
    sr = report("two-segments")
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    seg = made.everything()["two-segments"][1][0].dataset
    for group, segment in zip(groups(sr), seg.SegmentSequence, strict=True):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
        (reference,) = children_named(group, codes.REFERENCED_SEGMENT)
        assert reference.ReferencedSOPSequence[0].ReferencedSegmentNumber == segment.SegmentNumber
        assert segment.TrackingUID == children_named(group, codes.TRACKING_UID)[0].UID
        assert children_named(group, codes.TRACKING_IDENTIFIER)[0].TextValue == segment.TrackingID


def test_certainty_and_interval_are_in_the_right_units(report):
    (group,) = groups(report("one-segment"))
    (certainty,) = children_named(group, codes.CERTAINTY_OF_FINDING)
    measured = certainty.MeasuredValueSequence[0]
    assert float(measured.NumericValue) == 93.21
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    (volume,) = children_named(group, shared.VOLUME)
    (above,) = children_named(volume, codes.UPPER_UNCERTAINTY)
    assert above.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mL"


def test_no_finding_is_a_coded_statement_and_a_sentence(report):
    sr = report("nothing")
    (group,) = groups(sr)
    said = answers(group)
    assert said[codes.PROCESSING_SUMMARY.meaning] == codes.SUCCEEDED_WITHOUT_FINDINGS
    assert said[codes.ANY_FINDING.meaning] == codes.ABSENT
    assert comments(sr)[0] == "Analysed; nothing was found."
    assert sr.CompletionFlag == "COMPLETE"


def test_an_absent_finding_is_never_called_a_finding():
    sr = sr_of(Result((Finding(shared.HAEMORRHAGE, Presence.ABSENT, confidence=0.98),)))
    (group,) = groups(sr)
    assert not children_named(group, codes.FINDING)
    assert answers(group)["Hemorrhage"] == codes.ABSENT
    assert comments(sr)[0] == "Hemorrhage: looked for, not found, certainty of absence 98.0 %."


def test_an_undecided_finding_has_a_probability_but_no_certainty():
    sr = sr_of(Result((Finding(shared.HAEMORRHAGE, Presence.INDETERMINATE, confidence=0.4),)))
    (group,) = groups(sr)
    assert answers(group)["Hemorrhage"] == codes.PRESENCE_UNDETERMINED
    assert children_named(group, codes.PROBABILITY)
    assert comments(sr)[0] == "Hemorrhage: looked for, undecided, probability of presence 40.0 %."
    assert not children_named(group, codes.CERTAINTY_OF_FINDING)
    assert not children_named(group, codes.FINDING)


def test_an_empty_segment_is_not_stored_and_the_report_says_so():
    empty = Segment("Lesion", shared.MORPHOLOGICALLY_ABNORMAL, shared.NODULE, made.mask(4, 4))
    finding = Finding(shared.NODULE, Presence.ABSENT, segment="Lesion")
    objects = made.encode(made.classic(), Result((finding,), (empty,)), made.work())
    (only,) = objects
    assert only.role == "sr"
    assert any("segment is empty" in comment for comment in comments(only.dataset))
    (group,) = groups(only.dataset)
    assert not children_named(group, codes.REFERENCED_SEGMENT)


def test_a_segment_that_no_finding_mentions_is_reported_all_the_same():
    result = Result(segments=made.outlined().segments)
    seg, sr = made.encode(made.classic(), result, made.work())
    (group,) = groups(sr.dataset)
    assert (seg.dataset.SegmentSequence[0].TrackingUID) == children_named(
        group, codes.TRACKING_UID
    )[0].UID


def test_what_is_outlined_is_in_words_too_though_a_finding_speaks_of_something_else():
    absent = Finding(shared.HAEMORRHAGE, Presence.ABSENT)
    result = Result((absent,), made.outlined().segments)
    said = comments(made.encode(made.classic(), result, made.work())[1].dataset)
    assert said[:2] == ["Hemorrhage: looked for, not found.", "Outlined: Brain."]


def test_what_is_gone_since_an_earlier_study_is_not_said_to_be_nowhere():
    gone = Finding(shared.NODULE, Presence.ABSENT, tracking_uid="1.2.3")
    said = comments(sr_of(Result((Finding(shared.NODULE), gone))))
    assert said[:2] == ["Nodule: present.", "Nodule of an earlier study: not found any more."]


def test_no_group_has_coordinates(report):
    for kind in ("two-segments", "nothing", "absent", "enhanced"):
        assert not any(item.ValueType.startswith("SCOORD") for item in walk(report(kind)))


def test_every_report_names_the_model_its_digest_its_training_and_its_limit(files, report):
    for kind in files:
        sr = report(kind)
        said = " ".join(str(item.get("TextValue", "")) for item in walk(sr))
        for words in (NOT_FOR_DIAGNOSIS, "synthetic spheres", "phantom-net", "2.1", "Someone"):
            assert words in said, (kind, words)
        assert "a" * 64 in said
        observer = [item.UID for item in walk(sr) if is_named(item, codes.DEVICE_OBSERVER_UID)]
        assert observer == [sr.ContributingEquipmentSequence[0].DeviceUID]


def test_the_image_library_lists_every_image_once(report):
    source = made.classic()
    (library,) = children_named(report("nothing"), codes.IMAGE_LIBRARY)
    listed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(library)
        if item.ValueType == "IMAGE"
    ]
    assert listed == [instance.SOPInstanceUID for instance in source.instances]


def test_a_drawn_finding_has_a_planar_group_for_each_region_under_one_tracking_uid(report):
    sr, source = report("drawn-enhanced"), made.multiframe()
    first, second, third, absent = groups(sr)
    templates = [
        group.ContentTemplateSequence[0].TemplateIdentifier
        for group in (first, second, third, absent)
    ]
    assert templates == ["1410", "1410", "1410", "1501"]
    uids = [children_named(group, codes.TRACKING_UID)[0].UID for group in (first, second, third)]
    assert uids[0] == uids[1] != uids[2]
    frames = [
        region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber
        for region in walk(sr)
        if region.ValueType == "SCOORD"
    ]
    assert frames == [source.frame_numbers[image] for image in (3, 5, 0)]
    numbers = [
        [name_of(item).meaning for item in group.ContentSequence if item.ValueType == "NUM"]
        for group in (first, second)
    ]
    assert numbers == [["Diameter", "Certainty of Finding"], []]


def test_a_measurement_says_which_statistic_it_is(report):
    group = groups(report("lesion"))[0]
    derived = [
        code_of(children_named(item, codes.DERIVATION)[0].ConceptCodeSequence[0])
        for item in children_named(group, shared.ATTENUATION_COEFFICIENT)
    ]
    assert derived == [shared.MEAN, shared.STANDARD_DEVIATION]
