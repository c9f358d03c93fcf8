"""Which sequence a series is, by headers as scanners of several makers write them."""

from __future__ import annotations

import pytest

from pipelines.brain_mr_tumour.sequences import mismatch, sequence_of


def header(description="", technique="", tr=None, te=None, ti=None, agent="", **others):
    stated = {
        "SeriesDescription": description,
        "ScanningSequence": technique,
        "RepetitionTime": tr,
        "EchoTime": te,
        "InversionTime": ti,
        "ContrastBolusAgent": agent,
        **others,
    }
    return {keyword: str(value) for keyword, value in stated.items() if value not in (None, "")}


CASES = [
    # Siemens
    ("t1", header("t1_mprage_sag_p2_iso", "GR\\IR", 2300, 2.98, 900)),
    ("t1c", header("t1_mprage_sag_p2_iso_KM", "GR\\IR", 2300, 2.98, 900)),
    ("t1c", header("t1_mprage_sag_p2_iso", "GR\\IR", 2300, 2.98, 900, agent="Gadovist")),
    ("flair", header("t2_tirm_tra_dark-fluid", "SE\\IR", 9000, 89, 2500)),
    ("flair", header("t2_space_dark-fluid_sag_p2_iso", "SE\\IR", 5000, 388, 1800)),
    ("t2", header("t2_tse_tra", "SE", 5000, 93)),
    ("t2", header("t2_space_sag_p2_iso", "SE", 3200, 408)),
    ("t1", header("t1_se_tra", "SE", 550, 8.9)),
    # GE
    ("t1", header("Ax T1 FLAIR", "SE\\IR", 1750, 24, 780)),
    ("t1c", header("SAG 3D BRAVO +C", "GR", 8.5, 3.2, 450)),
    ("t1c", header("AX T1 POST", "SE", 500, 14)),
    ("flair", header("Ax T2 FLAIR", "SE\\IR", 8800, 120, 2250)),
    ("flair", header("Sag CUBE FLAIR", "SE\\IR", 6000, 128, 1640)),
    ("t2", header("Ax T2 FRFSE", "SE", 4200, 102)),
    # Philips
    ("t1", header("T1W_TFE", "GR", 8.2, 3.8)),
    ("t1c", header("T1W_3D_TFE GD", "GR", 8.2, 3.8)),
    ("flair", header("T2W_FLAIR", "IR", 11000, 125, 2800)),
    ("t2", header("T2W_TSE", "SE", 3000, 80)),
    # TCGA
    ("flair", header("MRHR FLAIR AX", "SE\\IR", 9000, 110, 2500)),
    ("t1c", header("MRHR T1 AX POST GAD", "SE", 500, 12)),
    # Names that say nothing
    ("t1", header("SE_10", "SE", 500, 12)),
    ("t1c", header("SE_13", "SE", 500, 12, agent="MAGNEVIST")),
    ("t2", header("SE_2", "SE", 4000, 99)),
    ("flair", header("SE_5", "SE\\IR", 9000, 110, 2500)),
    # Enhanced multi-frame
    ("flair", header("", "", 9000, 110, AcquisitionContrast="FLUID_ATTENUATED")),
    ("t1", header("", AcquisitionContrast="T1", EffectiveEchoTime="2.98")),
    # An agent entered for the whole examination: the name knows better
    ("t1", header("AX T1 PRE", "SE", 500, 12, agent="Dotarem")),
    ("t1", header("T1 WITHOUT CONTRAST", "SE", 500, 12, agent="Dotarem")),
    ("t1", header("AX T1 -C", "SE", 500, 12)),
    ("t1", header("AX T1 POST OP", "SE", 500, 12)),
    ("t1", header("AX T1", "SE", 500, 12, agent="NONE")),
    ("t1c", header("AX T1 C+", "SE", 500, 12)),
    # None of the four
    (None, header("AX PD", "SE", 3000, 15)),
    (None, header("ep2d_diff_3scan_trace", "EP", 6000, 90)),
    (None, header("ADC", "EP", 6000, 90, ImageType="DERIVED\\PRIMARY\\DIFFUSION\\ADC")),
    (None, header("AX T2*", "GR", 650, 20)),
    (None, header("AX GRE", "GR", 650, 20)),
    (None, header("SWI_Images", "GR", 28, 20)),
    (None, header("TOF_3D", "GR", 22, 3.7)),
    (None, header("STIR cor", "SE\\IR", 4000, 60, 160)),
    (None, header("t2_ciss3d", "GR", 5.8, 2.6)),
    (None, header("", "")),
    (None, header("AX T1", "SE", 4000, 99)),  # contradicts itself
    (None, header("AX FLAIR", "SE", 500, 12)),
    (None, header("T1 T2 FLAIR", "SE", 500, 12)),
    (None, header("T1 SUB", "SE", 500, 12)),
    (None, header("T1 MPR", "GR\\IR", 2300, 3, 900, ImageType="DERIVED\\SECONDARY\\MPR")),
    (None, header("AX T1", "SE", 500, 12, Modality="CT")),
]


@pytest.mark.parametrize(("expected", "attributes"), CASES)
def test_a_series_is_what_its_headers_say(expected, attributes):
    assert sequence_of(attributes) == expected


def test_another_sequence_than_expected_is_named():
    t2 = header("t2_tse_tra", "SE", 5000, 93)
    assert mismatch("t2", t2) == ""
    assert mismatch("flair", t2) == (
        "A series that should be FLAIR is T2-weighted, by its headers."
    )
    assert "do not show that it is T1-weighted with contrast agent" in mismatch("t1c", header())
