"""What a recipe learns from: examples, whose patients are kept apart."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from pipelines.contract import Code, Study


@dataclass(frozen=True)
class Outline:
    """Where something is in the study of an example.

    Attributes:
        label: What a reader calls it.
        category: Segmented property category.
        property: What it is.
        mask: bool, shape of the study.
    """

    label: str
    category: Code
    property: Code
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """The pixels or samples of one example, with what is true of them."""

    study: Study
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class Example:
    """One thing to learn from. Its pixels are read when they are needed.

    Attributes:
        patient: Tells patients apart, and nothing else: a digest.
        digest: SHA-256 over its files (hex).
        read: Read it.
        labels: What is said of it: the concept, and whether it is there. The one concept of an
            example from a folder of its class is the folder's name.
    """

    patient: str
    digest: str
    read: Callable[[], Seen]
    labels: Mapping[str, bool]

    @property
    def stratum(self) -> str:
        """What is alike in both parts of a split."""
        return ", ".join(sorted(concept for concept, there in self.labels.items() if there))


class TooFewPatients(ValueError):
    """A split would leave a part without any patient."""


@dataclass(frozen=True)
class Split:
    """Which patients a network learns from, which choose its best weights, which judge it."""

    train: frozenset[str]
    validation: frozenset[str]
    test: frozenset[str]

    def of(self, examples: Iterable[Example], part: str) -> list[Example]:
        """Return the examples of ``train``, ``validation`` or ``test``."""
        patients: frozenset[str] = getattr(self, part)
        return [example for example in examples if example.patient in patients]


def split(
    examples: Sequence[Example], *, validation: float = 0.15, test: float = 0.15, seed: int = 0
) -> Split:
    """Part the patients, each stratum alike.

    The order within a stratum is that of digests of patient and seed, so that the same patients
    always fall into the same parts. Every part gets a patient of a stratum where it has three.

    Args:
        examples: With their patients and labels.
        validation: Share of the patients.
        test: Ditto.
        seed: Another one parts them otherwise.

    Raises:
        TooFewPatients: Fewer than three patients.
    """
    parts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for patients in _strata(examples, seed):
        held_out = {
            name: max(1, round(share * len(patients))) if share and len(patients) >= 3 else 0
            for name, share in (("test", test), ("validation", validation))
        }
        first = 0
        for name, count in held_out.items():
            parts[name] |= set(patients[first : first + count])
            first += count
        parts["train"] |= set(patients[first:])
    found = Split(*(frozenset(parts[name]) for name in ("train", "validation", "test")))
    if not found.train or (validation and not found.validation) or (test and not found.test):
        raise TooFewPatients(
            f"{len({example.patient for example in examples})} patients cannot be parted into "
            "training, validation and test with at least three alike."
        )
    return found


def folds(examples: Sequence[Example], count: int, *, seed: int = 0) -> tuple[Split, ...]:
    """Part the patients into ``count`` tests that share none; the rest of each is to learn from.

    As many folds as patients leave one patient out at a time. There is no validation part.

    Raises:
        TooFewPatients: Fewer patients than folds.
    """
    dealt = [patient for stratum in _strata(examples, seed) for patient in stratum]
    if not 2 <= count <= len(dealt):
        raise TooFewPatients(f"{len(dealt)} patients cannot be parted into {count} folds.")
    everyone = frozenset(dealt)
    tests = [frozenset(dealt[k::count]) for k in range(count)]
    return tuple(Split(everyone - one, frozenset(), one) for one in tests)


def _strata(examples: Sequence[Example], seed: int) -> list[list[str]]:
    """Return the patients of each stratum in the order of their digests.

    A patient with examples of several strata is of the rarest of them.
    """
    common = Counter(example.stratum for example in examples)
    strata_of: defaultdict[str, set[str]] = defaultdict(set)
    for example in examples:
        strata_of[example.patient].add(example.stratum)
    members: defaultdict[str, list[str]] = defaultdict(list)
    for patient, strata in strata_of.items():
        members[min(strata, key=lambda name: (common[name], name))].append(patient)
    return [
        sorted(members[name], key=lambda patient: _digest(f"{seed} {patient}"))
        for name in sorted(members)
    ]


def digest_of(examples: Iterable[Example]) -> str:
    """Return one digest (hex) for the data, whatever their order: files, patients and labels."""
    lines = (f"{e.digest} {e.patient} {sorted(e.labels.items())}" for e in examples)
    return _digest("\n".join(sorted(lines)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
