"""Objects of a result: whose they are, who made them, and that the same work makes them again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite, examples

from node.encode.identity import series_description
from node.encode.objects import encode, encode_could_not_look
from node.encode.write import write
from node.errors import GateClosed
from node.load.source import Source
from node.publish_gate import verify
from node.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from pipelines import codes
from pipelines.contract import (
    Finding,
    Grid,
    Measurement,
    Presence,
    Result,
    Segment,
    Volume,
    WaveformSpan,
)
from tests.every_object import BROKEN
from tests.sr_templates import made


def as_bytes(encoded, folder):
    written = []
    for one in encoded:
        write(one.dataset, folder / "one.dcm")
        written.append((folder / "one.dcm").read_bytes())
    return written


def test_the_same_work_makes_the_same_bytes(tmp_path):
    def once():
        return {
            kind: as_bytes(encoded, tmp_path) for kind, (_, encoded) in made.everything().items()
        }

    assert once() == once()


def test_another_work_makes_other_uids():
    first = encode(made.classic(), made.outlined(), made.work())
    second = encode(made.classic(), made.outlined(), made.work(uid_parts=("1.2.3", "other")))
    uids = [
        uid
        for one in (*first, *second)
        for uid in (one.dataset.SOPInstanceUID, one.dataset.SeriesInstanceUID)
    ]
    assert len(set(uids)) == len(uids) == 8


def test_patient_and_study_are_those_of_the_source_though_character_sets_differ(tmp_path):
    source = made.classic()
    buffer = BytesIO()
    dcmwrite(buffer, source.instances[0], implicit_vr=False, little_endian=True)
    read_back = dcmread(BytesIO(buffer.getvalue()), force=True)
    source = replace(source, instances=(read_back, *source.instances[1:]))
    for one in encode(source, made.outlined(), made.work()):
        write(one.dataset, tmp_path / "one.dcm")
        result = dcmread(tmp_path / "one.dcm")
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert result.PatientName == "Müller^Änne"
        for keyword in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "AccessionNumber"):
            assert result[keyword].value == read_back[keyword].value


def test_a_source_with_next_to_no_identity_is_encoded():
    source = made.classic()
    for instance in source.instances:
        for keyword in [
            "PatientName",
            "PatientID",
            "IssuerOfPatientID",
            "PatientBirthDate",
            "PatientSex",
            "PatientAge",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "ReferringPhysicianName",
            "StudyDescription",
            "SeriesNumber",
            "SpecificCharacterSet",
            "Manufacturer",
        ]:
            del instance[keyword]
    objects = [one.dataset for one in encode(source, made.outlined(), made.work())]
    assert all(one.PatientID == "" and one.StudyDate == "" for one in objects)
    verify(objects, source.instances)


def of_a_hospital(header):
    """Write into ``header`` what a hospital's own systems add, and read it back from bytes."""
    local = Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "K1", "L", "Klinik Köln"
    elsewhere, issuer, request = Dataset(), Dataset(), Dataset()
    elsewhere.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    elsewhere.ReferencedSOPInstanceUID = "1.2.3.4"
    issuer.LocalNamespaceEntityID = "Köln"
    issuer.AssigningAgencyOrDepartmentCodeSequence = [local]
    request.ScheduledProtocolCodeSequence = [local]
    header.SpecificCharacterSet = "ISO_IR 100"
    header.PhysiciansOfRecord = "Böhm^Jörg"
    header.IssuerOfPatientIDQualifiersSequence = [issuer]
    header.IssuerOfAccessionNumberSequence = [issuer]
    header.RequestAttributesSequence = [request]
    for keyword in (
        "DeidentificationMethodCodeSequence",
        "ProcedureCodeSequence",
        "ReasonForPerformedProcedureCodeSequence",
        "RequestingServiceCodeSequence",
        "AdmittingDiagnosesCodeSequence",
        "AnatomicRegionSequence",
        "PatientSpeciesCodeSequence",
    ):
        setattr(header, keyword, [local])
    for keyword in (
        "ReferencedStudySequence",
        "ReferencedPatientSequence",
        "ReferencedPerformedProcedureStepSequence",
    ):
        setattr(header, keyword, [elsewhere])
    buffer = BytesIO()
    dcmwrite(buffer, header, implicit_vr=False, little_endian=True)
    return dcmread(BytesIO(buffer.getvalue()), force=True)


@pytest.mark.parametrize("kind", ["classic", "multiframe", "ecg"])
def test_what_a_hospital_writes_into_its_headers_closes_no_gate(kind, tmp_path):
    source = getattr(made, kind)()
    source = replace(source, instances=tuple(map(of_a_hospital, source.instances)))
    if kind == "ecg":
        encoded = encode(source, made.rhythm(), made.work("ecg_report"))
    else:
        encoded = encode(source, made.outlined(), made.work())
    refusal = encode_could_not_look(source.instances, "Why.", made.work())
    for objects in (encoded, refusal):
        read_back = []
        for one in objects:
            write(one.dataset, tmp_path / f"{one.role}.dcm")
            read_back.append(dcmread(tmp_path / f"{one.role}.dcm"))
        verify(read_back, source.instances)
        for result in read_back:
            for keyword in (
                "IssuerOfPatientIDQualifiersSequence",
                "IssuerOfAccessionNumberSequence",
                "DeidentificationMethodCodeSequence",
            ):
                assert result[keyword] == source.instances[0][keyword]
            assert result.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "Köln"
            assert "PhysiciansOfRecord" not in result


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.usefixtures("broken_source")
def test_values_that_break_the_standard_are_passed_on_unchanged(tmp_path):
    source = made.classic()
    for instance in source.instances:
        instance.PatientSex = "UNKNOWN"
        instance.PatientName = "No caret at all = odd"
        instance.StudyDate = "2026.03.01"
        instance.SeriesNumber = None
    (sr,) = encode(source, Result(), made.work())
    path = tmp_path / BROKEN
    write(sr.dataset, path)
    assert dcmread(path).PatientSex == "UNKNOWN"
    assert sr.dataset.SeriesNumber == 22000


def test_every_object_is_its_own_series_behind_the_images():
    seg, sr = (one.dataset for one in encode(made.classic(), made.outlined(), made.work()))
    assert seg.SeriesInstanceUID != sr.SeriesInstanceUID
    assert (seg.SeriesNumber, sr.SeriesNumber) == (21004, 22004)
    assert sr.SeriesDescription == "Report: Brain volume (AI, not for primary diagnosis)"


@pytest.mark.parametrize("length", [1, 32, 33, 44, 59, 64, 80])
def test_a_series_description_fits_and_says_that_an_algorithm_made_it(length):
    assert len(series_description("x" * length)) <= 64
    assert "(AI" in series_description("x" * length)


def test_times_are_those_of_the_analysis_in_the_zone_of_the_source():
    (sr,) = encode(made.classic(), Result(), made.work())
    assert (sr.dataset.ContentDate, sr.dataset.ContentTime) == ("20260301", "123015.250000")
    assert sr.dataset.InstanceCreationTime == sr.dataset.SeriesTime == sr.dataset.ContentTime
    source = made.classic()
    source.instances[0].TimezoneOffsetFromUTC = "-0930"
    (sr,) = encode(source, Result(), made.work())
    assert sr.dataset.ContentTime == "030015.250000"


def test_the_device_uid_follows_the_model():
    work = made.work()
    assert work.device_uid == derived_uid("device", "phantom-net", "2.1", "a" * 64)
    retrained = made.work(model=replace(made.MODEL, weights_sha256="b" * 64))
    assert retrained.device_uid != work.device_uid
    for one in encode(made.classic(), made.outlined(), work):
        (maker,) = one.dataset.ContributingEquipmentSequence
        assert maker.DeviceUID == work.device_uid
        assert maker.DeviceSerialNumber == "a" * 64
        assert "synthetic" in maker.ContributionDescription


def test_a_report_names_the_one_it_supersedes():
    (old,) = encode(made.classic(), Result(), made.work())
    work = made.work(uid_parts=("revision 2",), superseded={"sr": old.dataset})
    (new,) = encode(made.classic(), Result(), work)
    (study,) = new.dataset.PredecessorDocumentsSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == old.dataset.SOPInstanceUID
    verify([new.dataset], made.classic().instances, [old.dataset])


def test_all_evidence_is_listed():
    source = made.classic()
    seg, sr = (one.dataset for one in encode(source, made.outlined(), made.work()))
    listed = {
        instance.ReferencedSOPInstanceUID
        for series in sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == {seg.SOPInstanceUID, *(one.SOPInstanceUID for one in source.instances)}


def test_a_refusal_does_not_depend_on_the_order_of_arrival(tmp_path):
    instances = made.classic().instances
    one = encode_could_not_look(instances, "Why.", made.work())
    other = encode_could_not_look(instances[::-1], "Why.", made.work())
    assert as_bytes(one, tmp_path) == as_bytes(other, tmp_path)


def test_a_refusal_needs_little_more_than_uids():
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.4", "1.2.5"
    (sr,) = encode_could_not_look((header,), "No image.", made.work())
    verify([sr.dataset], [header])


def test_the_file_is_part_10_and_names_this_implementation(tmp_path):
    (sr,) = encode(made.classic(), Result(), made.work())
    write(sr.dataset, tmp_path / "sr.dcm")
    meta = dcmread(tmp_path / "sr.dcm").file_meta
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert (tmp_path / "sr.dcm").read_bytes()[128:132] == b"DICM"


@pytest.mark.parametrize("example", ["ct", "mr"])
def test_a_real_slice_is_outlined(example):
    instance = getattr(examples, example)
    del instance.PixelData
    row_mm, column_mm = map(float, instance.PixelSpacing)
    x, y, z = map(float, instance.ImagePositionPatient)
    grid = Grid(
        (1, instance.Rows, instance.Columns),
        (x, y, z),
        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        (5.0, row_mm, column_mm),
    )
    block = np.zeros(grid.shape, bool)
    block[0, 10:20, 5:9] = True
    volume = Measurement(codes.VOLUME, 40 * grid.voxel_volume_ml, "mL")
    result = Result(
        (Finding(codes.NODULE, segment="Spot", measurements=(volume,)),),
        (Segment("Spot", codes.TISSUE, codes.NODULE, block),),
    )
    source = Source(Volume(np.zeros(grid.shape, np.float32), grid), (instance,))
    verify([one.dataset for one in encode(source, result, made.work())], source.instances)


def wrong_results():
    segment = made.outlined().segments[0]
    empty = replace(segment, mask=np.zeros_like(segment.mask))
    finding = Finding(codes.NODULE)

    def of(volume, unit="mL", **changes):
        measured = (Measurement(codes.VOLUME, volume, unit),)
        return replace(finding, measurements=measured, **changes)

    return {
        "is present, but its segment is empty": Result(
            (replace(finding, segment="Brain"),), (empty,)
        ),
        "is absent, but its segment is not empty": Result(
            (replace(finding, presence=Presence.ABSENT, segment="Brain"),), (segment,)
        ),
        "has a volume, but nothing is outlined": Result((of(12.0),)),
        "has a volume, but nothing is outlined.": Result(
            (of(12.0, presence=Presence.INDETERMINATE, segment="Brain"),), (empty,)
        ),
        "has a negative volume": Result((of(-3.0),)),
        "no unit of volume": Result((of(3.0, "mm", segment="Brain"),), (segment,)),
        "a side, but no site": Result((replace(finding, laterality=codes.LEFT),)),
        "shape": Result(segments=(replace(segment, mask=segment.mask[1:]),)),
        "same label": Result(segments=(segment, segment)),
        "label is empty": Result(segments=(replace(segment, label=""),)),
        "does not have": Result((replace(finding, segment="elsewhere"),)),
        "within 0 and 1": Result((replace(finding, confidence=1.2),)),
        "not a finite number": Result(
            (replace(finding, measurements=(Measurement(codes.VOLUME, float("nan"), "mL"),)),)
        ),
        "channel": Result((replace(finding, spans=(WaveformSpan(1, 1, 0.0, 1.0),)),)),
    }


@pytest.mark.parametrize("complaint", wrong_results())
def test_a_result_that_contradicts_itself_is_not_encoded(complaint):
    with pytest.raises(GateClosed, match=complaint):
        encode(made.classic(), wrong_results()[complaint], made.work())


def test_a_volume_of_nothing_is_zero_and_is_encoded():
    nothing = made.outlined().segments[0]
    nothing = replace(nothing, mask=np.zeros_like(nothing.mask))
    volume = (Measurement(codes.VOLUME, 0.0, "mL"),)
    absent = Finding(codes.NODULE, Presence.ABSENT, segment="Brain", measurements=volume)
    (sr,) = encode(made.classic(), Result((absent,), (nothing,)), made.work())
    verify([sr.dataset], made.classic().instances)


def test_an_ecg_report_about_a_volume_is_refused():
    with pytest.raises(GateClosed, match="no waveform"):
        encode(made.classic(), Result(), made.work("ecg_report"))


def test_analysis_time_changes_no_uid():
    later = made.work(analysed_at=made.work().analysed_at + timedelta(hours=1))
    (first,) = encode(made.classic(), Result(), made.work())
    (second,) = encode(made.classic(), Result(), later)
    assert first.dataset.SOPInstanceUID == second.dataset.SOPInstanceUID
