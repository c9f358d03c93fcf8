"""Every cell of the two published tables, at its limits."""

from __future__ import annotations

import pytest

from pipelines.lung_nodule_ct.guidelines import Kind, fleischner, lung_rads, mean_diameter_mm

SOLID, PART, GLASS = Kind.SOLID, Kind.PART_SOLID, Kind.GROUND_GLASS


@pytest.mark.parametrize(
    ("diameter_mm", "several", "low", "high"),
    [
        (5.4, False, "no routine follow-up", "optional CT at 12 months"),
        (
            5.5,
            False,
            "CT at 6 to 12 months, then consider CT at 18 to 24 months",
            "CT at 6 to 12 months, then CT at 18 to 24 months",
        ),
        (
            8.4,
            False,
            "CT at 6 to 12 months, then consider CT at 18 to 24 months",
            "CT at 6 to 12 months, then CT at 18 to 24 months",
        ),
        (
            8.5,
            False,
            "consider CT at 3 months, PET/CT or tissue sampling",
            "consider CT at 3 months, PET/CT or tissue sampling",
        ),
        (5.4, True, "no routine follow-up", "optional CT at 12 months"),
        (
            5.5,
            True,
            "CT at 3 to 6 months, then consider CT at 18 to 24 months",
            "CT at 3 to 6 months, then CT at 18 to 24 months",
        ),
        (
            20.0,
            True,
            "CT at 3 to 6 months, then consider CT at 18 to 24 months",
            "CT at 3 to 6 months, then CT at 18 to 24 months",
        ),
    ],
)
def test_solid_nodules_in_the_fleischner_table(diameter_mm, several, low, high):
    assert fleischner(diameter_mm, SOLID, several=several) == (low, high)


@pytest.mark.parametrize("kind", [GLASS, PART])
@pytest.mark.parametrize(
    ("diameter_mm", "several", "starts"),
    [
        (5.4, False, "no routine follow-up"),
        (5.4, True, "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years"),
        (5.5, True, "CT at 3 to 6 months, then as the most suspicious nodule requires"),
    ],
)
def test_subsolid_nodules_in_the_fleischner_table(kind, diameter_mm, several, starts):
    assert fleischner(diameter_mm, kind, several=several) == (starts, starts)


@pytest.mark.parametrize("diameter_mm", [5.5, 30.0])
def test_a_single_large_ground_glass_nodule_waits_longer_than_a_part_solid_one(diameter_mm):
    glass = fleischner(diameter_mm, GLASS, several=False)
    part = fleischner(diameter_mm, PART, several=False)
    assert glass.low_risk.startswith("CT at 6 to 12 months to confirm persistence")
    assert "every 2 years until 5 years" in glass.high_risk
    assert part.low_risk.startswith("CT at 3 to 6 months to confirm persistence")
    assert "annual CT for 5 years" in part.high_risk


@pytest.mark.parametrize(
    ("diameter_mm", "kind", "solid_mm", "category"),
    [
        (5.94, SOLID, None, "2"),
        (5.96, SOLID, None, "3"),
        (7.94, SOLID, None, "3"),
        (8.0, SOLID, None, "4A"),
        (14.9, SOLID, None, "4A"),
        (15.0, SOLID, None, "4B"),
        (5.9, PART, None, "2"),
        (6.0, PART, 5.9, "3"),
        (25.0, PART, 6.0, "4A"),
        (25.0, PART, 7.9, "4A"),
        (25.0, PART, 8.0, "4B"),
        (29.9, GLASS, None, "2"),
        (30.0, GLASS, None, "3"),
    ],
)
def test_a_first_screening_in_lung_rads(diameter_mm, kind, solid_mm, category):
    assert lung_rads(diameter_mm, kind, solid_mm) == category


def test_a_part_solid_nodule_without_the_size_of_its_core_has_no_category():
    with pytest.raises(ValueError, match="size of its solid component"):
        lung_rads(6.0, PART)


def test_size_is_the_average_of_both_axes():
    assert mean_diameter_mm(9.0, 6.0) == 7.5
