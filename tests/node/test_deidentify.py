"""What leaves for research names nobody, and is still the same study. PS3.15 annex E."""

from __future__ import annotations

import re
import warnings
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, data, dcmread
from pydicom.uid import EncapsulatedPDFStorage, RawDataStorage

from node.confidentiality import Blank, Deidentify
from node.deidentify.files import Deidentifier
from node.deidentify.identity import elements_of
from node.deidentify.keys import LONGEST_SHIFT_DAYS, Pseudonyms, pseudonyms, shifted
from node.deidentify.rules import rules_of
from node.deidentify.table import TABLE
from node.deidentify.text import Cleaner, vocabulary
from node.deidentify.verify import verify
from node.encode.objects import encode
from node.encode.write import write
from node.errors import ConfigError, NotDeidentified
from tests.node.canaries import CANARY, plant
from tests.node.tampering import read_back
from tests.peers import require_data
from tests.peers.bright_spot import ct_series
from tests.peers.validators import complaints_about, dciodvfy
from tests.sr_templates import made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

quickly = settings(max_examples=60, deadline=None)
KEYS = Pseudonyms(b"not a secret of any site, 32 bytes")
TEST_FILES = Path(data.__file__).parent / "test_files"
NO_NAMES_IN_PIXELS = (
    *("CT_small.dcm", "MR_small.dcm", "emri_small.dcm", "liver_1frame.dcm", "rtplan.dcm"),
    *("rtdose_1frame.dcm", "waveform_ecg.dcm", "reportsi.dcm", "test-SR.dcm"),
    *("MR_small_bigendian.dcm", "eCT_Supplemental.dcm", "parametric_map_float.dcm"),
)


def by(*options: Any, blank: Mapping[str, Blank] | None = None) -> Deidentifier:
    chosen = Deidentify(**({"options": options} if options else {}), blank=dict(blank or {}))
    return Deidentifier(rules_of(chosen), KEYS, tuple(chosen.blank.values()))


def source(name: str) -> Path:
    path = TEST_FILES / name
    return path if path.exists() else require_data("objects", name)


def saved(dataset: Dataset, folder: Path, name: str = "source.dcm") -> Path:
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(folder / name, enforce_file_format=True)
    return folder / name


def what_leaves(
    dataset: Dataset, folder: Path, deidentifier: Deidentifier | None = None
) -> Dataset:
    return dcmread((deidentifier or by()).write(saved(dataset, folder), folder).path)


def image() -> Dataset:
    return ct_series("deidentify")[0]


# --- nothing that identifies ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NO_NAMES_IN_PIXELS)
def test_no_text_of_an_object_survives_anywhere_in_the_bytes(name, tmp_path):
    original = dcmread(source(name))
    plant(original)
    copy = by().write(saved(original, tmp_path), tmp_path)
    content = copy.path.read_bytes()
    assert CANARY.lower().encode() in (tmp_path / "source.dcm").read_bytes().lower()
    assert CANARY.lower()[:6].encode() not in content.lower()
    for uid in {str(e.value) for e in elements_of(original) if e.keyword == "SOPInstanceUID"}:
        assert uid.encode() not in content


@pytest.mark.parametrize("options", [("clean-structured-content",), ("device-identity",)])
def test_without_any_option_nothing_survives_either(options, tmp_path):
    original = dcmread(source("CT_small.dcm"))
    plant(original)
    made_of_it = what_leaves(original, tmp_path, by(*options))
    kept = [
        element.keyword
        for element in elements_of(made_of_it)
        if CANARY.lower() in str(element.value).lower() and element.VR != "SQ"
    ]
    devices = {k for k in kept if "device" not in options[0]}
    assert devices == set()
    assert made_of_it.LongitudinalTemporalInformationModified == "REMOVED"
    assert not made_of_it.StudyDate


def test_a_name_goes_from_where_it_was_written_in_passing(tmp_path):
    ct = image()
    ct.PatientName, ct.OperatorsName = "Chest^Miriam", "Weber^Anna"
    ct.StudyDescription = "CT chest of Miriam, born 12.03.1960, ward 7, call Weber 555-0199"
    ct.SeriesDescription = "t1_mprage_sag 1.5 mm"
    ct.ConvolutionKernel = "B30f"
    made_of_it = what_leaves(ct, tmp_path)
    assert made_of_it.StudyDescription == "CT of"
    assert made_of_it.SeriesDescription == "t1_mprage_sag 1.5 mm"
    assert made_of_it.ConvolutionKernel == "B30f"


def test_an_object_says_how_it_was_made_and_carries_the_codes(tmp_path):
    made_of_it = what_leaves(image(), tmp_path)
    assert made_of_it.PatientIdentityRemoved == "YES"
    assert made_of_it.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = {code.CodeValue for code in made_of_it.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113104", "113105", "113107", "113108", "113111"}
    assert all(
        c.CodingSchemeDesignator == "DCM" for c in made_of_it.DeidentificationMethodCodeSequence
    )


def test_private_attributes_go_but_for_numbers_that_are_known_to_be_safe(tmp_path):
    ct = image()
    block = ct.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0D, "CS", "DIRECTIONAL")
    ct.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"Doe Jane")
    made_of_it = what_leaves(ct, tmp_path)
    private = [element for element in made_of_it if element.tag.is_private]
    assert [str(element.value) for element in private] == ["SIEMENS MR HEADER", "1000"]
    assert not [e for e in what_leaves(ct, tmp_path, by("modified-dates")) if e.tag.is_private]


def test_age_and_sex_stay_but_nobody_is_older_than_ninety(tmp_path):
    ct = image()
    ct.PatientAge, ct.PatientSex, ct.PatientWeight = "097Y", "F", "61"
    made_of_it = what_leaves(ct, tmp_path)
    assert (made_of_it.PatientAge, made_of_it.PatientSex) == ("090Y", "F")
    assert made_of_it.PatientWeight == 61
    assert not made_of_it.PatientBirthDate
    bare = what_leaves(ct, tmp_path, by("modified-dates"))
    assert "PatientAge" not in bare
    assert not bare.PatientSex


# --- still the same study ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[tuple[list[Path], list[Path]]]:
    """What pipelines made of one study each, with its images; and what leaves of both."""
    studies = []
    lesion, tracing = made.classic(), made.ecg()
    for study, result, work in (
        (lesion, made.lesion(lesion), made.work(roles=made.FOR_PEOPLE)),
        (tracing, made.rhythm(), made.work("ecg_report", roles=made.FOR_PEOPLE)),
    ):
        encoded = encode(study, result, work)
        folder = tmp_path_factory.mktemp("results")
        for number, instance in enumerate(study.instances):
            image = deepcopy(instance)
            if "PixelData" in image:
                image.BurnedInAnnotation = "NO"
            write(image, folder / f"image {number}.dcm")
        read_back(encoded, folder)
        paths = sorted(folder.iterdir())
        (folder / "out").mkdir()
        studies.append((paths, [by().write(path, folder / "out").path for path in paths]))
    return studies


def references(paths: Sequence[Path]) -> list[list[tuple[str, int]]]:
    """Where each UID of the instances stands, whatever it is: by the order of its first place."""
    numbers: dict[str, int] = {}
    found = []
    for path in paths:
        uids = [
            (element.keyword, numbers.setdefault(uid, len(numbers)))
            for element in elements_of(dcmread(path))
            if element.VR == "UI" and element.keyword != "SOPClassUID"
            for uid in ([element.value] if isinstance(element.value, str) else element.value or [])
        ]
        found.append(uids)
    return found


def test_references_between_images_segmentations_and_reports_stay_intact(results):
    for before, after in results:
        assert references(after) == references(before)


def codes(paths: Sequence[Path]) -> list[list[str]]:
    names = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return [
        [str(e.value) for e in elements_of(dcmread(path)) if e.keyword in names and e.value]
        for path in paths
    ]


def test_what_was_found_and_measured_is_said_by_the_same_codes(results):
    for before, after in results:
        pairs = zip(before, codes(before), codes(after), strict=True)
        for one, other in ((a, b) for path, a, b in pairs if dcmread(path).Modality != "ECG"):
            assert set(one) <= set(other)


def test_results_are_as_right_as_they_were(results):
    """Those of images are compared with their sources' below."""
    after = [path for _, leaving in results for path in leaving]
    made_here = [path for path in after if dcmread(path).Modality in ("SEG", "SR")]
    assert len(made_here) > 4
    assert complaints_about(made_here) == {}


def kinds(complaints: Sequence[str]) -> set[str]:
    return {re.sub(r"<[^>]*>|\[\d+\]", "", line) for line in complaints}


@pytest.mark.parametrize("name", NO_NAMES_IN_PIXELS)
def test_what_leaves_breaks_the_standard_nowhere_where_its_source_did_not(name, tmp_path):
    path = source(name)
    copy = by().write(path, tmp_path).path
    said = dciodvfy([path, copy])
    new = kinds(said[copy]) - kinds(said[path])
    # An outside reference is told by its new UID; that it is one was told of the source as well.
    assert [line for line in new if "is not listed in" not in line] == []


def test_the_time_between_two_studies_stays(tmp_path):
    first, second = image(), image()
    second.StudyDate, second.AcquisitionDateTime = "20260301", "20260301101112.5+0100"
    a, b = what_leaves(first, tmp_path), what_leaves(second, tmp_path)

    def day(text: str) -> date:
        return date.fromisoformat(text)

    assert day(b.StudyDate) - day(a.StudyDate) == day("20260301") - day("20260102")
    assert a.StudyDate != first.StudyDate
    assert a.StudyTime == first.StudyTime
    assert b.AcquisitionDateTime == f"{b.StudyDate}101112.5+0100"


def test_a_date_that_is_none_goes(tmp_path):
    ct = image()
    ct.add_new(0x00080021, "DA", "")
    element = ct["SeriesDate"]
    element._value = "2026.01.x"
    assert not what_leaves(ct, tmp_path).SeriesDate


def test_the_same_file_makes_the_same_bytes_and_the_same_patient_the_same_pseudonym(tmp_path):
    path = saved(image(), tmp_path)
    first = by().write(path, tmp_path).path.read_bytes()
    assert by().write(path, tmp_path).path.read_bytes() == first
    other = image()
    other.StudyInstanceUID = "1.2.3.4"
    assert what_leaves(other, tmp_path).PatientID == what_leaves(image(), tmp_path).PatientID
    another_site = Deidentifier(rules_of(Deidentify()), Pseudonyms(b"another" * 8), ())
    assert another_site.write(path, tmp_path).path.read_bytes() != first


def test_pixels_stay_as_they_are(tmp_path):
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        path = source(name)
        assert dcmread(by().write(path, tmp_path).path).PixelData == dcmread(path).PixelData


# --- what is refused -----------------------------------------------------------------------------


def refusal(dataset: Dataset, folder: Path, deidentifier: Deidentifier | None = None) -> str:
    with pytest.raises(NotDeidentified) as refused:
        what_leaves(dataset, folder, deidentifier)
    assert [path.name for path in folder.iterdir()] == ["source.dcm"]
    return refused.value.what


def burned_in(ct: Dataset) -> None:
    ct.BurnedInAnnotation = "YES"


def ultrasound(ct: Dataset) -> None:
    ct.Modality = "US"


def overlaid(ct: Dataset) -> None:
    ct.add_new(0x60000102, "US", 12)


def hidden(ct: Dataset) -> None:
    ct.PixelData += b"Doe^Jane"


def cut_short(ct: Dataset) -> None:
    ct.PixelData = ct.PixelData[:-100]


def document(ct: Dataset) -> None:
    ct.SOPClassUID = EncapsulatedPDFStorage
    ct.EncapsulatedDocument = b"%PDF of Jane Doe"


def raw(ct: Dataset) -> None:
    ct.SOPClassUID = RawDataStorage


def private_class(ct: Dataset) -> None:
    ct.SOPClassUID = "1.2.3.4.5"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (burned_in, "pixels show who"),
        (ultrasound, "pixels may show who"),
        (overlaid, "overlay lies within"),
        (hidden, "bytes that are no pixels"),
        (cut_short, "cut short"),
        (document, "encapsulated document"),
        (raw, "Raw data"),
        (private_class, "none of the standard"),
    ],
)
def test_what_may_name_its_patient_is_refused(spoil, said, tmp_path):
    ct = image()
    spoil(ct)
    assert said in refusal(ct, tmp_path)


def test_a_report_is_refused_where_structured_content_is_not_cleaned(tmp_path):
    report = dcmread(source("test-SR.dcm"))
    assert "structured report" in refusal(report, tmp_path, by("modified-dates"))


def test_a_file_that_cannot_be_read_is_refused_without_a_word_of_it(tmp_path):
    path = tmp_path / "Doe^Jane.dcm"
    path.write_bytes(b"Doe^Jane")
    with pytest.raises(NotDeidentified) as refused:
        by().write(path, tmp_path)
    assert "Doe" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(("vr", "value"), [("LO", "Doe Jane"), ("OW", b"Doe Jane"), ("CS", "DOE")])
def test_a_value_of_another_kind_than_the_dictionary_says_goes(vr, value, tmp_path):
    ct = image()
    ct[0x00281050] = DataElement(0x00281050, vr, value)  # Window Center: numbers
    assert "WindowCenter" not in what_leaves(ct, tmp_path)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_rectangles_that_a_site_states_are_blanked_in_every_frame(samples, tmp_path):
    clip = image()
    clip.Modality, clip.Manufacturer, clip.ManufacturerModelName = "US", "ACME", "Echo 7"
    shape = (2, 8, 10, 3)[: 3 + (samples > 1)]
    clip.Rows, clip.Columns, clip.NumberOfFrames = 8, 10, 2
    pixels = np.full(shape, 200, np.uint8)
    clip.set_pixel_data(pixels, "RGB" if samples == 3 else "MONOCHROME2", 8)
    where = Blank(
        manufacturer="ACME", model="Echo 7", rows=8, columns=10, rectangles=((0, 0, 10, 2),)
    )
    made_of_it = what_leaves(clip, tmp_path, by(blank={"lab": where}))
    assert not made_of_it.pixel_array[:, :2].any()
    assert (made_of_it.pixel_array[:, 2:] == 200).all()
    assert made_of_it.BurnedInAnnotation == "NO"
    codes = [code.CodeValue for code in made_of_it.DeidentificationMethodCodeSequence]
    assert "113101" in codes
    (tmp_path / f"{made_of_it.SOPInstanceUID}.dcm").unlink()
    other = where.model_copy(update={"rows": 9})
    assert "may show" in refusal(clip, tmp_path, by(blank={"lab": other}))


# --- the second look -----------------------------------------------------------------------------


def say_name(written: Dataset) -> None:
    written.ImageComments = "of Mrs Phantomina"


def say_id(written: Dataset) -> None:
    written.SoftwareVersions = "v1 CANARY4711"


def keep_uid(written: Dataset) -> None:
    written.FrameOfReferenceUID = "1.2.3.4.5.6.7.8"


def hide_in_bytes(written: Dataset) -> None:
    written.ICCProfile = b"\0\0 Phantomina \0"


@pytest.mark.parametrize("leak", [say_name, say_id, keep_uid, hide_in_bytes])
def test_the_second_look_finds_what_the_rules_left(leak, tmp_path):
    ct = image()
    ct.PatientName, ct.PatientID = "Doe^Phantomina", "CANARY4711"
    ct.FrameOfReferenceUID = "1.2.3.4.5.6.7.8"
    written = what_leaves(ct, tmp_path)
    path = saved(written, tmp_path / "written")
    verify(ct, path)
    leak(written)
    with pytest.raises(NotDeidentified) as refused:
        verify(ct, saved(written, tmp_path / "written"))
    assert "Phantomina" not in str(refused.value)
    assert "4711" not in str(refused.value)


# --- keys ----------------------------------------------------------------------------------------


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "deidentify.key"
    first = pseudonyms(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert pseudonyms(path) == first
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert str(first.secret) not in repr(first)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        pseudonyms(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(ConfigError, match="no secret"):
        pseudonyms(path)


UIDS = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(
    lambda parts: ".".join(["1", *map(str, parts)])
)


@quickly
@given(UIDS, UIDS)
def test_uids_are_valid_and_no_two_become_one(one, other):
    new = KEYS.uid(one)
    assert re.fullmatch(r"2\.25\.[1-9]\d{30,38}", new)
    assert (new == KEYS.uid(other)) is (one == other)


@quickly
@given(st.text(min_size=1))
def test_days_are_whole_never_none_and_a_patients_own(patient_id):
    days = KEYS.shift_days(patient_id)
    assert -LONGEST_SHIFT_DAYS <= days <= -1
    assert KEYS.shift_days(patient_id) == days
    assert re.fullmatch(r"P[A-Z2-7]{16}", KEYS.patient_id(patient_id))


@quickly
@given(st.dates(date(1950, 1, 1)), st.dates(date(1950, 1, 1)), st.integers(-3650, -1))
def test_two_dates_stay_as_far_apart_as_they_were(one, other, days):
    moved = [str(shifted(day.strftime("%Y%m%d"), days)) for day in (one, other)]
    a, b = (date.fromisoformat(day) for day in moved)
    assert b - a == other - one
    assert a != one


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [Cleaner.descriptive, Cleaner.technical])
@quickly
@given(text=st.text(max_size=60), own=st.sets(st.text("abcdefgh", min_size=2, max_size=4)))
def test_nothing_stays_of_a_text_but_known_words_and_short_ones(clean, text, own):
    cleaned = clean(Cleaner(frozenset(own)), text)
    assert len(cleaned) <= len(text)
    for word in re.findall(r"[^\W_]+", cleaned.lower()):
        assert word not in own
        assert re.search(r"[^\W\d_]{4,}", word) is None or any(
            run in vocabulary() for run in re.findall("[a-z]+", word)
        )
    assert not re.search(r"\d{5}", cleaned)


@quickly
@given(st.lists(st.sampled_from(["Doe", "Jane", "1960", "19600312", "12", "03"]), min_size=1))
def test_names_and_dates_never_stay_in_a_description(words):
    assert Cleaner(frozenset()).descriptive(" ".join(words)) == ""


# --- the table -----------------------------------------------------------------------------------


def test_the_table_is_that_of_the_standard_as_far_as_it_is_quoted_here():
    """PS3.15 2026c table E.1-1: one row of each action."""
    for tag, row in {
        0x00080050: "Z",
        0x00081030: "X C:descriptors",
        0x00080021: "X/D C:dates",
        0x00100010: "Z",
        0x00101010: "X K:patient",
        0x00181000: "X/Z/D K:device",
        0x0020000D: "U",
        0x00081140: "X/Z/U*",
        0x0040A730: "D C:content",
    }.items():
        assert TABLE[tag] == row
    assert len(TABLE) > 600
