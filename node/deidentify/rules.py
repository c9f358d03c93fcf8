"""What becomes of each attribute: PS3.15 table E.1-1, under the options that are in force."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_has_tag, repeater_has_tag

from node.deidentify.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.tag import BaseTag

    from node.confidentiality import Deidentify, DeidentifyOption


class Action(Enum):
    """What becomes of an attribute."""

    KEEP = auto()
    """As it is; of a sequence, what the rules leave of its items."""
    WORDS = auto()
    """Its text, of which only words stay that name nobody."""
    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    """A value that says nothing, where the attribute must have one."""
    UNLISTED = auto()
    """The table does not have it: technical text stays, names and free text do not."""


_BASIC: Mapping[str, Action] = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    # Which of these the object's definition needs (PS3.15 table E.1-1a) depends on its kind; the
    # one that conforms with all of them is taken.
    "Z/D": Action.DUMMY,
    "X/Z": Action.EMPTY,
    "X/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    # UIDs are replaced wherever they stand: such a sequence is kept for the references in it.
    "U": Action.KEEP,
    "X/Z/U*": Action.KEEP,
}

_COLUMNS: Mapping[str, DeidentifyOption] = {
    "dates": "modified-dates",
    "descriptors": "clean-descriptors",
    "content": "clean-structured-content",
    "patient": "patient-characteristics",
    "device": "device-identity",
}

METHODS: Mapping[DeidentifyOption, tuple[str, str]] = {
    "clean-structured-content": ("113104", "Clean Structured Content Option"),
    "clean-descriptors": ("113105", "Clean Descriptors Option"),
    "modified-dates": (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    "patient-characteristics": ("113108", "Retain Patient Characteristics Option"),
    "device-identity": ("113109", "Retain Device Identity Option"),
    "safe-private": ("113111", "Retain Safe Private Option"),
}
"""Option -> its code of the scheme DCM (PS3.16 CID 7050)."""

BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
CLEAN_PIXEL_DATA = ("113101", "Clean Pixel Data Option")

STANDARD_SAFE_PRIVATE: Mapping[str, frozenset[tuple[int, int]]] = {
    "Philips PET Private Group": frozenset({(0x7053, 0x00), (0x7053, 0x09)}),
    "ELSCINT1": frozenset(
        {(0x00E1, 0x21), (0x01E1, 0x50)} | {(0x01F1, n) for n in (0x07, 0x26, 0x27)}
    ),
    "GEMS_ACQU_01": frozenset({(0x0019, 0x23), (0x0019, 0x24), (0x0019, 0x27)}),
    "GEMS_SERS_01": frozenset({(0x0025, 0x07)}),
    "GEMS_PARM_01": frozenset({(0x0043, 0x27)}),
    "GEMS_HELIOS_01": frozenset({(0x0045, 0x01), (0x0045, 0x02)}),
    "Philips Imaging DD 001": frozenset({(0x2001, 0x03)}),
    "Philips MR Imaging DD 001": frozenset({(0x2005, 0x0D), (0x2005, 0x0E)}),
    "SIEMENS MR HEADER": frozenset({(0x0019, n) for n in (0x0C, 0x0E, 0x27)}),
}
"""Creator -> (group, element in its block) of the numbers among PS3.15 table E.3.10-1."""


@dataclass(frozen=True)
class Rules:
    """The table, under some options.

    Attributes:
        options: Those in force.
        safe_private: Creator -> (group, element in its block) of private numbers that stay.
    """

    options: frozenset[DeidentifyOption]
    safe_private: Mapping[str, frozenset[tuple[int, int]]]

    @property
    def dates_are_shifted(self) -> bool:
        """Whether dates stay, all moved by the same days; otherwise they go."""
        return "modified-dates" in self.options

    def action(self, tag: BaseTag) -> Action:
        """Return what becomes of a standard attribute that is no date and no time."""
        if not _is_known(tag) or tag.group & 0xFF00 in (0x5000, 0x6000):
            return Action.REMOVE  # what nobody knows; curves; overlays
        row = TABLE.get(int(tag))
        if row is None:
            return Action.UNLISTED
        basic, *changed = row.split()
        for one in changed:
            how, column = one.split(":")
            if _COLUMNS[column] in self.options and column != "dates":
                return Action.WORDS if how == "C" else Action.KEEP
        return _BASIC[basic]

    def basic(self, tag: BaseTag) -> Action:
        """Return what the Basic Profile alone does with an attribute of the table."""
        return _BASIC[TABLE[int(tag)].split()[0]]

    def keeps_private(self, creator: str, tag: BaseTag) -> bool:
        """Whether a private attribute is on the list of those that are safe."""
        return (tag.group, tag.element & 0xFF) in self.safe_private.get(creator, ())


def rules_of(settings: Deidentify) -> Rules:
    """Return the rules that a site has chosen."""
    safe = dict(STANDARD_SAFE_PRIVATE) if "safe-private" in settings.options else {}
    for creator, stated in settings.safe_private.items() if safe else ():
        own = frozenset((int(one[:4], 16), int(one[5:], 16)) for one in stated)
        safe[creator] = safe.get(creator, frozenset()) | own
    return Rules(frozenset(settings.options), safe)


@cache
def _is_known(tag: BaseTag) -> bool:
    return dictionary_has_tag(tag) or repeater_has_tag(int(tag))
