"""Routes: which series they take, said condition by condition."""

from __future__ import annotations

import string
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node import route
from node.dimse.receive import part10_header
from node.errors import ConfigError, UnreadableSeries
from node.settings import FolderDestination, Route, Settings
from tests.peers import bright_spot
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ASCII = st.text(string.ascii_letters + string.digits + " ^._-+()[]{}|$\\/#", min_size=1)


def holds(pattern: str | tuple[str, ...], *values: str) -> bool:
    (condition,) = route.conditions({"Modality": pattern}, {"Modality": frozenset(values)})
    return condition.holds


# --- patterns --------------------------------------------------------------------------------

HOLD = [
    ("CT", ["CT"]),
    ("ct", ["CT"]),
    ("CT", ["MR", "CT"]),
    ("*", ["CT"]),
    ("HEAD*", ["HEAD"]),
    ("HEAD*", ["HEADNECK"]),
    ("*HEAD", ["FOREHEAD"]),
    ("*T1*", ["Ax T1 post"]),
    ("?T", ["CT"]),
    ("T?", ["T1"]),
    ("*", ["two\nlines"]),
    ("1.2.840.?", ["1.2.840.1"]),
    ("!MR", ["CT"]),
    ("!MR", []),
    ("!*", []),
    ("!LOCALIZER", ["ORIGINAL", "PRIMARY", "AXIAL"]),
    (("CT", "MR"), ["MR"]),
    (("!MR", "!US"), ["CT"]),
    (("CT", "!MR"), ["CT"]),
]
FAIL = [
    ("CT", ["MR"]),
    ("CT", []),
    ("*", []),
    ("CT", ["CTA"]),
    ("CT", ["XCT"]),
    ("?", ["CT"]),
    ("T?", ["T"]),
    ("HEAD*", ["FOREHEAD"]),
    ("1.2.840.?", ["1x2x840x1"]),
    ("!CT", ["CT"]),
    ("!CT", ["MR", "CT"]),
    ("!LOCALIZER", ["ORIGINAL", "LOCALIZER"]),
    (("CT", "MR"), ["US"]),
    (("!MR", "!US"), ["US"]),
    (("CT", "!MR"), ["CT", "MR"]),
    (("CT", "!MR"), ["US"]),
]


@pytest.mark.parametrize(("pattern", "values"), HOLD)
def test_a_condition_holds(pattern: str | tuple[str, ...], values: list[str]) -> None:
    assert holds(pattern, *values)


@pytest.mark.parametrize(("pattern", "values"), FAIL)
def test_a_condition_fails(pattern: str | tuple[str, ...], values: list[str]) -> None:
    assert not holds(pattern, *values)


@given(ASCII, ASCII)
def test_a_pattern_without_wildcards_matches_only_itself(pattern: str, value: str) -> None:
    assert holds(pattern, pattern)
    assert holds(pattern, pattern.swapcase())
    assert holds(pattern, value) is (pattern.lower() == value.lower())


@given(ASCII, ASCII, ASCII)
def test_a_star_stands_for_anything_between(start: str, middle: str, end: str) -> None:
    assert holds(f"{start}*{end}", start + middle + end)
    assert holds(f"{start}*{end}", start + end)


@given(ASCII, st.lists(ASCII))
def test_a_condition_and_its_opposite_never_agree(pattern: str, values: list[str]) -> None:
    assert holds(pattern, *values) is not holds(f"!{pattern}", *values)


@pytest.mark.parametrize("pattern", [".*", "[CT]T", "C|M", "(CT)", "^CT$", r"\w\w", "C+T"])
def test_what_other_languages_call_wildcards_is_taken_by_the_letter(pattern: str) -> None:
    assert holds(pattern, pattern)
    assert not holds(pattern, "CT")


# --- attributes ------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write a series, each instance with its own changes."""

    def write(*changes: dict[str, Any]) -> list[Path]:
        paths = []
        for number, (image, change) in enumerate(
            zip(ct_series("route", len(changes), spot=False), changes, strict=True)
        ):
            for keyword, value in change.items():
                setattr(image, keyword, value)
            paths.append(tmp_path / f"{number}.dcm")
            image.save_as(paths[-1], enforce_file_format=True)
        return paths

    return write


def attributes(paths: Sequence[Path], *keywords: str) -> dict[str, set[str]]:
    found = route.read_attributes(paths, keywords)
    return {keyword: set(values) for keyword, values in found.items()}


def test_every_value_of_every_instance_counts(written: Callable[..., list[Path]]) -> None:
    paths = written(
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "BodyPartExamined": "HEAD"},
        {"ImageType": ["DERIVED", "", "AXIAL"], "BodyPartExamined": "NECK"},
    )
    assert attributes(paths, "ImageType", "BodyPartExamined") == {
        "ImageType": {"ORIGINAL", "PRIMARY", "LOCALIZER", "DERIVED", "AXIAL"},
        "BodyPartExamined": {"HEAD", "NECK"},
    }


def test_an_absent_or_empty_attribute_has_no_value(written: Callable[..., list[Path]]) -> None:
    paths = written({"BodyPartExamined": ""})
    assert attributes(paths, "BodyPartExamined", "ContrastBolusAgent") == {}


def test_numbers_are_matched_as_they_are_written(written: Callable[..., list[Path]]) -> None:
    paths = written({"SliceThickness": "1.50", "EchoTime": ["2.0", "4"]})
    assert attributes(paths, "SliceThickness", "EchoTime", "Rows", "InstanceNumber") == {
        "SliceThickness": {"1.50"},
        "EchoTime": {"2.0", "4"},
        "Rows": {"32"},
        "InstanceNumber": {"1"},
    }


def raw_element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


@pytest.mark.parametrize(
    ("keyword", "element"),
    [
        ("BodyPartExamined", raw_element((0x18, 0x15), b"ZZ", b"HEAD")),
        ("FrameTime", raw_element((0x18, 0x1063), b"FD", b"12345678ab")),
        ("Rows", raw_element((0x28, 0x10), b"US", b"\1\2\3\4")[:-1] + b"\5"),
        ("SeriesNumber", raw_element((0x20, 0x11), b"IS", b"no number ")),
        ("SliceThickness", raw_element((0x18, 0x50), b"DS", b"1.2.3.")),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_value_that_breaks_its_own_rules_stops_nobody(
    tmp_path: Path, keyword: str, element: bytes
) -> None:
    path = tmp_path / "hostile.dcm"
    empty = Dataset()
    empty.file_meta = ct_series("route", 1)[0].file_meta
    empty.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes() + element)
    assert attributes([path], "Modality", keyword).get("Modality") is None


@pytest.mark.parametrize("content", [None, b"", b"no DICOM", bytes(132)])
def test_a_file_that_cannot_be_read_is_an_error_of_its_own(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "damaged.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableSeries, match=path.name):
        route.read_attributes([path], ["Modality"])


# --- decisions -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    bright_spot.install(folder)
    monkeypatch.syspath_prepend(folder)
    route.registry._installed.cache_clear()


def routed(*routes: Route) -> Settings:
    out = FolderDestination(kind="folder", path="out")
    return Settings(routes=routes, destinations={"out": out})


def take(match: dict[str, Any], name: str = "") -> Route:
    return Route(name=name, match=match, run=(bright_spot.NAME,), send_to=("out",))


HEAD_CT = {
    "Modality": frozenset({"CT"}),
    "ImageType": frozenset({"ORIGINAL", "PRIMARY"}),
    "CallingAETitle": frozenset({"CT1"}),
}


def test_a_series_is_taken_when_every_condition_of_route_and_pipeline_holds() -> None:
    (decision,) = route.decide(routed(take({"Modality": "CT"})), HEAD_CT)
    assert decision.taken
    assert [one.keyword for one in decision.of_route] == ["Modality"]
    assert [one.keyword for one in decision.of_pipeline] == ["Modality", "ImageType"]


@pytest.mark.parametrize(
    ("match", "changed"),
    [
        ({"Modality": "MR"}, {}),
        ({}, {"Modality": frozenset({"MR"})}),
        ({}, {"ImageType": frozenset({"DERIVED"})}),
        ({"Modality": "CT", "BodyPartExamined": "HEAD"}, {}),
    ],
)
def test_a_series_is_not_taken_when_one_fails(match: Any, changed: Any) -> None:
    (decision,) = route.decide(routed(take(match)), HEAD_CT | changed)
    assert not decision.taken


@pytest.mark.parametrize(("pattern", "taken"), [("CT*", True), ("!TEST*", True), ("MR1", False)])
def test_the_sender_may_be_a_condition(
    written: Callable[..., list[Path]], pattern: str, taken: bool
) -> None:
    settings = routed(take({"CallingAETitle": pattern}))
    found = route.attributes_of(settings, written({}), ["CT1"])
    (decision,) = route.decide(settings, found)
    assert decision.taken is taken


def test_every_route_answers_under_its_name_or_its_place_in_the_file() -> None:
    settings = routed(take({}, "stroke"), take({"Modality": "MR"}))
    answers = {one.route: one.taken for one in route.decide(settings, HEAD_CT)}
    assert answers == {"stroke": True, "routes[2]": False}
    assert set(route.routes_by_name(settings)) == set(answers)


def test_a_condition_tells_what_it_wanted_and_what_it_found() -> None:
    (decision,) = route.decide(routed(take({"Modality": ("MR", "US")})), HEAD_CT)
    (condition,) = decision.of_route
    assert condition == route.Condition("Modality", ("MR", "US"), ("CT",), holds=False)


def test_an_unknown_pipeline_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'no-such'") as raised:
        route.pipeline("no-such")
    assert bright_spot.NAME in raised.value.do


SHORT = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
HOSTILE = (b"inf", b"1E999", b"-1E999", b"nan", b"\0\0", b"\x1b$B", b"9" * 30, b"\xff\xfe", b"\\\\")


@pytest.mark.parametrize("vr", SHORT)
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_of_any_kind_keeps_a_series_from_being_routed(
    tmp_path: Path, vr: bytes, value: bytes
) -> None:
    even = value + b" " * (len(value) % 2)
    element = b"\x08\x00\x60\x00" + vr + len(even).to_bytes(2, "little") + even
    path = tmp_path / "hostile.dcm"
    meta = part10_header("1.2.840.10008.5.1.4.1.1.4", "1.2.3", ExplicitVRLittleEndian, "X")
    path.write_bytes(meta + element)
    route.read_attributes([path], ["Modality"])
