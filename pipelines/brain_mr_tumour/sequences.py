"""Which of the four sequences a series is, by its headers: T1, T1c, T2, FLAIR, or none of them.

Timing, the series' name and the acquisition contrast each leave some sequences possible. A series
is one of the four where exactly one is left; where they contradict each other none is, and nobody
guesses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pipelines import mr_contrast

if TYPE_CHECKING:
    from collections.abc import Mapping

Sequence = Literal["t1c", "t1", "t2", "flair"]

SHORTEST_T2_ECHO_MS = 60.0
"""Own limit, halfway between T1 (20 ms) and conventional T2 (80 to 120 ms), on the side of T2."""
LONGEST_SPOILED_ECHO_MS = 12.0
"""A gradient echo later than this is weighted by T2*; T1-weighted ones have 2 to 8 ms."""

_SPOKEN = {
    "t1": "T1-weighted without contrast agent",
    "t1c": "T1-weighted with contrast agent",
    "t2": "T2-weighted",
    "flair": "FLAIR",
}
_ALL = frozenset({"t1", "t2", "flair"})
_NONE: frozenset[str] = frozenset()
_SOLE: dict[frozenset[str], Sequence] = {frozenset({"t2"}): "t2", frozenset({"flair"}): "flair"}
_T1_WORDS = frozenset(
    {"T1", "T1W", "T1WI", "T1C", "T1CE", "T1GD", "T1FLAIR", "MPRAGE", "MEMPRAGE", "BRAVO"}
    | {"SPGR", "FSPGR", "TFL", "TFL3D"}
)
_T2_WORDS = frozenset({"T2", "T2W", "T2WI"})
_FLAIR_WORDS = frozenset({"FLAIR", "T2FLAIR", "TIRM", "DARKFLUID"})
_OTHER_WORDS = frozenset(
    {"T2STAR", "STIR", "PD", "PDW", "CISS", "FIESTA", "SWI", "SWAN", "HEMO", "GRE", "DIR"}
    | {"DWI", "DTI", "DIFF", "ADC", "ASL", "BOLD", "PERF", "PERFUSION", "DSC", "DCE", "TOF"}
    | {"MRA", "MRV", "SUB", "SUBTRACTION", "MIP", "MPR", "MRS", "LOC", "LOCALIZER", "SCOUT"}
)
_WITH_AGENT = frozenset(
    {"GD", "GAD", "GADO", "GADOLINIUM", "CE", "T1C", "T1CE", "T1GD", "KM", "ENHANCED"}
    | {"CONTRAST", "POSTGAD", "POSTGD", "POSTCONTRAST"}
)
_WITHOUT_AGENT = frozenset(
    {"PRE", "PREGAD", "PREGD", "PRECONTRAST", "NATIVE", "NATIV", "NONCONTRAST", "UNENHANCED"}
)
_WITHOUT = frozenset({"WITHOUT", "WO", "NO", "NON", "OHNE", "SANS"})


def sequence_of(attributes: Mapping[str, str]) -> Sequence | None:
    """Return which of the four sequences a series is; None for any other, and where in doubt.

    Args:
        attributes: Technical attributes by DICOM keyword, as of a ``Volume``.
    """
    if attributes.get("Modality", "MR") != "MR":
        return None
    if mr_contrast.words(attributes, "ImageType") & mr_contrast.DERIVED:
        return None
    votes = (_by_name(attributes), _by_timing(attributes), _by_contrast(attributes))
    possible = frozenset.intersection(*votes)
    if possible == {"t2", "flair"} and not _inverted(attributes):
        possible = frozenset({"t2"})
    if possible == {"t1"}:
        return "t1c" if _with_agent(attributes) else "t1"
    return _SOLE.get(possible)


def mismatch(expected: str, attributes: Mapping[str, str]) -> str:
    """Return a sentence on why a series is not the one expected; empty where it is."""
    found = sequence_of(attributes)
    if found == expected:
        return ""
    if found is None:
        return f"The headers of a series do not show that it is {_SPOKEN[expected]}."
    return f"A series that should be {_SPOKEN[expected]} is {_SPOKEN[found]}, by its headers."


def _by_timing(attributes: Mapping[str, str]) -> frozenset[str]:
    echo_ms = mr_contrast.milliseconds(attributes, "EchoTime", "EffectiveEchoTime")
    repetition_ms = mr_contrast.milliseconds(attributes, "RepetitionTime")
    technique = mr_contrast.words(attributes, "ScanningSequence")
    if "EP" in technique:
        return _NONE
    if echo_ms is None:
        return _ALL
    gradient_echo = "GR" in technique and "SE" not in technique
    long = repetition_ms is not None and repetition_ms > mr_contrast.LONGEST_T1_REPETITION_MS
    if echo_ms <= mr_contrast.LONGEST_T1_ECHO_MS:
        late = gradient_echo and echo_ms > LONGEST_SPOILED_ECHO_MS
        return _early(attributes, not_t1=late or long)
    if echo_ms < SHORTEST_T2_ECHO_MS or gradient_echo or (repetition_ms and not long):
        return _NONE
    inversion_ms = _inversion_ms(attributes)
    if not inversion_ms:
        return frozenset({"t2", "flair"})
    nulls_fluid = inversion_ms > mr_contrast.LONGEST_T1_INVERSION_MS
    return frozenset({"flair"}) if nulls_fluid else _NONE


def _early(attributes: Mapping[str, str], *, not_t1: bool) -> frozenset[str]:
    """Return what an early echo may be; inversion makes it T1 whatever else speaks against."""
    inversion_ms = _inversion_ms(attributes)
    if inversion_ms > mr_contrast.LONGEST_T1_INVERSION_MS:
        return _NONE
    if not_t1 and not inversion_ms and not _inverted(attributes):
        return _NONE
    return frozenset({"t1"})


def _inversion_ms(attributes: Mapping[str, str]) -> float:
    return mr_contrast.milliseconds(attributes, "InversionTime", "InversionTimes") or 0.0


def _inverted(attributes: Mapping[str, str]) -> bool:
    return bool({"IR", "MP"} & mr_contrast.words(attributes, "ScanningSequence", "SequenceVariant"))


def _by_name(attributes: Mapping[str, str]) -> frozenset[str]:
    """Read the series description; the protocol's name only where that says nothing."""
    for keyword in ("SeriesDescription", "ProtocolName", "PulseSequenceName", "SequenceName"):
        text = attributes.get(keyword, "").upper()
        named = mr_contrast.words(attributes, keyword)
        if named & _OTHER_WORDS or re.search(r"T2\s?\*|DARK.?FLUID.*T1", text):
            return _NONE
        if named & _T1_WORDS:
            return _NONE if named & _T2_WORDS else frozenset({"t1"})
        if named & _FLAIR_WORDS or re.search(r"DARK.?FLUID|FLAIR", text):
            return frozenset({"flair"})
        if named & _T2_WORDS:
            return frozenset({"t2"})
    return _ALL


def _by_contrast(attributes: Mapping[str, str]) -> frozenset[str]:
    """Read Acquisition Contrast (PS3.3 C.8.13.3.1.1) of Enhanced images."""
    contrast = attributes.get("AcquisitionContrast", "UNKNOWN")
    known = {"T1": {"t1"}, "T2": {"t2", "flair"}, "FLUID_ATTENUATED": {"flair"}, "UNKNOWN": _ALL}
    return frozenset(known.get(contrast, ()))


def _with_agent(attributes: Mapping[str, str]) -> bool:
    """Whether a contrast agent was given: by the series' name, or else by the header.

    The name goes first: at many sites the agent is entered for the whole examination.
    """
    text = attributes.get("SeriesDescription", "").upper()
    named = mr_contrast.words(attributes, "SeriesDescription")
    agent = mr_contrast.words(attributes, "ContrastBolusAgent")
    if named & _WITHOUT_AGENT or named & _WITHOUT or re.search(r"W/O|-\s?C\b|-\s?KM\b", text):
        return False
    if named & _WITH_AGENT or re.search(r"\+\s?(C|KM|GD|GAD|CM)\b|\bC\s?\+", text):
        return True
    if "POST" in named and not named & {"OP", "RT", "SURGERY"}:
        return True
    return bool(agent - {"NO", "NONE", "NON", "N", "0", "WITHOUT", "UNKNOWN"})
