"""De-identify one object: a new data set, of which every element was decided on.

What no rule knows does not pass: the new data set starts empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, RawDataStorage

from node import __version__
from node.deidentify.identity import own_words, texts_of
from node.deidentify.keys import shifted
from node.deidentify.rules import BASIC_PROFILE, CLEAN_PIXEL_DATA, METHODS, Action
from node.deidentify.text import Cleaner
from node.errors import NotDeidentified
from pipelines.codes import UNIT_MEANINGS
from pipelines.contract import Code
from sr_templates.code_table import meanings, problem_with

if TYPE_CHECKING:
    from node.deidentify.keys import Pseudonyms
    from node.deidentify.rules import Rules

STORAGE = "1.2.840.10008.5.1.4.1.1."
"""The root of the classes of what is stored (PS3.4 table B.5-1)."""
_STORAGE_CLASS = re.compile(re.escape(STORAGE) + r"\d{1,3}(\.\d{1,3}){0,3}")
"""Also one of an edition to come."""
_ENCAPSULATED = f"{STORAGE}104."

NOTHING_LEFT = "REMOVED"
_NOBODY = "Anonymous"
_OLDEST_AGE_YEARS = 89
"""Older people are few enough to be found by their age (45 CFR 164.514(b)(2)(i)(C))."""

_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_CHARACTER_SET, _TIME_ZONE = 0x00080005, 0x00080201
_PATIENT_GROUP = 0x0010
_BIRTH = frozenset({0x00100030, 0x00100032})
_NEVER = frozenset({0x00100033, 0x00100034, 0x00100035, 0x00120062, 0x00120063, 0x00120064})
"""Births and deaths in other calendars; and what is said here anew."""
_ENCAPSULATED_DOCUMENT, _CONTENT = 0x00420011, 0x0040A730
_PERSON_CODES = 0x00401101
_SCHEMES_OF_OTHERS = frozenset({0x0008010C, 0x00080117, 0x00080118})
"""UIDs of coding schemes, context groups and mapping resources: given by their owners."""
_CODE = (0x00080100, 0x00080102, 0x00080104, 0x00080119)
"""Code Value, Coding Scheme Designator, Code Meaning, Long Code Value."""
_BYTES = frozenset(
    {0x7FE00001, 0x7FE00002, 0x7FE00010, 0x54000110, 0x54000112, 0x5400100A, 0x54001010}
    | {0x00282000}
)
"""Of byte streams: pixels, waveforms, colour profiles."""

_DATE_TIME = re.compile(r"(\d{8})((?:\d{2}){0,3}(?:(?<=\d{6})\.\d{1,6})?(?:[+-]\d{4})?)")
_SHAPES = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "SH": re.compile(r"[+-]\d{4}"),
}
"""Of values that are no text: ages, code strings, times, and the one offset of a time zone."""
_OUR_SCHEMES = frozenset({"99RADNODE", "99IHE"})
"""Private schemes of which our own results have codes."""
_TEXTS = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
"""Which of them an attribute has changes between editions."""
_NUMBERS = frozenset({"DS", "IS", "FL", "FD", "SS", "US", "SL", "UL", "SV", "UV"})
_DUMMIES: dict[str, str | bytes] = {
    "DA": "19000101",
    "DT": "19000101",
    "TM": "000000",
    "PN": _NOBODY,
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
}


def deidentified(
    original: Dataset, rules: Rules, pseudonyms: Pseudonyms, *, pixels_blanked: bool
) -> Dataset:
    """Return what may leave of an object. It says itself by which methods it was made.

    Args:
        original: Stays as it is.
        rules: Of the site.
        pseudonyms: Of the site.
        pixels_blanked: Said in the object.

    Raises:
        NotDeidentified: It is of a kind that cannot be de-identified.
        MALFORMED of ``node.malformed``: One of its values cannot be read.
    """
    sop_class = str(original.get("SOPClassUID") or "")
    what = _why_not(sop_class, original, rules)
    if what is not None:
        raise NotDeidentified(what, do="Leave it out.")
    patient = str(original.get("PatientID") or "").strip() or str(original.StudyInstanceUID)
    one = _Object(
        rules, pseudonyms, Cleaner(own_words(original)), patient, pseudonyms.shift_days(patient)
    )
    made = one.dataset(original)
    made.PatientName = made.PatientID = pseudonyms.patient_id(patient)
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = ["DICOM PS3.15 2026c table E.1-1", f"radnode {__version__}"]
    codes = [BASIC_PROFILE, *(METHODS[option] for option in METHODS if option in rules.options)]
    if pixels_blanked:
        codes.insert(1, CLEAN_PIXEL_DATA)
    made.DeidentificationMethodCodeSequence = [_code(*code, scheme="DCM") for code in codes]
    modified = "MODIFIED" if rules.dates_are_shifted else "REMOVED"
    made.LongitudinalTemporalInformationModified = modified
    return made


def _why_not(sop_class: str, original: Dataset, rules: Rules) -> str | None:
    """Return why an object cannot be de-identified; None for one that can."""
    if sop_class.startswith(_ENCAPSULATED) or _ENCAPSULATED_DOCUMENT in original:
        return "An encapsulated document cannot be de-identified."
    if sop_class == RawDataStorage:
        return "Raw data cannot be de-identified."
    if not _STORAGE_CLASS.fullmatch(sop_class):
        return "Its SOP class is none of the standard: nobody knows what is in it."
    if _CONTENT in original and "clean-structured-content" not in rules.options:
        return "It is a structured report, and [deidentify] leaves clean-structured-content out."
    return None


@dataclass(frozen=True)
class _Object:
    """One object on its way.

    Attributes:
        patient: What its pseudonym and its days are keyed by.
        days: By which its dates move.
    """

    rules: Rules
    pseudonyms: Pseudonyms
    cleaner: Cleaner
    patient: str
    days: int

    def dataset(self, original: Dataset) -> Dataset:
        made = Dataset()
        for element in original:
            kept = None
            if element.tag.is_private:
                kept = self._private(element, original)
            elif _is_of_its_kind(element):
                kept = self._one(element)
            if kept is not None and kept.tag not in _NEVER:
                made.add(kept)
        self._codes(original, made)
        return made

    def _one(self, element: DataElement) -> DataElement | None:
        if element.tag in (_PATIENT_ID, _PATIENT_NAME):
            return _with(element, self.pseudonyms.patient_id(self.patient))
        if element.VR in ("DA", "TM", "DT") or element.tag == _TIME_ZONE:
            return self._temporal(element)
        if element.VR == "UI":
            return self._uids(element)
        action = self.rules.action(element.tag)
        if action is Action.REMOVE:
            return None
        if action is Action.EMPTY or element.is_empty:
            return _with(element, None)
        return self._with_value(element, action)

    def _with_value(self, element: DataElement, action: Action) -> DataElement | None:
        if element.VR == "SQ":
            return self._sequence(element, action)
        if action is Action.DUMMY:
            return _dummy(element)
        if action is Action.UNLISTED:
            return self._unlisted(element)
        kept_as_it_is = action is Action.KEEP and element.tag.group != _PATIENT_GROUP
        return element if kept_as_it_is else self._words(element)

    def _sequence(self, element: DataElement, action: Action) -> DataElement | None:
        if element.tag == _PERSON_CODES and action is Action.DUMMY:
            return _with(element, Sequence([_code(NOTHING_LEFT, "Removed", scheme="99RADNODE")]))
        items = [item for item in map(self.dataset, element.value) if len(item)]
        return _with(element, Sequence(items)) if items else None

    def _temporal(self, element: DataElement) -> DataElement | None:
        if not self.rules.dates_are_shifted or element.tag in _BIRTH:
            return self._basic_temporal(element)
        values = [self._moved(element.VR, text) for text in texts_of(element)]
        kept = [one for one in values if one is not None]
        return _with(element, kept if len(kept) > 1 else "".join(kept))

    def _basic_temporal(self, element: DataElement) -> DataElement | None:
        action = self.rules.action(element.tag)
        if action is Action.REMOVE:
            return None
        empty = action is Action.EMPTY or element.is_empty
        return _with(element, None) if empty else _dummy(element)

    def _moved(self, vr: str, text: str) -> str | None:
        """Return a moment, moved by the patient's days; None for what is none."""
        text = text.strip()
        if vr in ("TM", "SH"):
            return text if _SHAPES[vr].fullmatch(text) else None
        if vr == "DA":
            return shifted(text, self.days)
        match = _DATE_TIME.fullmatch(text)
        moved = match and shifted(match[1], self.days)
        return f"{moved}{match[2]}" if match and moved else None

    def _uids(self, element: DataElement) -> DataElement:
        if element.tag in _SCHEMES_OF_OTHERS or element.is_empty:
            return element
        return _with(element, [self._uid(uid) for uid in texts_of(element)])

    def _uid(self, original: str) -> UID:
        # What only begins as those of DICOM itself may be anybody's.
        is_registered = UID(original).name != original
        is_of_dicom = is_registered or _STORAGE_CLASS.fullmatch(original)
        return UID(original if is_of_dicom else self.pseudonyms.uid(original))

    def _words(self, element: DataElement) -> DataElement | None:
        if element.VR not in _TEXTS:
            return self._shaped(element)
        kept = self._texts(element, descriptive=True)
        return kept if kept.value else self._nothing_left(element)

    def _nothing_left(self, element: DataElement) -> DataElement | None:
        basic = self.rules.basic(element.tag)
        if basic is Action.REMOVE:
            return None
        return _with(element, None) if basic is Action.EMPTY else _dummy(element)

    def _unlisted(self, element: DataElement) -> DataElement | None:
        vr = element.VR
        if vr in _TEXTS or vr == "AE":
            kept = self._texts(element, descriptive=vr in ("LT", "ST", "UT"))
            return kept if kept.value else _with(element, NOTHING_LEFT)
        if vr == "PN":
            return _dummy(element)
        if vr == "UR" or (vr in ("OB", "UN") and element.tag not in _BYTES):
            return None
        return self._shaped(element)

    def _shaped(self, element: DataElement) -> DataElement | None:
        texts = [text.strip() for text in texts_of(element)] if element.VR in ("AS", "CS") else []
        if element.VR == "AS":
            ages = [_age(age) for age in texts if _SHAPES["AS"].fullmatch(age)]
            return _with(element, ages[0]) if ages else None
        if element.VR == "CS" and element.tag != _CHARACTER_SET:
            return _with(element, [self._code_string(one) for one in texts])
        return element

    def _code_string(self, text: str) -> str:
        is_one = _SHAPES["CS"].fullmatch(text) and self.cleaner.is_safe(text)
        return text if is_one else NOTHING_LEFT

    def _texts(self, element: DataElement, *, descriptive: bool) -> DataElement:
        clean = self.cleaner.descriptive if descriptive else self.cleaner.technical
        cleaned = [clean(text) for text in texts_of(element)]
        if not any(cleaned):
            return _with(element, None)
        return _with(element, [one or NOTHING_LEFT for one in cleaned])

    def _codes(self, original: Dataset, made: Dataset) -> None:
        """Give a coded entry its value and meaning back where PS3.16 lists it, or we made it."""
        scheme = str(original.get("CodingSchemeDesignator") or "")
        value = str(original.get("CodeValue") or original.get("LongCodeValue") or "")
        meaning = str(original.get("CodeMeaning") or "")
        if scheme == "UCUM":
            is_known = value in UNIT_MEANINGS or bool(meanings(value, scheme))
        elif scheme.startswith("99"):
            is_known = scheme in _OUR_SCHEMES and made.get("CodeMeaning") == meaning
        else:
            is_known = True
        if is_known and problem_with(Code(value, scheme, meaning)) is None:
            for element in (original[tag] for tag in _CODE if tag in original):
                made.add(element)

    def _private(self, element: DataElement, original: Dataset) -> DataElement | None:
        tag = element.tag
        if tag.is_private_creator:
            creator = str(element.value)
            block = (
                one
                for one in original.group_dataset(tag.group)
                if one.tag.element >> 8 == tag.element
            )
            has_any = any(self._stays(creator, one) for one in block)
            return element if has_any else None
        creator_tag = Tag(tag.group, tag.element >> 8)
        creator = str(original[creator_tag].value) if creator_tag in original else ""
        return element if self._stays(creator, element) else None

    def _stays(self, creator: str, element: DataElement) -> bool:
        is_number = element.VR in _NUMBERS
        return is_number and self.rules.keeps_private(creator, element.tag)


def _is_of_its_kind(element: DataElement) -> bool:
    """Whether a value is of the VR that PS3.6 gives it: in another, anything may be hidden."""
    try:
        stated = dictionary_VR(element.tag).split(" or ")
    except KeyError:
        return False
    return element.VR in stated or (element.VR in _TEXTS and not _TEXTS.isdisjoint(stated))


def _age(age: str) -> str:
    is_old = age.endswith("Y") and int(age[:3]) > _OLDEST_AGE_YEARS
    return f"{_OLDEST_AGE_YEARS + 1:03}Y" if is_old else age


def _with(element: DataElement, value: Any) -> DataElement:
    return DataElement(element.tag, element.VR, value)


def _dummy(element: DataElement) -> DataElement:
    if element.VR in _NUMBERS and element.VR not in _DUMMIES:
        return _with(element, 0)
    return _with(element, _DUMMIES.get(element.VR, NOTHING_LEFT))


def _code(value: str, meaning: str, *, scheme: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
