"""Which objects a destination gets: nothing it cannot show, and never nothing at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from node.domain import Role
from node.profiles import (
    CHOSEN_BY_THE_NODE,
    FALLBACKS,
    kind_of,
    rank,
    to_make,
    to_send,
)
from node.settings import DimseDestination

roles = st.frozensets(st.sampled_from(sorted(set(Role) - CHOSEN_BY_THE_NODE)), min_size=1)
SR, SEG = Role.SR, Role.SEG


def destination(**fields: object) -> DimseDestination:
    return DimseDestination(kind="dimse", ae_title="PACS", host="127.0.0.1", port=104, **fields)


@pytest.mark.parametrize(
    ("profile", "sent"),
    [
        ("air", {"images", "seg", "sr"}),
        ("ohif", {"images", "seg", "sr", "viewer-sr", "text-sr"}),
        ("weasis", {"images", "seg", "sr", "gsps", "ko"}),
        ("orthanc", {"images", "seg", "sr", "sc", "pdf"}),
        ("old-pacs", {"images", "sc", "gsps"}),
    ],
)
def test_a_profile_is_a_set_of_objects(profile, sent):
    everything = [role.value for role in Role if role != Role.LABELMAP]
    assert set(to_send(everything, destination(profile=profile).roles)) == sent


def test_a_site_may_list_its_own_objects():
    assert destination(profile="ohif", objects=["sc", "map"]).roles == {Role.SC, Role.MAP}


@pytest.mark.parametrize("objects", [[], ["comprehensive-sr"], ["rejection"], ["sex"]])
def test_what_nobody_can_ask_for_is_a_mistake_in_the_file(objects):
    with pytest.raises(ValidationError, match="objects"):
        destination(objects=objects)


def test_a_profile_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ValidationError, match="there are air, ohif, weasis, orthanc, old-pacs"):
        destination(profile="pacs")


def test_a_label_map_goes_with_the_report_that_refers_to_it():
    wanted = destination(objects=["labelmap", "sr"]).roles
    made = ["seg", "labelmap", "sr", "labelmap-sr", "comprehensive-sr"]
    assert to_send(made, wanted) == ("labelmap", "labelmap-sr")


def test_segments_that_overlap_make_no_label_map_and_go_as_a_binary_one():
    wanted = destination(objects=["labelmap", "sr"]).roles
    assert to_send(["seg", "sr", "comprehensive-sr"], wanted) == ("seg", "sr")


def test_every_parametric_map_goes_where_maps_go():
    made = ["seg", "sr", "map", "map-2", "map-11"]
    assert to_send(made, frozenset({Role.MAP})) == ("map", "map-2", "map-11")


def test_every_image_of_every_derived_series_goes_where_images_go_and_before_the_report():
    made = ["images-1-0001", "images-1-0002", "images-2-0001", "sr"]
    assert to_send(made, destination(profile="old-pacs").roles) == tuple(made[:3])
    assert sorted([*reversed(made)], key=rank) == made


@given(wanted=roles)
def test_nobody_is_left_without_an_answer(wanted):
    """Neither when nothing was found nor when the model could not look."""
    assert to_send(["sr"], wanted) == ("sr",)


@given(wanted=roles)
def test_what_a_destination_may_fall_back_to_is_made(wanted):
    made = to_make([wanted])
    assert {SEG, SR} <= made
    for refused in to_send(sorted(made), wanted):
        way_out = FALLBACKS.get(kind_of(refused))
        if way_out is not None:
            assert way_out.instead <= made


def test_no_object_goes_before_one_it_refers_to():
    order = sorted(["rejection", "sr", "labelmap-sr", "map-2", "labelmap", "seg", "map"], key=rank)
    assert order.index("seg") < order.index("sr")
    assert order.index("labelmap") < order.index("labelmap-sr")
    assert order.index("map") < order.index("map-2")
    assert order[-1] == "rejection"
