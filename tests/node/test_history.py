"""What earlier reports say of a finding: known since when, or denied, and not a word more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from highdicom import sr
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedCDAStorage,
    ExplicitVRLittleEndian,
)

from node.load.history import report_of, with_history
from node.load.prior import Earlier
from node.priors.folder import earlier_among
from node.priors.results import REPORT_UNSAFE
from pipelines.codes import ANATOMICAL_STRUCTURE, NODULE
from pipelines.contract import Code, Finding, Presence, Result

FOUND = Result((Finding(NODULE),))
KNOWN = (
    "Known since {}: Nodule, as an earlier report says. "
    "Whether it is the same one is for the reader."
)
DENIED = "Negated in the report of {}: Nodule."


@pytest.fixture
def database():
    """No ledger is asked here."""
    return "sqlite"


def text_report(folder, day, *sentences, heading=("121071", "DCM", "Finding"), **attributes):
    """A radiologist's report (TID 2000) with a text item for each sentence."""
    report = Dataset()
    report.SOPClassUID = BasicTextSRStorage
    report.SOPInstanceUID = f"1.2.3.{day}"
    report.StudyInstanceUID = f"1.2.{day}"
    report.SeriesInstanceUID = f"1.2.{day}.1"
    report.StudyDate, report.StudyTime = day, "0900"
    report.PatientID, report.PatientBirthDate, report.PatientSex = "P1", "19600101", "F"
    container = Dataset()
    container.ValueType = "CONTAINER"
    container.RelationshipType = "CONTAINS"
    container.ConceptNameCodeSequence = [sr.CodedConcept("121070", "DCM", "Findings")]
    items = []
    for sentence in sentences:
        item = Dataset()
        item.ValueType, item.RelationshipType = "TEXT", "CONTAINS"
        item.ConceptNameCodeSequence = [sr.CodedConcept(*heading)]
        item.TextValue = sentence
        items.append(item)
    container.ContentSequence = items
    report.ContentSequence = [container] if heading[0] == "121071" else items
    for keyword, value in attributes.items():
        setattr(report, keyword, value)
    return written(folder / f"{day}.dcm", report)


def document(folder, day, code, text, before=""):
    """A report as an encapsulated clinical document (PS3.20)."""
    page = (
        f'<?xml version="1.0"?>{before}<ClinicalDocument xmlns="urn:hl7-org:v3"><component>'
        f'<section><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/>'
        f"<text><paragraph>{text}</paragraph></text></section></component></ClinicalDocument>"
    ).encode()
    path = text_report(folder, day)
    report = dcmread(path)
    report.SOPClassUID = EncapsulatedCDAStorage
    del report.ContentSequence
    report.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    return written(path, report)


def by_a_device(path):
    """The same report, of another maker's model."""
    report, item = dcmread(path), Dataset()
    item.ValueType, item.RelationshipType = "CODE", "HAS OBS CONTEXT"
    item.ConceptNameCodeSequence = [sr.CodedConcept("121005", "DCM", "Observer Type")]
    item.ConceptCodeSequence = [sr.CodedConcept("121007", "DCM", "Device")]
    report.ContentSequence.append(item)
    return written(path, report)


def written(path, dataset):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_a_finding_is_known_since_the_first_report_that_affirms_it(tmp_path):
    reports = [
        text_report(tmp_path, "20240301", "A nodule of 6 mm in the left lung."),
        text_report(tmp_path, "20230105", "5 mm pulmonary nodule.", "No effusion."),
    ]
    assert with_history(FOUND, reports).notes == (KNOWN.format("2023-01-05"),)


def test_a_finding_that_was_denied_is_told_with_the_last_report_that_denies_it(tmp_path):
    reports = [
        text_report(tmp_path, "20230105", "No nodule."),
        text_report(tmp_path, "20240105", "The lungs are clear without nodules."),
    ]
    assert with_history(FOUND, reports).notes == (DENIED.format("2024-01-05"),)


@pytest.mark.parametrize(
    "sentences",
    [
        ("A nodule cannot be excluded.",),
        ("No nodule on the left.", "Nodule on the right."),
        ("History of nodule.",),
        ("Normal heart.",),
    ],
)
def test_a_report_that_does_not_say_one_thing_says_nothing(tmp_path, sentences):
    assert with_history(FOUND, [text_report(tmp_path, "20230105", *sentences)]) == FOUND


def test_the_question_of_a_report_is_no_answer(tmp_path):
    heading = ("121062", "DCM", "Request")
    report = text_report(tmp_path, "20230105", "Nodule, follow up.", heading=heading)
    assert with_history(FOUND, [report]) == FOUND


@pytest.mark.parametrize(("code", "notes"), [("59776-5", 1), ("19005-8", 1), ("11348-0", 0)])
def test_a_clinical_document_is_read_where_it_says_what_is(tmp_path, code, notes):
    report = document(tmp_path, "20230105", code, "Nodule in the lingula.")
    assert with_history(FOUND, [report]).notes == (KNOWN.format("2023-01-05"),) * notes


def test_a_document_that_defines_entities_or_is_no_xml_is_told_and_not_read(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>'
    reports = [
        document(tmp_path, "20230105", "59776-5", "&amp;", before=bomb),
        document(tmp_path, "20230106", "59776-5", "<"),
    ]
    assert with_history(FOUND, reports).notes == ("An earlier report could not be read.",)


@pytest.mark.parametrize(
    "change",
    [
        {"presence": Presence.ABSENT},
        {"presence": Presence.INDETERMINATE},
        {"normal": True},
        {"category": ANATOMICAL_STRUCTURE},
    ],
)
def test_only_what_is_there_and_not_normal_is_looked_up(tmp_path, change):
    result = Result((replace(FOUND.findings[0], **change),))
    report = text_report(tmp_path, "20230105", "Nodule.")
    assert with_history(result, [report]) == result


def test_a_finding_is_also_known_by_its_code_alone(tmp_path):
    cyst = Result((Finding(Code("1", "99X", "Cyst")),))
    report = text_report(tmp_path, "20230105", "Cyst in the liver.")
    assert with_history(cyst, [report]).notes[0].startswith("Known since 2023-01-05: Cyst")


def test_a_report_without_a_day_is_no_report(tmp_path):
    with pytest.raises(ValueError, match="time data"):
        report_of(dcmread(text_report(tmp_path, "20230105", "Nodule.", StudyDate="")))


def test_reports_of_the_same_patient_before_this_study_are_taken_from_a_folder(tmp_path):
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, "1.2.3"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2", "1.2.1"
    image.PatientID, image.PatientBirthDate, image.PatientSex = "P1", "19600101", "F"
    image.StudyDate, image.StudyTime = "20250101", "1200"
    present = written(tmp_path / "image.dcm", image)
    mine = text_report(tmp_path, "20230105", "Nodule.")
    others = [
        text_report(tmp_path, "20230106", "Nodule.", PatientID="P2"),
        text_report(tmp_path, "20230107", "Nodule.", PatientBirthDate="19600102"),
        text_report(tmp_path, "20260101", "Nodule."),
        text_report(tmp_path, "20230108", "Nodule.", Manufacturer="radnode"),
        by_a_device(text_report(tmp_path, "20230109", "Nodule.")),
    ]
    earlier = earlier_among([mine, *others], "any", present)
    assert earlier == Earlier(reports=(mine,))
    assert Earlier.from_json(earlier.to_json()) == earlier
    unsure = text_report(tmp_path, "20230110", "Nodule.", PatientBirthDate="")
    assert earlier_among([mine, unsure], "any", present) == Earlier((), (REPORT_UNSAFE,), (mine,))
