"""What every object of a result owes its source: identity, references, author, codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.part10 import once_read, tag_of, uid_of
from node.profiles import IMAGE_CLASSES
from sr_templates import codes
from sr_templates.code_table import problem_with
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydicom import Dataset

    from node.gate.contents import Contents, Reference

_IDENTITY = {
    "PatientID": "patient ID",
    "PatientName": "patient name",
    "PatientBirthDate": "birth date",
    "PatientSex": "sex",
    "IssuerOfPatientID": "issuer of the patient ID",
    "StudyInstanceUID": "study",
    "AccessionNumber": "accession number",
}

_CLASS, _INSTANCE, _SERIES, _FRAMES = map(
    tag_of, ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "NumberOfFrames")
)

_MAKER = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID")


@dataclass(frozen=True)
class Known:
    """What an object may refer to.

    Attributes:
        classes: SOP Instance UID -> SOP class.
        frames: SOP Instance UID -> how many it has, of those that have more than one.
        series: UIDs of the series that the instances are in.
    """

    classes: Mapping[str, str]
    frames: Mapping[str, int]
    series: frozenset[str]

    def __or__(self, other: Known) -> Known:
        """Return what is in one of them."""
        return Known(
            {**self.classes, **other.classes},
            {**self.frames, **other.frames},
            self.series | other.series,
        )


def known_of(instances: Iterable[Dataset]) -> Known:
    """Return instances as what may be referred to."""
    classes, frames, series = {}, {}, set()
    for one in instances:
        uid = uid_of(one.get_item(_INSTANCE))
        classes[uid] = uid_of(one.get_item(_CLASS))
        series.add(uid_of(one.get_item(_SERIES)))
        if _FRAMES in one:
            frames[uid] = int(one[_FRAMES].value or 1)
    return Known(classes, frames, frozenset(series))


def identity_of(sources: Sequence[Dataset]) -> Mapping[str, set[str]]:
    """Return keyword -> all that the sources say of whose they are."""
    return {keyword: _texts(sources, keyword) for keyword in _IDENTITY}


def uid_problems(objects: Sequence[Dataset], sources: Known) -> Iterator[str]:
    """Yield sentences on UIDs that are not new, or not each object's own."""
    instances = [str(one.SOPInstanceUID) for one in objects]
    for what, own, theirs in (
        ("instance", instances, sources.classes.keys()),
        ("series", [*_series(objects)], sources.series),
    ):
        if len(set(own)) < len(own):
            yield f"Two objects of the result have the same {what} UID."
        if theirs & set(own):
            yield f"An object of the result has the {what} UID of its source."


def _series(objects: Sequence[Dataset]) -> Iterator[str]:
    """Yield the series of each object; of derived images, which have one in common, once."""
    images = {str(one.SeriesInstanceUID) for one in objects if one.SOPClassUID in IMAGE_CLASSES}
    yield from images
    for one in objects:
        if one.SOPClassUID not in IMAGE_CLASSES:
            yield str(one.SeriesInstanceUID)


def identity_problems(result: Dataset, sources: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield how a result object differs from its source in whose it is, as predicates of it.

    Args:
        result: The object.
        sources: As ``identity_of`` returns it.
    """
    for keyword, what in _IDENTITY.items():
        theirs = sources[keyword]
        if len(theirs) > 1:
            yield f"was made from instances that differ in {what}"
        elif _text(result, keyword) not in theirs:
            yield f"has another {what} than its source"


def _texts(sources: Sequence[Dataset], keyword: str) -> set[str]:
    """Return what headers say here; of hundreds that say it in the same bytes one is parsed."""
    tag, texts, known = tag_of(keyword), set(), set()
    for source in sources:
        raw = once_read(source.get_item(tag)) if tag in source else None
        if raw is not None:
            said = (raw, str(source.original_character_set))
            if said in known:
                continue
            known.add(said)
        texts.add(_text(source, keyword))
    return texts


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip().rstrip("^=")


def reference_problems(
    result: Dataset,
    contents: Contents,
    known: Known,
    superseded: Known,
    what: str,
) -> Iterator[str]:
    """Yield what an object refers to and should not, as predicates of it.

    Args:
        result: The object.
        contents: What it refers to.
        known: What it may refer to.
        superseded: What it may name as its predecessor.
        what: ``known`` in words.
    """
    yield from _instance_problems(contents.references, known, what)
    if contents.series - known.series - {str(result.SeriesInstanceUID)}:
        yield f"refers to a series that is {what}"
    if any(_instance_problems(contents.predecessors, superseded, "")):
        yield "names a predecessor that it does not supersede"


def _instance_problems(references: Iterable[Reference], known: Known, what: str) -> Iterator[str]:
    classes, counts = known.classes, known.frames
    found = [one for one in references if one.sop_instance_uid in classes]
    unknown = {one.sop_instance_uid for one in references} - classes.keys()
    if unknown:
        yield f"refers to {len(unknown)} instances that are {what}"
    if any(one.sop_class_uid != classes[one.sop_instance_uid] for one in found):
        yield "refers to an instance by the wrong SOP class"
    if any(not 1 <= n <= counts.get(one.sop_instance_uid, 1) for one in found for n in one.frames):
        yield "refers to a frame that its image does not have"


def author_problems(result: Dataset) -> Iterator[str]:
    """Yield how an object fails to name its algorithm (IHE AIR 6.5.3.1), as predicates of it."""
    makers = _algorithms(result)
    if not makers:
        yield "does not name its algorithm among the contributing equipment"
    for maker in makers:
        for keyword in _MAKER:
            if not maker.get(keyword):
                yield f"names its algorithm without {keyword}"


def _algorithms(result: Dataset) -> list[Dataset]:
    """Return what an object says of each algorithm; not of a scanner, which images name, too."""
    return [
        equipment
        for equipment in result.get("ContributingEquipmentSequence") or ()
        if codes.PROCESSING_ALGORITHM
        in map(code_of, equipment.get("PurposeOfReferenceCodeSequence") or ())
    ]


def device_uid(result: Dataset) -> str:
    """Return the UID of the algorithm that an object names as its maker."""
    return " ".join(str(maker.get("DeviceUID", "")) for maker in _algorithms(result))


def code_problems(contents: Contents) -> Iterator[str]:
    """Yield what is wrong with the codes of an object, as sentences."""
    found = sorted(contents.codes, key=lambda code: (code.scheme, code.value, code.meaning))
    yield from filter(None, map(problem_with, found))
