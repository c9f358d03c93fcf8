"""Which channel to read: the lead is known by its coded source, never by its position."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.contract import Code, CouldNotLook, MultiplexGroup, Waveform

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST_S = 9.0
"""Some carts store a "10 s" strip a few hundred milliseconds short; the model takes 10 s."""
LOWEST_SAMPLING_HZ = 100.0
"""Below this, half the sampling rate cuts into the QRS complex itself."""

LEAD_II = 2
PREFERRED = (LEAD_II, 32, 1, 31, 7, 3)
"""II and derived II, which the model's makers evaluated; then I, derived I, V5, V1."""

_NUMBERS = {
    "MDC": re.compile(r"2:(\d+)"),
    "SCPECG": re.compile(r"5\.6\.3-9-(\d+)"),  # as the 2004 edition of CID 3001 had it
}
_NAMES = {"I": 1, "II": 2, "III": 61, "AVR": 62, "AVL": 63, "AVF": 64} | {
    f"V{chest}": chest + 2 for chest in range(1, 7)
}


@dataclass(frozen=True)
class Lead:
    """One channel that may be read; ``group`` and ``channel`` count from 1, as SRs do."""

    group: MultiplexGroup
    channel: int
    number: int | None
    name: str


def lead_number(source: Code) -> int | None:
    """Return the lead's number in ISO/IEEE 11073-10102 and SCP-ECG, which is the same.

    CID 3001 writes lead II as ``2:2`` (MDC), its earlier editions as ``5.6.3-9-2`` (SCPECG);
    the nomenclature's electric potential of lead II is ``2:258``, its reference identifier
    ``MDC_ECG_LEAD_II``. None for anything else, and for "unspecified lead".
    """
    if source.value.startswith("MDC_ECG_LEAD_"):
        return _NAMES.get(source.value.removeprefix("MDC_ECG_LEAD_").upper())
    pattern = _NUMBERS.get(source.scheme)
    match = pattern.fullmatch(source.value) if pattern else None
    number = int(match[1]) if match else 0
    return number % 256 or None if number < 512 else None


def readable_leads(waveform: Waveform) -> tuple[Lead, ...]:
    """Return the channels that may be read, best first.

    Raises:
        CouldNotLook: No channel is an original voltage of sufficient length and rate.
    """
    groups = [group for group in waveform.groups if group.original]
    if not groups:
        raise CouldNotLook("The object holds derived waveforms only, such as a median beat.")
    leads = [lead for group in groups for lead in _leads(group)]
    if not leads:
        raise CouldNotLook("No channel of the recording is a voltage with a known unit.")
    longest_s = max(lead.group.duration_s for lead in leads)
    leads = [lead for lead in leads if lead.group.duration_s >= SHORTEST_S]
    if not leads:
        raise CouldNotLook(
            f"The longest lead lasts {longest_s:.1f} s; rhythm is judged from 10 s on "
            f"(at least {SHORTEST_S:.0f} s)."
        )
    leads = [lead for lead in leads if lead.group.sampling_hz >= LOWEST_SAMPLING_HZ]
    if not leads:
        raise CouldNotLook(f"The recording has fewer than {LOWEST_SAMPLING_HZ:.0f} samples/s.")
    return tuple(sorted(leads, key=_rank))


def _leads(group: MultiplexGroup) -> Iterator[Lead]:
    for position, channel in enumerate(group.channels, start=1):
        if channel.unit == "mV":
            name = channel.source.meaning or channel.label or f"channel {position}"
            yield Lead(group, position, lead_number(channel.source), name)


def _rank(lead: Lead) -> tuple[int, float, int, int]:
    """Sort key: preferred lead, then the longest recording of it, whatever the stored order."""
    if lead.number in PREFERRED:
        preference = PREFERRED.index(lead.number)
    else:
        preference = len(PREFERRED) + (256 if lead.number is None else lead.number)
    return preference, -lead.group.duration_s, lead.group.number, lead.channel
