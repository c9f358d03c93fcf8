"""Each defect that could reach a reader, planted in a good result: the gate closes and says why."""

from __future__ import annotations

from copy import deepcopy

import pytest
from pydicom.uid import RawDataStorage, SecondaryCaptureImageStorage

from node.publish_gate import verify
from pipelines.codes import BRAIN, VOLUME
from pipelines.contract import Code
from sr_templates import codes, items
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, walk
from tests.node.tampering import (
    OTHER_UID,
    evidence_without,
    first,
    frames,
    in_3d,
    parent_of,
    problems_of,
    read_back,
    reference,
    remove,
    say_in_words,
    set_code,
    set_to,
    shared,
)
from tests.sr_templates import made


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Kind of result -> its objects as read back from disk, and its sources."""
    return {
        kind: ([*read_back(encoded, tmp_path_factory.mktemp(kind)).values()], source.instances)
        for kind, (source, encoded) in made.everything().items()
    }


def measured(sr):
    return first(sr, VOLUME).MeasuredValueSequence[0]


def forget_segment(sr):
    imaging = parent_of(sr, first(sr, codes.MEASUREMENT_GROUP))
    del imaging.ContentSequence[1]


def call_absent(sr):
    group = first(sr, codes.MEASUREMENT_GROUP)
    (answer,) = [
        item
        for item in children_named(group, BRAIN)
        if code_of(item.ConceptCodeSequence[0]) == codes.PRESENT
    ]
    answer.ConceptCodeSequence = [items.concept(codes.ABSENT)]


def forget_outline(sr):
    group = first(sr, codes.MEASUREMENT_GROUP)
    for item in children_named(group, codes.REFERENCED_SEGMENT):
        group.ContentSequence.remove(item)


def comments(sr):
    return [item for item in walk(sr) if NOT_FOR_DIAGNOSIS in str(item.get("TextValue", ""))]


def reword(sr):
    for item in comments(sr):
        item.TextValue = "Trust me."


def flip(seg):
    orientation = shared(seg, "PlaneOrientationSequence")
    orientation.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def erase(seg):
    seg.PixelData = bytes(len(seg.PixelData))


def transpose(seg):
    seg.Rows, seg.Columns = seg.Columns, seg.Rows


def purpose(sr):
    return sr.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0]


DEFECTS_OF_THE_SEGMENTATION = {
    "another patient ID": set_to("PatientID", "P-2"),
    "another patient name": set_to("PatientName", "Doe^Jane"),
    "another birth date": set_to("PatientBirthDate", "19990101"),
    "another study": set_to("StudyInstanceUID", OTHER_UID),
    "another accession number": set_to("AccessionNumber", "A-8"),
    "another frame of reference": set_to("FrameOfReferenceUID", OTHER_UID),
    "neither source nor result": lambda seg: setattr(
        frames(seg)[0].DerivationImageSequence[0].SourceImageSequence[0],
        "ReferencedSOPInstanceUID",
        OTHER_UID,
    ),
    "by the wrong SOP class": lambda seg: setattr(
        frames(seg)[0].DerivationImageSequence[0].SourceImageSequence[0],
        "ReferencedSOPClassUID",
        SecondaryCaptureImageStorage,
    ),
    "refers to a series that is neither": lambda seg: setattr(
        seg.ReferencedSeriesSequence[0], "SeriesInstanceUID", OTHER_UID
    ),
    "not binary": set_to("SegmentationType", "FRACTIONAL"),
    "does not name the series": lambda seg: seg.pop("ReferencedSeriesSequence"),
    "do not count from 1": lambda seg: setattr(seg.SegmentSequence[1], "SegmentNumber", 3),
    "segment 1 without SegmentAlgorithmName": lambda seg: seg.SegmentSequence[0].pop(
        "SegmentAlgorithmName"
    ),
    "segment 2 without TrackingUID": lambda seg: seg.SegmentSequence[1].pop("TrackingUID"),
    "segment 1 without RecommendedDisplayCIELabValue": lambda seg: seg.SegmentSequence[0].pop(
        "RecommendedDisplayCIELabValue"
    ),
    "two segments that are tracked by the same UID": lambda seg: setattr(
        seg.SegmentSequence[1], "TrackingUID", seg.SegmentSequence[0].TrackingUID
    ),
    "a frame of a segment that does not exist": lambda seg: setattr(
        frames(seg)[0].SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9
    ),
    "another number of frames": set_to("NumberOfFrames", 7),
    "not as long as": lambda seg: setattr(seg, "PixelData", seg.PixelData[:-4]),
    "other rows and columns": transpose,
    "another orientation": flip,
    "another pixel spacing": lambda seg: setattr(
        shared(seg, "PixelMeasuresSequence"), "PixelSpacing", [1.0, 1.0]
    ),
    "do not say which image": lambda seg: frames(seg)[0].pop("DerivationImageSequence"),
    "frames that have no position": lambda seg: frames(seg)[0].pop("PlanePositionSequence"),
    "not where their image is": lambda seg: setattr(
        frames(seg)[0].PlanePositionSequence[0], "ImagePositionPatient", [0, 0, 999]
    ),
    "swapped with another slice": lambda seg: setattr(
        frames(seg)[0], "PlanePositionSequence", frames(seg)[5].PlanePositionSequence
    ),
    "cannot be counted": lambda seg: shared(seg, "PixelMeasuresSequence").pop(
        "SpacingBetweenSlices"
    ),
    "segment 1 without a voxel": erase,
    "its voxels make": erase,
    "should mean": lambda seg: setattr(
        seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0], "CodeMeaning", "Heart"
    ),
    "does not name its algorithm": lambda seg: seg.pop("ContributingEquipmentSequence"),
    "without DeviceUID": lambda seg: seg.ContributingEquipmentSequence[0].pop("DeviceUID"),
    "name different algorithms": lambda seg: setattr(
        seg.ContributingEquipmentSequence[0], "DeviceUID", OTHER_UID
    ),
}
SAID_AS = {"swapped with another slice": "not where their image is"}

DEFECTS_OF_THE_REPORT = {
    "The report has another patient ID": set_to("PatientID", "P-2"),
    "claims to be verified": set_to("VerificationFlag", "VERIFIED"),
    "whether it is complete": lambda sr: sr.pop("CompletionFlag"),
    "which template": lambda sr: sr.pop("ContentTemplateSequence"),
    "not for primary diagnosis": reword,
    "no device as its observer": lambda sr: remove(sr, codes.DEVICE_OBSERVER_UID),
    "another device as its observer": lambda sr: setattr(
        first(sr, codes.DEVICE_OBSERVER_UID), "UID", OTHER_UID
    ),
    "no Tracking Unique Identifier: viewers": lambda sr: remove(sr, codes.TRACKING_UID),
    "no Tracking Identifier": lambda sr: remove(sr, codes.TRACKING_IDENTIFIER),
    "is tracked by another UID": lambda sr: setattr(
        first(sr, codes.TRACKING_UID), "UID", OTHER_UID
    ),
    "lists no evidence": lambda sr: sr.pop("CurrentRequestedProcedureEvidenceSequence"),
    "evidence that lacks 1 of": lambda sr: evidence_without(
        sr, reference(sr, codes.REFERENCED_SEGMENT).ReferencedSOPInstanceUID
    ),
    "refers to segment 5, which does not exist": lambda sr: setattr(
        reference(sr, codes.REFERENCED_SEGMENT), "ReferencedSegmentNumber", 5
    ),
    "object that is no segmentation": lambda sr: setattr(
        reference(sr, codes.REFERENCED_SEGMENT), "ReferencedSOPInstanceUID", OTHER_UID
    ),
    "does not speak of segment 2": forget_segment,
    "in no unit of volume": lambda sr: setattr(
        measured(sr).MeasurementUnitsCodeSequence[0], "CodeValue", "mm"
    ),
    "The report says 1 mL for segment 1": lambda sr: setattr(measured(sr), "NumericValue", "1"),
    "has a negative volume": lambda sr: setattr(measured(sr), "NumericValue", "-3"),
    "calls segment 1 absent": call_absent,
    "does not speak of segment 1": forget_outline,
    "without a unit": lambda sr: measured(sr).pop("MeasurementUnitsCodeSequence"),
    "neither a value nor a reason": lambda sr: setattr(
        first(sr, codes.CERTAINTY_OF_FINDING), "MeasuredValueSequence", []
    ),
    "not a finite number": lambda sr: measured(sr).pop("NumericValue"),
    "in words, not as a code": say_in_words,
    "should mean 'Imaging Measurements'": lambda sr: set_code(
        first(sr, Code("126010", "DCM", "")), CodeMeaning="Imaging measurements"
    ),
    "neither in PS3.16": lambda sr: set_code(first(sr, codes.COMMENT), CodeValue="121999"),
    "has no measurement group": lambda sr: remove(sr, codes.MEASUREMENT_GROUP),
    "does not name its algorithm": lambda sr: setattr(purpose(sr), "CodeValue", "109102"),
}


@pytest.mark.parametrize("kind", made.everything())
def test_what_this_node_makes_passes(good, kind):
    verify(*good[kind])


@pytest.mark.parametrize("defect", DEFECTS_OF_THE_SEGMENTATION)
def test_a_defect_of_the_segmentation_is_named(good, defect):
    (seg, sr), sources = deepcopy(good["two-segments"])
    DEFECTS_OF_THE_SEGMENTATION[defect](seg)
    said = " ".join(problems_of([seg, sr], sources))
    assert SAID_AS.get(defect, defect) in said


@pytest.mark.parametrize("defect", DEFECTS_OF_THE_REPORT)
def test_a_defect_of_the_report_is_named(good, defect):
    (seg, sr), sources = deepcopy(good["two-segments"])
    DEFECTS_OF_THE_REPORT[defect](sr)
    assert defect in " ".join(problems_of([seg, sr], sources))


def test_coordinates_in_3d_need_a_comprehensive_3d_report(good):
    (sr, *others), sources = deepcopy(good["ecg-present"])
    sr.ContentSequence.append(in_3d())
    assert "3D" in " ".join(problems_of([sr, *others], sources))


def test_frames_of_a_multiframe_source_must_be_the_ones_they_name(good):
    (seg, sr), sources = deepcopy(good["enhanced"])
    image = frames(seg)[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedFrameNumber = image.ReferencedFrameNumber % made.SHAPE[0] + 1
    assert "not where their image is" in " ".join(problems_of([seg, sr], sources))


def test_an_ecg_finding_must_be_trackable(good):
    (sr, *others), sources = deepcopy(good["ecg-present"])
    remove(sr, codes.TRACKING_UID)
    assert "Tracking Unique Identifier" in " ".join(problems_of([sr, *others], sources))


def test_uids_must_be_new(good):
    (seg, sr), sources = deepcopy(good["two-segments"])
    seg.SeriesInstanceUID = sr.SeriesInstanceUID
    sr.SOPInstanceUID = sources[0].SOPInstanceUID
    said = problems_of([seg, sr], sources)
    assert "Two objects of the result have the same series UID." in said
    assert "An object of the result has the instance UID of its source." in said


def test_sources_of_two_patients_are_no_source(good):
    objects, sources = deepcopy(good["two-segments"])
    sources[3].PatientID = "P-2"
    assert "instances that differ in patient ID" in " ".join(problems_of(objects, sources))


def test_a_segmentation_without_a_report_is_no_result(good):
    (seg, _), sources = good["two-segments"]
    assert "The result has no report." in problems_of([seg], sources)


def test_an_object_of_another_kind_does_not_pass(good):
    (sr, *others), sources = deepcopy(good["nothing"])
    sr.SOPClassUID = RawDataStorage
    assert "of a kind that no result has" in " ".join(problems_of([sr, *others], sources))


def test_nothing_is_no_result(good):
    assert problems_of([], good["nothing"][1])
    assert problems_of(good["nothing"][0], [])


def test_all_problems_are_told_at_once_and_no_patient_data(good):
    (seg, sr), sources = deepcopy(good["two-segments"])
    seg.PatientName = sr.PatientName = "Doe^Jane"
    sr.VerificationFlag = "VERIFIED"
    seg.AccessionNumber = "SECRET"
    said = problems_of([seg, sr], sources)
    assert len(said) >= 4
    text = " ".join(said)
    for private in ("Doe", "Müller", "SECRET", "A-9", str(seg.SOPInstanceUID), "P-1"):
        assert private not in text
