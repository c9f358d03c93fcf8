"""Earlier results: found in a real archive, of the right patient only, and never at any price."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner
from pydicom import DataElement, dcmread, dcmwrite
from pydicom.config import IGNORE
from pydicom.uid import XRayRadiationDoseSRStorage

from node.cli import main
from node.dimse import sender
from node.dimse.retrieve import Limits
from node.load.prior import Earlier, PriorFiles, read_prior
from node.priors import fetch
from node.priors.fetch import looked_up
from node.priors.folder import earlier_among
from node.priors.results import UNSAFE
from sr_templates.text import as_text
from tests.node.earlier import (
    FIRST,
    SECOND,
    THIRD,
    Study,
    asking,
    balls,
    datasets,
    installed,
    lease,
    result,
    study,
)
from tests.peers import free_port, spots
from tests.peers.archive import archive

NOT_ANSWERED = ("Earlier results could not be looked up: the archive did not answer as it should.",)


@pytest.fixture
def database():
    """No ledger is asked here."""
    return "sqlite"


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory):
    """Run in an environment where the pipeline is installed."""
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory, _installed):
    """The first study, with both lesions."""
    return study(tmp_path_factory.mktemp("first"), "first", FIRST)


@pytest.fixture(scope="module")
def second(tmp_path_factory, _installed):
    """The second study, where one lesion is gone."""
    return study(tmp_path_factory.mktemp("second"), "second", SECOND, balls(30.0))


@pytest.fixture(scope="module")
def present(tmp_path_factory, _installed):
    """The images of the present study."""
    return study(tmp_path_factory.mktemp("third"), "third", THIRD, IssuerOfPatientID="Here").images


@pytest.fixture
def pacs(settings, orthanc):
    """Settings that ask Orthanc."""
    return asking(settings, orthanc.ae_title, orthanc.port)


def send(settings, *studies):
    """Send studies with their results to the archive of ``settings``."""
    files = {str(dcmread(p).SOPInstanceUID): p for one in studies for p in one.files}
    sent = list(sender.send(settings, settings.destinations["pacs"], files))
    assert [status for _, status in sent] == [0x0000] * len(files)


def look(settings, present, folder, tick=lambda: None):
    """What is found; and everything that it says of each."""
    with looked_up(settings, lease(), present, (), folder=folder, tick=tick) as earlier:
        priors = [read_prior(one) for one in earlier.results]
    assert not folder.exists()
    return earlier, priors


def changed(one, folder, **attributes):
    """A copy of a study whose results, or all of whose objects, say something else."""
    folder.mkdir()

    def copy(path):
        instance = dcmread(path)
        for keyword, value in attributes.items():
            if keyword.startswith("Manufacturer") and path not in one.results.values():
                continue
            setattr(instance, keyword, value)
        dcmwrite(folder / path.name, instance, enforce_file_format=True)
        return folder / path.name

    images = tuple(copy(path) for path in one.images)
    return Study(images, {role: copy(path) for role, path in one.results.items()})


def test_earlier_results_are_found_in_the_archive_the_latest_first(
    pacs, first, second, present, tmp_path
):
    send(pacs, first, second)
    earlier, priors = look(pacs, present, tmp_path / "priors")
    assert earlier.problems == ()
    assert [(f"{p.acquired:%Y%m%d}", len(p.lesions)) for p in priors] == [(SECOND, 1), (FIRST, 2)]
    stored = dcmread(first.results["seg"]).SegmentSequence
    assert {one.tracking_uid for one in priors[1].lesions} == {one.TrackingUID for one in stored}
    assert Earlier.from_json(earlier.to_json()) == earlier


def test_a_result_that_found_nothing_is_a_result_and_one_that_could_not_look_is_none(
    pacs, present, tmp_path
):
    nothing = study(tmp_path, "nothing", FIRST, balls())
    assert set(nothing.results) == {"sr"}
    metal = study(tmp_path, "metal", SECOND, (replace(balls(30.0)[0], density_hu=3000.0),))
    send(pacs, nothing, metal)
    _, priors = look(pacs, present, tmp_path / "priors")
    assert [(f"{prior.acquired:%Y%m%d}", prior.lesions) for prior in priors] == [(FIRST, ())]


def test_of_several_results_of_one_study_the_last_counts(pacs, first, present, tmp_path):
    later = Study(first.images, result(tmp_path / "later", first.images, FIRST + "1500"))
    send(pacs, first, later)
    earlier, priors = look(pacs, present, tmp_path / "priors")
    assert len(earlier.results) == 1
    (segment, _) = dcmread(later.results["seg"]).SegmentSequence
    assert segment.TrackingUID in {one.tracking_uid for one in priors[0].lesions}


def test_nothing_is_found_where_nothing_is(pacs, present, tmp_path):
    assert look(pacs, present, tmp_path / "priors")[0] == Earlier()


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "BODY-2"},
        {"PatientID": "body-1"},
        {"PatientID": "BODY-11"},
        {"PatientBirthDate": "19600102"},
        {"PatientSex": "M"},
        {"IssuerOfPatientID": "Elsewhere"},
        {"StudyDate": "20251231"},
        {"StudyDate": THIRD, "StudyTime": "235959"},
    ],
    ids=lambda other: "-".join(f"{k}={v}" for k, v in other.items()),
)
def test_another_patient_or_a_later_study_is_never_compared_with(
    settings, first, present, tmp_path, other
):
    """Whatever the archive answers: this one answers any query with all that it has."""
    with archive(holds=datasets(changed(first, tmp_path / "other", **other))) as generous:
        asked = asking(settings, generous.ae_title, generous.port)
        assert look(asked, present, tmp_path / "priors")[0] == Earlier()


def test_a_patient_of_the_same_name_is_not_found_in_a_real_archive(
    pacs, first, second, present, tmp_path
):
    send(
        pacs,
        changed(first, tmp_path / "longer", PatientID="BODY-11"),
        changed(second, tmp_path / "lower", PatientID="body-1"),
    )
    assert look(pacs, present, tmp_path / "priors")[0] == Earlier()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"PatientID": "BODY-?"}, "wildcards"),
        ({"PatientID": "*"}, "wildcards"),
        ({"PatientID": "BODY-1\\BODY-2"}, "wildcards"),
        ({"PatientID": ""}, "no patient ID"),
        ({"StudyDate": ""}, "no study date"),
        ({"PatientBirthDate": "", "IssuerOfPatientID": ""}, "matched safely"),
    ],
)
def test_an_archive_is_not_asked_for_anybody(settings, first, present, tmp_path, said, reason):
    image = dcmread(present[0])
    for keyword, value in said.items():
        setattr(image, keyword, value)
    dcmwrite(tmp_path / "image.dcm", image, enforce_file_format=True)
    with archive(holds=datasets(first)) as generous:
        asked = asking(settings, generous.ae_title, generous.port)
        earlier, _ = look(asked, (tmp_path / "image.dcm",), tmp_path / "priors")
    assert earlier.results == ()
    assert reason in earlier.problems[0]


def test_a_number_alone_makes_no_patient(settings, first, present, tmp_path):
    """It may be UNKNOWN, or of two hospitals."""
    unsure = changed(first, tmp_path / "unsure", PatientBirthDate="")
    with archive(holds=datasets(unsure)) as generous:
        asked = asking(settings, generous.ae_title, generous.port)
        earlier, _ = look(asked, present, tmp_path / "priors")
    assert (earlier.results, earlier.problems) == ((), (UNSAFE,))
    files = [*unsure.files, *present]
    assert earlier_among(files, spots.NAME, present[0]) == earlier


def test_an_id_of_two_issuers_is_nobodys(settings, first, second, present, tmp_path):
    image = dcmread(present[0])
    del image.IssuerOfPatientID
    dcmwrite(tmp_path / "image.dcm", image, enforce_file_format=True)
    north = changed(first, tmp_path / "north", IssuerOfPatientID="North")
    south = changed(second, tmp_path / "south", IssuerOfPatientID="South")
    with archive(holds=datasets(north, south)) as merged:
        asked = asking(settings, merged.ae_title, merged.port)
        earlier, _ = look(asked, (tmp_path / "image.dcm",), tmp_path / "priors")
    assert "more than one issuer" in earlier.problems[0]


@pytest.mark.parametrize(
    "other", [{"Manufacturer": "Somebody"}, {"ManufacturerModelName": "another-pipeline"}]
)
def test_results_of_others_and_of_other_pipelines_are_not_ours(
    settings, first, present, tmp_path, other
):
    with archive(holds=datasets(changed(first, tmp_path / "foreign", **other))) as mixed:
        asked = asking(settings, mixed.ae_title, mixed.port)
        assert look(asked, present, tmp_path / "priors")[0] == Earlier()


def test_a_result_whose_images_are_gone_is_told_of(settings, first, present, tmp_path):
    with archive(holds=datasets(Study(first.images[1:], first.results))) as partly:
        asked = asking(settings, partly.ae_title, partly.port)
        earlier, _ = look(asked, present, tmp_path / "priors")
    assert earlier.results == ()
    (problem,) = earlier.problems
    assert "its images are not all in the archive" in problem


def test_an_archive_that_is_away_is_not_an_archive_without_results(settings, present, tmp_path):
    away = asking(settings, "PACS", free_port())
    assert look(away, present, tmp_path / "priors")[0] == Earlier(problems=NOT_ANSWERED)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"find": "stall"}, "did not answer"),
        ({"find": "nonsense"}, "did not answer"),
        ({"find": "refuse"}, "does not let this node"),
        ({"get": "stall"}, "did not answer"),
        ({"get": "cut"}, "did not answer"),
        ({"get": "refuse"}, "does not let this node"),
        ({"get": "fail"}, "could not be retrieved"),
        ({"get": "forget"}, "could not be retrieved"),
    ],
)
def test_an_archive_that_fails_is_not_an_archive_without_results(
    settings, first, present, tmp_path, script, said
):
    with archive(holds=datasets(first), **script) as broken:
        patience_s = 0.5 if "stall" in script.values() else 30.0
        one = asking(settings, broken.ae_title, broken.port, timeout_s=patience_s)
        earlier, _ = look(one, present, tmp_path / "priors")
    assert earlier.results == ()
    assert said in earlier.problems[0]


def test_reports_of_dose_are_nobodys_loss(settings, first, present, tmp_path):
    """They are not asked for, and an archive says that it failed to send them."""
    (dose,) = [dcmread(path) for role, path in first.results.items() if role == "sr"]
    dose.SOPClassUID = dose.file_meta.MediaStorageSOPClassUID = XRayRadiationDoseSRStorage
    dose.SOPInstanceUID, dose.SeriesInstanceUID = "1.2.3.4", "1.2.3"
    with archive(holds=[dose, *datasets(first)]) as mixed:
        asked = asking(settings, mixed.ae_title, mixed.port)
        earlier, _ = look(asked, present, tmp_path / "priors")
    assert (len(earlier.results), earlier.problems) == (1, ())


def test_more_than_the_limit_is_not_taken(settings, first, present, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "IMAGES", Limits(size_bytes=20_000))
    with archive(holds=datasets(first)) as large:
        one = asking(settings, large.ae_title, large.port)
        earlier, _ = look(one, present, tmp_path / "priors")
    assert earlier.results == ()
    assert "did not answer as it should" in earlier.problems[0]


def test_a_worker_that_shall_stop_does_not_wait_for_the_archive(settings, present, tmp_path):
    class Stop(Exception):
        pass

    def tick():
        raise Stop

    with archive(find="stall") as slow:
        one = asking(settings, slow.ae_title, slow.port)
        with pytest.raises(Stop):
            look(one, present, tmp_path / "priors", tick)
    assert not (tmp_path / "priors").exists()


def test_a_folder_serves_without_an_archive(first, second, present, tmp_path):
    stranger = changed(second, tmp_path / "stranger", PatientID="BODY-2")
    files = [*first.files, *stranger.files, *present]
    earlier = earlier_among(files, spots.NAME, present[0])
    assert {path for one in earlier.results for path in one.sources} == set(first.images)
    assert earlier.results[0].segmentation == first.results["seg"]
    partly = earlier_among(first.files[1:], spots.NAME, present[0])
    assert partly.results == ()
    assert "images are not there" in partly.problems[0]
    assert earlier_among([*second.files, *present], spots.NAME, first.images[0]) == Earlier()


def test_radnode_run_compares_with_a_folder(first, present, tmp_path):
    def run(out, *options):
        command = ["run", spots.NAME, str(present[0].parent), "--out", str(tmp_path / out)]
        done = CliRunner().invoke(main, [*command, *options], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output, dcmread(tmp_path / out / "seg.dcm")

    said, with_priors = run("with", "--prior", str(first.images[0].parent))
    assert "% in 234 days" in said
    tracked = {one.TrackingUID for one in dcmread(first.results["seg"]).SegmentSequence}
    assert {one.TrackingUID for one in with_priors.SegmentSequence} == tracked
    _, without = run("without")
    assert without.SOPInstanceUID != with_priors.SOPInstanceUID


def test_the_same_priors_make_the_same_bytes(first, present, tmp_path):
    earlier = earlier_among(first.files, spots.NAME, present[0])
    made = [
        result(tmp_path / name, present, THIRD + "1200", earlier, uid_parts=("job",))
        for name in ("one", "two")
    ]
    for role in made[0]:
        assert made[0][role].read_bytes() == made[1][role].read_bytes()


def test_a_damaged_result_fails_no_job(settings, first, second, present, tmp_path):
    broken = datasets(changed(second, tmp_path / "broken"))
    for instance in broken:
        if instance.Modality == "SEG":
            del instance.ReferencedSeriesSequence[0].SeriesInstanceUID
    with archive(holds=[*broken, *datasets(first)]) as mixed:
        asked = asking(settings, mixed.ae_title, mixed.port)
        earlier, priors = look(asked, present, tmp_path / "priors")
    assert [f"{one.acquired:%Y%m%d}" for one in priors] == [FIRST]
    assert earlier.problems == ("One earlier result could not be compared: it is damaged.",)


def test_what_no_result_may_say_is_not_taken_over_from_an_earlier_one(first, present, tmp_path):
    """Here an outline of something that no code table knows, and that would be said to be gone."""
    odd = changed(first, tmp_path / "broken")
    segmentation = dcmread(odd.results["seg"])
    for segment in segmentation.SegmentSequence:
        segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Made up"
        del segment.TrackingUID
    segmentation.save_as(odd.results["seg"])
    earlier = Earlier((PriorFiles(odd.images, odd.results["seg"], (odd.results["sr"],)),))
    made = result(tmp_path / "made", present, THIRD + "1200", earlier, uid_parts=("job",))
    alone = result(tmp_path / "alone", present, THIRD + "1200", uid_parts=("job",))
    assert made["seg"].read_bytes() == alone["seg"].read_bytes()
    assert "Earlier results were not compared" in as_text(dcmread(made["sr"]))


@pytest.mark.parametrize("odd", ["x" * 70, "a\nb", "\u00c4-1", "\u5c71-1", " 7 ", "-0012"])
def test_an_odd_patient_id_fails_no_job(settings, first, present, tmp_path, odd):
    image = dcmread(present[0])
    image.SpecificCharacterSet = "ISO_IR 192"
    image.add(DataElement("PatientID", "LO", odd, validation_mode=IGNORE))
    dcmwrite(tmp_path / "image.dcm", image, enforce_file_format=True)
    with archive(holds=datasets(first)) as generous:
        asked = asking(settings, generous.ae_title, generous.port)
        assert look(asked, (tmp_path / "image.dcm",), tmp_path / "priors")[0].results == ()


def test_a_disk_that_is_full_fails_no_job(settings, first, present, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with archive(holds=datasets(first)) as mixed:
        asked = asking(settings, mixed.ae_title, mixed.port)
        monkeypatch.setattr("node.spool.os.write", full)
        earlier, _ = look(asked, present, tmp_path / "priors")
    assert "this node could not keep" in earlier.problems[0]


def test_nobody_is_asked_without_a_route_that_says_so(pacs, present, tmp_path):
    quiet = pacs.model_copy(
        update={"routes": (pacs.routes[0].model_copy(update={"priors_from": None}),)}
    )
    folder = tmp_path / "priors"
    with looked_up(quiet, lease(), present, (), folder=folder, tick=lambda: None) as earlier:
        assert earlier is None
