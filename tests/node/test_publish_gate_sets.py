"""A whole result, an object of every kind: the defects of each, and contradictions among them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from node.domain import Role
from node.encode.objects import encode, encode_could_not_look
from node.publish_gate import verify
from pipelines.codes import VOLUME
from pipelines.contract import Code, ParametricMap, Presence, Result
from sr_templates import codes, items
from sr_templates.tree import children_named, is_named, walk
from tests.node.tampering import (
    OTHER_UID,
    coordinates,
    first,
    frames,
    groups,
    problems_of,
    read_back,
    reference,
    set_to,
    shared,
)
from tests.sr_templates import made, marked

EVERYTHING = frozenset(Role)
PROBABILITY = Code("122157", "DCM", "Probability")


def one_nodule() -> Result:
    """A nodule with an outline and a map, another with a circle, and what is not there."""
    values = np.linspace(0.0, 1.0, np.prod(made.SHAPE), dtype=np.float32).reshape(made.SHAPE)
    result = marked.nodules()
    nodule, drawn, *others, _ = result.findings
    return replace(
        result,
        findings=(nodule, replace(drawn, presence=Presence.PRESENT), *others),
        segments=result.segments[:1],
        maps=(ParametricMap("Probability", PROBABILITY, "1", values),),
    )


def result_of(source, result, folder, **changes):
    earlier = encode(source, result, made.work(uid_parts=("earlier",), roles=EVERYTHING, **changes))
    superseded = {str(one.role): one.dataset for one in earlier}
    work = made.work(
        roles=EVERYTHING, superseded=superseded, rejected=tuple(superseded.values()), **changes
    )
    objects = read_back(encode(source, result, work), folder)
    return objects, source.instances, tuple(superseded.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The objects of one result by role, its sources, and what it supersedes."""
    return result_of(marked.chest_ct(), one_nodule(), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def spoil(whole):
    """Return what the gate says of the result after a change to the object of one role."""

    def said_of(role, change):
        objects, sources, superseded = whole
        objects = {**objects, role: deepcopy(objects[role])}
        change(objects[role])
        return " ".join(problems_of(objects.values(), sources, superseded))

    return said_of


def measured(node, name=VOLUME):
    return first(node, name).MeasuredValueSequence[0]


def answer(report, name):
    return next(
        item for item in walk(report) if is_named(item, name) and item.get("ValueType") == "CODE"
    )


def graphic(state):
    return state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]


def graphic_image(state):
    return state.GraphicAnnotationSequence[0].ReferencedImageSequence[0]


def draw_beyond(item):
    item.GraphicData = [1000.0, *item.GraphicData[1:]]


def make_infinite(a_map):
    a_map.FloatPixelData = np.array(np.inf, "<f4").tobytes() + a_map.FloatPixelData[4:]


def relabel(labelmap):
    labelmap.PixelData = labelmap.PixelData.replace(b"\1", b"\2", 1)


def swap_two(a_map):
    one, other = frames(a_map)[1], frames(a_map)[7]
    one.PlanePositionSequence, other.PlanePositionSequence = (
        other.PlanePositionSequence,
        one.PlanePositionSequence,
    )


def undraw(report):
    for item in walk(groups(report)[0]):
        item.ContentSequence = [
            child
            for child in item.get("ContentSequence") or ()
            if child.get("ValueType") != "SCOORD"
        ]
    group = groups(report)[0]
    group.ContentSequence = [
        child for child in group.ContentSequence if child.get("ValueType") != "SCOORD"
    ]


def track_alike(report):
    one, other = (children_named(group, codes.TRACKING_UID)[0] for group in groups(report)[:2])
    other.UID = one.UID


def refer_to(uid):
    def change(selection):
        reference = next(
            item.ReferencedSOPSequence[0]
            for item in walk(selection)
            if item.get("ReferencedSOPSequence")
        )
        reference.ReferencedSOPInstanceUID = uid

    return change


DEFECTS = {
    ("labelmap", "is no label map"): set_to("SegmentationType", "BINARY"),
    ("labelmap", "voxels of a segment that does not exist"): relabel,
    ("labelmap", "other voxels in the label map"): relabel,
    ("labelmap", "cannot be counted"): lambda one: setattr(one, "PixelData", one.PixelData[:-2]),
    ("labelmap-sr", "The report refers to segment 4, which does not exist"): lambda one: setattr(
        reference(one, codes.REFERENCED_SEGMENT), "ReferencedSegmentNumber", 4
    ),
    ("map", "The parametric map has another frame of reference"): set_to(
        "FrameOfReferenceUID", OTHER_UID
    ),
    ("map", "values that are not finite numbers"): make_infinite,
    ("map", "not as long as its frames need"): lambda one: setattr(
        one, "FloatPixelData", one.FloatPixelData[:-4]
    ),
    ("map", "2 frames that are not where their image is"): swap_two,
    ("map", "in which unit"): lambda one: shared(one, "RealWorldValueMappingSequence").pop(
        "MeasurementUnitsCodeSequence"
    ),
    ("viewer-sr", "1 groups without coordinates"): undraw,
    ("viewer-sr", "two groups of one tracking UID"): track_alike,
    ("viewer-sr", "reaches beyond its image"): lambda one: draw_beyond(coordinates(one)[0]),
    ("viewer-sr", "on an image that was not analysed"): lambda one: setattr(
        coordinates(one)[0].ContentSequence[0].ReferencedSOPSequence[0],
        "ReferencedSOPInstanceUID",
        OTHER_UID,
    ),
    ("viewer-sr", "does not say on which image"): lambda one: coordinates(one)[0].pop(
        "ContentSequence"
    ),
    ("viewer-sr", "mL for segment 1; its voxels make"): lambda one: setattr(
        measured(one), "NumericValue", "3"
    ),
    ("viewer-sr", "The reports give different values for 'Certainty of Finding'"): lambda one: (
        setattr(measured(one, codes.CERTAINTY_OF_FINDING), "NumericValue", "12")
    ),
    ("text-sr", "gives a volume of 3 mL, which no segment has"): lambda one: setattr(
        measured(one), "NumericValue", "3"
    ),
    ("text-sr", "Two reports contradict each other on 'Pulmonary"): lambda one: setattr(
        answer(one, marked.EMBOLISM), "ConceptCodeSequence", [items.concept(codes.PRESENT)]
    ),
    ("cad-sr", "mL for segment 1; its voxels make"): lambda one: setattr(
        measured(one), "NumericValue", "3"
    ),
    ("comprehensive-sr", "mL for segment 1; its voxels make"): lambda one: setattr(
        measured(one), "NumericValue", "3"
    ),
    ("comprehensive-sr", "The viewer report has 3 groups without coordinates"): lambda one: groups(
        one
    )[0].ContentSequence.pop(),
    ("gsps", "The presentation state has a region that reaches beyond"): lambda one: draw_beyond(
        graphic(one)
    ),
    ("gsps", "not images of the source"): lambda one: setattr(
        graphic_image(one), "ReferencedSOPInstanceUID", OTHER_UID
    ),
    ("gsps", "does not name the images"): lambda one: one.pop("ReferencedSeriesSequence"),
    ("ko", "The key object selection refers to 1 instances that are not images"): refer_to(
        OTHER_UID
    ),
    ("ko", "lists no evidence"): lambda one: one.pop("CurrentRequestedProcedureEvidenceSequence"),
    ("rejection", "The rejection note refers to 1 instances that are not superseded"): refer_to(
        marked.chest_ct().instances[0].SOPInstanceUID
    ),
    ("sc", "whether anything of the patient is burned in"): set_to("BurnedInAnnotation", ""),
    ("sc", "not in colour"): set_to("PhotometricInterpretation", "MONOCHROME2"),
    ("sc", "by the wrong SOP class"): lambda one: setattr(
        one.SourceImageSequence[0], "ReferencedSOPClassUID", SecondaryCaptureImageStorage
    ),
    ("pdf", "whether anything of the patient is burned in"): lambda one: one.pop(
        "BurnedInAnnotation"
    ),
    ("pdf", "holds no whole PDF"): lambda one: setattr(
        one, "EncapsulatedDocument", one.EncapsulatedDocument[:-2000]
    ),
    ("pdf", "The PDF has another patient ID than its source"): set_to("PatientID", "P-2"),
}


def test_a_result_has_an_object_of_every_kind_and_passes(whole):
    objects, sources, superseded = whole
    # Derived images have a test of their own (test_encode_derived_images).
    assert set(objects) == {str(role) for role in Role} - {Role.IMAGES}
    verify([*objects.values()], sources, superseded)


@pytest.mark.parametrize(("role", "defect"), DEFECTS)
def test_a_defect_of_each_kind_is_named(spoil, role, defect):
    assert defect in spoil(role, DEFECTS[role, defect])


def test_the_complete_report_may_mix_what_is_drawn_and_what_is_not(whole):
    drawn = {bool(coordinates(group)) for group in groups(whole[0]["sr"])}
    assert drawn == {True, False}


def test_nothing_found_in_one_report_is_nothing_found_in_all(whole):
    objects, sources, superseded = deepcopy(whole)
    words = next(item for item in walk(objects["text-sr"]) if is_named(item, codes.CONCLUSIONS))
    words.ContentSequence.append(
        items.code(codes.PROCESSING_SUMMARY, codes.SUCCEEDED_WITHOUT_FINDINGS)
    )
    said = problems_of(objects.values(), sources, superseded)
    assert "One report says that nothing was found, another that something is present." in said


def test_a_superseded_result_must_be_the_one_that_is_rejected(whole):
    objects, sources, _ = whole
    said = " ".join(problems_of(objects.values(), sources, ()))
    assert "instances that are not superseded" in said
    assert "The report names a predecessor that it does not supersede." in said


def test_a_page_that_names_the_patient_is_not_published(whole):
    objects, sources, superseded = deepcopy(whole)
    for one in (*objects.values(), *sources):
        one.PatientName = "Algorithm^Made"  # both words are on every page
    said = problems_of(objects.values(), sources, superseded)
    assert said == ("The PDF names the patient on its pages.",)


SOURCES = {
    "multi-frame": (made.multiframe, made.outlined, {}),
    "ultrasound clip": (marked.clip, marked.ventricle, {}),
    "echo": (marked.clip, marked.ventricle, {"report": "echo_report"}),
    "ECG": (made.ecg, made.rhythm, {"report": "ecg_report"}),
    "nothing found": (made.classic, Result, {}),
    "overlapping": (made.classic, lambda: made.outlined(2), {}),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_results_of_every_kind_of_source_pass(kind, tmp_path):
    source, result, changes = SOURCES[kind]
    objects, sources, superseded = result_of(source(), result(), tmp_path, **changes)
    verify([*objects.values()], sources, superseded)


def test_what_says_that_nothing_was_judged_passes(tmp_path):
    source, work = made.classic(), made.work(roles=EVERYTHING)
    objects = read_back(encode_could_not_look(source.instances, "Too few.", work), tmp_path)
    verify([*objects.values()], source.instances)


def test_frames_of_a_clip_are_told_by_their_numbers(tmp_path):
    objects, sources, superseded = result_of(marked.clip(), marked.ventricle(), tmp_path)
    (image,) = frames(objects["seg"])[1].DerivationImageSequence[0].SourceImageSequence
    image.ReferencedFrameNumber = 9
    said = " ".join(problems_of(objects.values(), sources, superseded))
    assert "The segmentation refers to a frame that its image does not have." in said
    image.ReferencedFrameNumber = 1
    said = " ".join(problems_of(objects.values(), sources, superseded))
    assert "two frames of one segment on the same image" in said
