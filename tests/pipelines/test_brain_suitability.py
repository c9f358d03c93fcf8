"""Which series the brain network may look at; the network itself is not needed to say so."""

from __future__ import annotations

import numpy as np
import pytest

from node.route import conditions
from pipelines.brain_mr_volumetry import suitability, weights
from pipelines.brain_mr_volumetry.pipeline import BrainMrVolumetry
from pipelines.contract import CouldNotLook, Grid, Images, Pipeline, Volume, Waveform

PROTON_DENSITY = (
    "The series is not T1-weighted: repetition time 3000 ms without inversion pulse, at most "
    "1500 ms expected."
)
AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
HEAD = Grid((160, 256, 256), (0.0, 0.0, 0.0), AXES, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "attributes",
    [
        {"EchoTime": "2.98", "RepetitionTime": "2300", "InversionTime": "900"},  # MP-RAGE
        {"EchoTime": "3.2", "RepetitionTime": "8.2", "InversionTime": "450"},  # IR-FSPGR
        {"EchoTime": "4.6", "RepetitionTime": "9.9", "InversionTime": "0"},  # T1 TFE
        {"EchoTime": "20", "RepetitionTime": "500", "ScanningSequence": "SE"},  # ACR phantom
        {"EchoTime": "2.98", "RepetitionTime": "2300", "ScanningSequence": "GR\\IR"},
        {"EchoTime": "3", "RepetitionTime": "2300", "SequenceVariant": "SK\\SP\\MP"},
        {
            "SeriesDescription": "Ax T1 FLAIR",
            "EchoTime": "9",
            "RepetitionTime": "2000",
            "InversionTime": "860",
        },
        {"AcquisitionContrast": "T1", "EffectiveEchoTime": "3.1"},
        {"SeriesDescription": "anat-T1w"},
        {"ProtocolName": "sag_mprage_iso"},
        {"RepetitionTime": "500", "EchoTime": ""},
    ],
)
def test_t1_weighted_series_are_accepted_without_a_word(attributes):
    assert suitability.check_t1(attributes) == ()


@pytest.mark.parametrize(
    ("attributes", "evidence"),
    [
        (
            {"SeriesDescription": "t1 or so", "EchoTime": "88", "RepetitionTime": "4000"},
            "The series is not T1-weighted: echo time 88 ms, at most 30 ms expected.",
        ),
        (
            {"EffectiveEchoTime": "120.5"},
            "The series is not T1-weighted: echo time 120 ms, at most 30 ms expected.",
        ),
        (
            {"EchoTime": "9", "RepetitionTime": "9000", "InversionTime": "2500"},
            "The series is not T1-weighted: inversion time 2500 ms, at most 1500 ms expected.",
        ),
        (
            {"EchoTime": "15", "RepetitionTime": "3000", "ScanningSequence": "SE"},
            PROTON_DENSITY,
        ),
        (
            {"AcquisitionContrast": "PROTON_DENSITY"},
            "The series is not T1-weighted: acquisition contrast PROTON_DENSITY.",
        ),
        (
            {"SeriesDescription": "3D TOF neck", "EchoTime": "3.4", "RepetitionTime": "21"},
            "The series is not T1-weighted: the series is named TOF.",
        ),
        (
            {"ProtocolName": "sag_flair_3d"},
            "The series is not T1-weighted: the series is named FLAIR.",
        ),
        (
            {"ImageType": "DERIVED\\PRIMARY\\DIFFUSION\\ADC"},
            "The images are a derived map, not a T1-weighted head (ADC).",
        ),
        (
            {"ImageType": "ORIGINAL\\PRIMARY\\P\\ND", "EchoTime": "3"},
            "The images are a derived map, not a T1-weighted head (P).",
        ),
    ],
)
def test_other_contrasts_are_refused_with_the_evidence(attributes, evidence):
    with pytest.raises(CouldNotLook) as refused:
        suitability.check_t1(attributes)
    assert refused.value.reason == evidence


def test_what_the_series_is_called_is_searched_but_never_quoted():
    with pytest.raises(CouldNotLook) as refused:
        suitability.check_t1({"SeriesDescription": "T2 Mrs Miller"})
    assert "iller" not in refused.value.reason


def test_headers_that_do_not_tell_the_contrast_are_noted():
    (note,) = suitability.check_t1({"Modality": "MR", "AcquisitionContrast": "UNKNOWN"})
    assert note.startswith("The headers do not say whether the images are T1-weighted")


@pytest.mark.parametrize("age", ["005D", "030W", "011M", "001Y"])
def test_infants_are_refused(age):
    with pytest.raises(CouldNotLook, match="under 2 years old; this model is made for adults"):
        suitability.check_age({"PatientAge": age})


@pytest.mark.parametrize(
    ("age", "notes"), [("024M", 1), ("017Y", 1), ("018Y", 0), ("42", 0), ("", 0)]
)
def test_children_are_noted_and_unreadable_ages_ignored(age, notes):
    assert len(suitability.check_age({"PatientAge": age})) == notes


def test_contrast_agent_is_noted():
    (note,) = suitability.check_contrast_agent({"ContrastBolusAgent": "Gd"})
    assert note == "Acquired after contrast agent, on which this pipeline has not been tested."


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "reason"),
    [
        (
            (24, 256, 256),
            (6.5, 0.9, 0.9),
            "The slices or pixels are 6.5 mm apart; beyond 5 mm this volume would not be reliable.",
        ),
        (
            (10, 256, 256),
            (1.2, 0.9, 0.9),
            "The images cover only 12 mm in one direction and cannot hold a whole brain.",
        ),
        (
            (160, 80, 256),
            (1.0, 1.0, 1.0),
            "The images cover only 80 mm in one direction and cannot hold a whole brain.",
        ),
    ],
)
def test_images_too_coarse_or_too_few_are_refused_in_millimetres(shape, spacing_mm, reason):
    study = Volume(
        np.zeros(shape, dtype=np.float32), Grid(shape, (0.0, 0.0, 0.0), AXES, spacing_mm)
    )
    with pytest.raises(CouldNotLook) as refused:
        BrainMrVolumetry().run(study)
    assert refused.value.reason == reason


def test_a_head_is_large_enough():
    suitability.require_field(HEAD)


@pytest.mark.parametrize("study", [Waveform(()), Images(np.zeros((1, 8, 8), dtype=np.float32))])
def test_what_is_no_volume_is_not_for_this_pipeline(study):
    with pytest.raises(CouldNotLook, match="looks at a volume of MR slices, and this is none"):
        BrainMrVolumetry().run(study)


def test_sheared_slices_are_refused_in_degrees():
    study = Volume(np.zeros((2, 2, 2), np.float32), HEAD, {"GantryDetectorTilt": "12.0"})
    with pytest.raises(CouldNotLook, match=r"^The slices are sheared by 12\.0 degrees, as with"):
        BrainMrVolumetry().run(study)


@pytest.mark.parametrize("attributes", [{}, {"GantryDetectorTilt": "+0.00"}])
def test_straight_slices_are_not_called_sheared(attributes):
    suitability.require_straight(attributes)


def test_it_is_a_pipeline_as_the_contract_wants_it():
    pipeline = BrainMrVolumetry()
    assert isinstance(pipeline, Pipeline)
    assert len(pipeline.title) <= 64


def test_networks_other_than_those_tested_are_refused(monkeypatch):
    monkeypatch.setitem(weights.SHA256, weights.BOX_NETWORK, "0" * 64)
    with pytest.raises(RuntimeError, match=r"its SHA-256 differs\. Install deepbet 1\.0\.2"):
        weights.read_weights()


def test_a_missing_network_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "DISTRIBUTION", "radnode-no-such-distribution")
    with pytest.raises(RuntimeError, match=r"not installed. Install radnode\[models\]"):
        weights.read_weights()


@pytest.mark.parametrize(
    ("attributes", "planned"),
    [
        ({"SeriesDescription": {"t1_mprage_sag"}, "ScanningSequence": {"GR", "IR"}}, True),
        ({"SeriesDescription": {"T1 MPRAGE POST2"}}, True),
        ({}, True),
        ({"SeriesDescription": {"t2_tse_tra"}}, False),
        ({"SeriesDescription": {"T2W_FLAIR"}}, False),
        ({"SeriesDescription": {"ep2d_diff"}, "ScanningSequence": {"EP"}}, False),
        ({"ImageType": {"ORIGINAL", "PRIMARY", "LOCALIZER"}}, False),
    ],
)
def test_a_route_of_all_mr_series_plans_no_job_for_what_is_surely_no_t1(attributes, planned):
    judged = conditions(BrainMrVolumetry().input, {"Modality": frozenset({"MR"})} | attributes)
    assert all(condition.holds for condition in judged) is planned
