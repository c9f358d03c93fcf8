"""What shows the source's pixels never says that they name nobody, unless the source says so."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from node.domain import Role
from node.encode.objects import encode, encode_could_not_look
from node.gate.burned_in import burned_in_annotation
from node.publish_gate import verify
from pipelines.contract import Result
from tests.node import shown
from tests.node.tampering import problems_of, read_back
from tests.sr_templates import made

FOR_EYES = frozenset({Role.SC, Role.PDF})

SOURCES = {
    "ultrasound that says nothing": (UltrasoundImageStorage, "US", None, "YES"),
    "ultrasound that says something else": (UltrasoundImageStorage, "US", "UNKNOWN", "YES"),
    "ultrasound that is clean": (UltrasoundImageStorage, "US", "NO", "NO"),
    "CT that says nothing": (CTImageStorage, "CT", None, "NO"),
    "CT that names the patient": (CTImageStorage, "CT", "YES", "YES"),
    "CT that is clean": (CTImageStorage, "CT", "NO", "NO"),
    "MR that says nothing": (EnhancedMRImageStorage, "MR", None, "NO"),
    "screen of a CT": (SecondaryCaptureImageStorage, "CT", "", "YES"),
    "screens of an MR": (MultiFrameTrueColorSecondaryCaptureImageStorage, "MR", None, "YES"),
}


def image(sop_class_uid, modality, said):
    header = Dataset()
    header.SOPClassUID, header.Modality = sop_class_uid, modality
    if said is not None:
        header.BurnedInAnnotation = said
    return header


@pytest.mark.parametrize("kind", SOURCES)
def test_pixels_may_name_the_patient_unless_their_source_or_its_kind_denies_it(kind):
    *source, expected = SOURCES[kind]
    assert burned_in_annotation([image(*source)]) == expected


def test_one_image_that_names_the_patient_is_enough():
    clean, named = (image(CTImageStorage, "CT", said) for said in ("NO", "YES"))
    assert burned_in_annotation([clean, named, clean]) == "YES"


def encoded(source, folder):
    return read_back(encode(source, Result(), made.work(roles=FOR_EYES)), folder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [(shown.clip(), "YES"), (shown.ct(), "NO"), (shown.radiograph(), "NO"), (made.ecg(), "NO")],
    ids=("ultrasound", "CT", "radiograph", "ECG"),
)
def test_pages_say_of_burned_in_names_what_their_source_says(source, expected, tmp_path):
    report = "ecg_report" if source.instances[0].Modality == "ECG" else "measurement_report"
    work = made.work(report=report, roles=FOR_EYES)
    objects = read_back(encode(source, Result(), work), tmp_path)
    assert {objects[role].BurnedInAnnotation for role in FOR_EYES} == {expected}
    verify([*objects.values()], source.instances)


def test_the_gate_refuses_pages_that_deny_the_names_in_their_source(tmp_path):
    source = shown.clip()
    objects = encoded(source, tmp_path)
    for role in FOR_EYES:
        objects[role].BurnedInAnnotation = "NO"
    denied = "says that nothing of the patient is burned in, which its source does not."
    said = problems_of(objects.values(), source.instances)
    assert said == (f"The secondary capture {denied}", f"The PDF {denied}")


def test_a_page_may_claim_more_names_than_its_source(tmp_path):
    source = shown.ct()
    objects = encoded(source, tmp_path)
    for role in FOR_EYES:
        objects[role].BurnedInAnnotation = "YES"
    verify([*objects.values()], source.instances)


def test_a_page_that_says_why_nothing_was_judged_passes_for_ultrasound(tmp_path):
    instances, work = shown.clip().instances, made.work(roles=FOR_EYES)
    objects = read_back(encode_could_not_look(instances, "Too dark.", work), tmp_path)
    verify([*objects.values()], instances)
