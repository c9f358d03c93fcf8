"""Key objects: the images that show the findings, and the note that rejects an earlier result."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)

from node.encode.key_objects import encode_key_objects, encode_rejection_note
from node.encode.write import write
from node.uids import derived_uid
from pipelines import codes as shared
from pipelines.contract import Finding, Presence, Result
from sr_templates import codes
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, name_of
from tests.sr_templates import made, marked


def references(document):
    return [
        (item.ValueType, str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for item in document.ContentSequence
        if "ReferencedSOPSequence" in item
    ]


def evidence(document):
    return {
        (study.StudyInstanceUID, series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def description(document):
    (item,) = children_named(document, codes.KEY_OBJECT_DESCRIPTION)
    return item.TextValue


def earlier_result():
    return [one.dataset for one in made.encode(made.classic(), made.outlined(), made.work())]


def header(sop_class_uid, name):
    one = Dataset()
    one.SOPClassUID = sop_class_uid
    one.SOPInstanceUID = derived_uid("test", name)
    one.SeriesInstanceUID = derived_uid("test", name, "series")
    one.StudyInstanceUID = made.identity().StudyInstanceUID
    return one


def key_objects(source, result) -> Dataset:
    document = encode_key_objects(source, result, made.work())
    assert document is not None
    return document


def later(**changes):
    return made.work(uid_parts=("1.2.3", "later"), **changes)


def test_key_objects_are_the_images_that_show_each_finding_best():
    source = marked.chest_ct()
    document = key_objects(source, marked.nodules())
    assert name_of(document) == codes.OF_INTEREST
    assert references(document) == [
        ("IMAGE", source.instances[k].SOPInstanceUID) for k in (2, 3, 7)
    ]
    assert {uid for _, _, uid in evidence(document)} == {uid for _, uid in references(document)}


def test_in_a_multi_frame_image_they_are_frames():
    document = key_objects(marked.clip(), marked.ventricle())
    (item,) = [one for one in document.ContentSequence if one.ValueType == "IMAGE"]
    assert item.ReferencedSOPSequence[0].ReferencedFrameNumber == 2


def test_the_description_names_findings_model_and_limit():
    said = description(key_objects(marked.chest_ct(), marked.nodules()))
    assert "Nodule (Nodule 1): present, certainty 93.0 %." in said
    assert NOT_FOR_DIAGNOSIS in said
    assert "phantom-net 2.1 by Someone" in said
    assert "embolism" not in said


@pytest.mark.parametrize(
    "result",
    [
        Result(),
        Result((Finding(shared.NODULE),)),
        Result((Finding(shared.NODULE, Presence.ABSENT, regions=()),)),
        Result((Finding(shared.BRAIN, segment="Brain", normal=True),), made.outlined().segments),
        Result(segments=made.outlined().segments),
    ],
    ids=["nothing", "no place", "absent", "normal", "anatomy"],
)
def test_where_no_image_shows_a_finding_there_are_no_key_objects(result):
    assert encode_key_objects(marked.chest_ct(), result, made.work()) is None


def test_an_ecg_has_no_key_images():
    assert encode_key_objects(made.ecg(), made.rhythm(), made.work("ecg_report")) is None


def test_a_rejection_note_lists_every_object_of_the_earlier_result_once():
    superseded = earlier_result()
    note = encode_rejection_note(made.classic().instances, superseded, later())
    assert name_of(note) == codes.REJECTED_FOR_QUALITY
    assert references(note) == [
        ("IMAGE", superseded[0].SOPInstanceUID),
        ("COMPOSITE", superseded[1].SOPInstanceUID),
    ]
    assert evidence(note) == {
        (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID) for one in superseded
    }


def test_a_rejection_for_quality_has_a_reason_of_its_context_group():
    note = encode_rejection_note(made.classic().instances, earlier_result(), later())
    (modifier,) = children_named(note, codes.TITLE_MODIFIER)
    assert code_of(modifier.ConceptCodeSequence[0]) == codes.INAPPROPRIATE_PROCESSING


def test_four_attributes_of_what_is_superseded_are_enough():
    listed = [header(SegmentationStorage, "seg"), header(Comprehensive3DSRStorage, "sr")]
    note = encode_rejection_note(made.classic().instances, listed, later())
    assert [kind for kind, _ in references(note)] == ["IMAGE", "COMPOSITE"]


def test_a_rejection_note_never_rejects_another():
    first = encode_rejection_note(made.classic().instances, earlier_result(), later())
    chosen = key_objects(marked.chest_ct(), marked.nodules())
    note = encode_rejection_note(
        made.classic().instances, [first, chosen], made.work(uid_parts=("1.2.3", "latest"))
    )
    assert references(note) == [("COMPOSITE", chosen.SOPInstanceUID)]
    with pytest.raises(ValueError, match="needs an object"):
        encode_rejection_note(made.classic().instances, [first], later())


def test_both_belong_to_the_patient_and_study_and_have_series_of_their_own():
    source = marked.chest_ct()
    key = key_objects(source, marked.nodules())
    note = encode_rejection_note(source.instances, earlier_result(), later())
    for document, number in ((key, 26004), (note, 29004)):
        assert document.SOPClassUID == KeyObjectSelectionDocumentStorage
        assert document.Modality == "KO"
        assert document.PatientName == made.identity().PatientName
        assert document.StudyInstanceUID == made.identity().StudyInstanceUID
        assert document.SeriesNumber == number
    assert key.SeriesInstanceUID == made.work().uid("ko-series")
    assert note.SOPInstanceUID == later().uid("rejection")


def test_no_reference_states_a_purpose_which_the_template_forbids():
    for document in (
        key_objects(marked.chest_ct(), marked.nodules()),
        encode_rejection_note(made.classic().instances, earlier_result(), later()),
    ):
        assert not any(
            "ConceptNameCodeSequence" in item
            for item in document.ContentSequence
            if "ReferencedSOPSequence" in item
        )


def test_the_same_work_makes_the_same_bytes(tmp_path):
    def once():
        written = []
        for encoded in marked.everything().values():
            for one in encoded:
                write(one.dataset, tmp_path / "one.dcm")
                written.append((tmp_path / "one.dcm").read_bytes())
        return written

    assert once() == once()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_pacs_keeps_all_of_them_as_they_are(orthanc, tmp_path):
    for encoded in marked.everything().values():
        for one in encoded:
            write(one.dataset, tmp_path / "one.dcm")
            orthanc.store((tmp_path / "one.dcm").read_bytes())
            uid = str(one.dataset.SOPInstanceUID)
            (instance,) = orthanc.find(SOPInstanceUID=uid)
            kept = dcmread(BytesIO(orthanc.file(instance)))
            assert kept == dcmread(tmp_path / "one.dcm")


def test_a_source_with_unsound_headers_is_no_obstacle():
    source = marked.chest_ct()
    first = source.instances[0]
    first.PatientSex = ""
    del first.StudyDate
    document = key_objects(source, marked.nodules())
    assert document.StudyDate == ""
