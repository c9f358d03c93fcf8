"""Eighteen defects as other makers' results have had them: the gate stops every one.

The validators of the field get the same objects; what each of them says against which is written
to ``build/validators/seeded-defects.md``.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
from pydicom import dcmread

from node.domain import Role
from node.encode.objects import encode
from node.encode.write import write
from node.publish_gate import verify
from pipelines.codes import VOLUME
from sr_templates import codes
from tests.every_object import BROKEN
from tests.node import tampering as tamper
from tests.node.tampering import coordinates, first, frames, problems_of, reference, remove
from tests.peers import REPOSITORY, pixelmed, validators
from tests.peers.validators import is_report
from tests.sr_templates import made

TABLE = REPOSITORY / "build" / "validators" / "seeded-defects.md"
PROGRAMS = ("dciodvfy", "dsrdump", "tid1500reader", "segimage2itkimage")


def without_evidence_of_the_segmentation(objects):
    uid = objects["seg"].SOPInstanceUID
    tamper.evidence_without(objects["sr"], uid)


def with_odd_coordinates(objects):
    region = coordinates(objects["viewer-sr"])[0]
    region.GraphicData = region.GraphicData[:-1]


def with_another_meaning(objects):
    item = first(objects["sr"], codes.Code("126010", "DCM", ""))
    tamper.set_code(item, CodeMeaning="Imaging measurements")


def without_derivation(objects):
    for frame in frames(objects["seg"]):
        del frame.DerivationImageSequence


def in_another_frame_of_reference(objects):
    objects["seg"].FrameOfReferenceUID = tamper.OTHER_UID


DEFECTS = {
    "SR: a group without Tracking Unique Identifier": (
        lambda objects: remove(objects["sr"], codes.TRACKING_UID),
        "The report has a group with no Tracking Unique Identifier",
    ),
    "SR: no evidence": (
        lambda objects: objects["sr"].pop("CurrentRequestedProcedureEvidenceSequence"),
        "The report lists no evidence",
    ),
    "SR: evidence lacks the segmentation": (
        without_evidence_of_the_segmentation,
        "The report has evidence that lacks 1 of the instances that its content cites",
    ),
    "SR: a NUM without unit": (
        lambda objects: (
            first(objects["sr"], VOLUME)
            .MeasuredValueSequence[0]
            .pop("MeasurementUnitsCodeSequence")
        ),
        "The report has a measurement without a unit",
    ),
    "SR: Finding Site as TEXT": (
        lambda objects: tamper.say_in_words(objects["sr"]),
        "The report gives a finding site in words, not as a code",
    ),
    "SR: no Device Observer UID": (
        lambda objects: remove(objects["sr"], codes.DEVICE_OBSERVER_UID),
        "The report names no device as its observer",
    ),
    "SR: no Content Template Sequence": (
        lambda objects: objects["sr"].pop("ContentTemplateSequence"),
        "The report does not say which template it follows",
    ),
    "SR: another meaning of (126010, DCM)": (
        with_another_meaning,
        "'Imaging measurements') should mean 'Imaging Measurements'",
    ),
    "SR: an odd number of coordinates": (
        with_odd_coordinates,
        "The viewer report has a region with an odd number of coordinates",
    ),
    "SR: SCOORD3D in a Comprehensive SR": (
        lambda objects: tamper.groups(objects["viewer-sr"])[0].ContentSequence.append(
            tamper.in_3d()
        ),
        "The viewer report has spatial coordinates in 3D, which its SOP class does not allow",
    ),
    "SEG: no Derivation Image": (
        without_derivation,
        "The segmentation has 24 frames that do not say which image they belong to",
    ),
    "SEG: another Frame of Reference UID": (
        in_another_frame_of_reference,
        "The segmentation has another frame of reference than its source",
    ),
    "SEG: another Patient ID": (
        lambda objects: setattr(objects["seg"], "PatientID", "P-2"),
        "The segmentation has another patient ID than its source",
    ),
    "SR: Referenced Segment Number of no segment": (
        lambda objects: setattr(
            reference(objects["sr"], codes.REFERENCED_SEGMENT), "ReferencedSegmentNumber", 9
        ),
        "The report refers to segment 9, which does not exist",
    ),
    "SEG: another Number of Frames": (
        lambda objects: setattr(objects["seg"], "NumberOfFrames", 7),
        "The segmentation describes another number of frames than it has",
    ),
    "SEG: pixel data too short": (
        lambda objects: setattr(objects["seg"], "PixelData", objects["seg"].PixelData[:-4]),
        "The segmentation has pixel data that are not as long as its frames need",
    ),
    "SEG: no Referenced Series Sequence": (
        lambda objects: objects["seg"].pop("ReferencedSeriesSequence"),
        "The segmentation does not name the series it belongs to",
    ),
    "SEG: no Segment Algorithm Name": (
        lambda objects: objects["seg"].SegmentSequence[0].pop("SegmentAlgorithmName"),
        "The segmentation has a segment 1 without SegmentAlgorithmName",
    ),
}
"""Defect -> what plants it among the objects of a result, and what the gate must say."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The objects of a result by role, and its sources."""
    source = made.classic()
    roles = frozenset({Role.SEG, Role.SR, Role.VIEWER_SR})
    encoded = encode(source, made.outlined(2), made.work(roles=roles))
    return tamper.read_back(encoded, tmp_path_factory.mktemp("good")), source.instances


@pytest.fixture(scope="module")
def spoilt(good):
    """Defect -> the objects of the result with it."""
    result = {}
    for defect, (plant, _) in DEFECTS.items():
        result[defect] = deepcopy(good[0])
        plant(result[defect])
    return result


def test_there_are_eighteen_and_without_them_the_gate_is_open(good):
    assert len(DEFECTS) == 18
    objects, sources = good
    verify([*objects.values()], sources)


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_gate_stops_it_and_says_what_is_wrong(good, spoilt, defect):
    said = problems_of(spoilt[defect].values(), good[1])
    assert any(DEFECTS[defect][1] in sentence for sentence in said)


@pytest.mark.skipif(
    bool(validators.why_missing(*PROGRAMS) or pixelmed.why_missing()),
    reason=validators.why_missing(*PROGRAMS) or pixelmed.why_missing(),
)
def test_some_are_stopped_by_no_validator_of_the_field(good, spoilt, tmp_path_factory):
    caught = caught_by_others(good[0], spoilt, tmp_path_factory.mktemp("seeded") / BROKEN)
    names = list(next(iter(caught.values())))
    rows = [
        f"| {defect} | {' | '.join('yes' if found[name] else '-' for name in names)} | yes |"
        for defect, found in caught.items()
    ]
    totals = [sum(found[name] for found in caught.values()) for name in names]
    table = [
        f"| defect | {' | '.join(names)} | publish gate |",
        "|---|" + "---|" * (len(names) + 1),
        *rows,
        f"| of {len(rows)} | {' | '.join(map(str, totals))} | {len(rows)} |",
    ]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join(table) + "\n", encoding="utf-8")
    print("", *table, sep="\n")
    assert any(not any(found.values()) for found in caught.values())
    assert max(totals) < len(rows)


def caught_by_others(good, spoilt, folder):
    """Return defect -> validator -> whether it says anything against the object that has it."""
    folder.mkdir()
    files = {}
    for number, (defect, objects) in enumerate(spoilt.items()):
        ((role, dataset),) = [
            (role, dataset) for role, dataset in objects.items() if dataset != good[role]
        ]
        files[defect] = folder / f"{number}-{role}.dcm"
        write(dataset, files[defect])
    every = list(files.values())
    reports = [path for path in every if is_report(dcmread(path, stop_before_pixels=True))]
    found = {
        "dciodvfy": validators.dciodvfy(every),
        "dsrdump": validators.dsrdump(reports),
        "dcmqi": validators.report_reader(reports)
        | validators.segmentation_reader(set(every) - set(reports)),
        "PixelMed": pixelmed.pixelmed(reports),
    }
    return {
        defect: {name: bool(complaints.get(path)) for name, complaints in found.items()}
        for defect, path in files.items()
    }
