"""A chest CT and an ultrasound clip, what was found on them, and what is sent of that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydicom.uid import CTImageStorage, UltrasoundMultiFrameImageStorage

from node.domain import Role
from node.encode.document import encode_document
from node.encode.key_objects import encode_key_objects, encode_rejection_note
from node.encode.work import Encoded
from node.load.source import Source
from node.uids import derived_uid
from pipelines import codes
from pipelines.contract import (
    Code,
    Finding,
    Graphic,
    Images,
    Measurement,
    Presence,
    Region,
    Result,
    Segment,
)
from sr_templates.chest_cad_report import chest_cad_report
from sr_templates.echo_report import echo_report
from sr_templates.report import Subject
from tests.sr_templates import made

EMBOLISM = Code("59282003", "SCT", "Pulmonary embolism")
UPPER_LOBE = Code("45653009", "SCT", "Upper lobe of lung")
LEFT_VENTRICLE = Code("87878005", "SCT", "Left ventricle")
EJECTION_FRACTION = Code("79991-6", "LN", "Left ventricular ejection fraction biplane (MOD)")
END_DIASTOLIC_VOLUME = Code("18026-5", "LN", "Left Ventricular End Diastolic Volume")
END_SYSTOLIC_VOLUME = Code("18148-7", "LN", "Left Ventricular End Systolic Volume")
HEART_RATE = Code("8867-4", "LN", "Heart rate")
FRAMES = (5, 24, 32)
"""Frames, rows and columns of the clip."""


def chest_ct() -> Source:
    source = made.classic()
    for header in source.instances:
        header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    return source


def clip() -> Source:
    header = made.identity()
    header.SOPClassUID, header.Modality = UltrasoundMultiFrameImageStorage, "US"
    header.SOPInstanceUID = derived_uid("test", "clip")
    header.NumberOfFrames, header.Rows, header.Columns = FRAMES
    study = Images(np.zeros(FRAMES, np.float32), times_s=(0.0, 0.1, 0.2, 0.3, 0.4))
    return Source(study, (header,), tuple(range(1, FRAMES[0] + 1)))


def nodules() -> Result:
    """One outlined, one drawn as a circle on two slices, one with no place; and what is not."""
    circles = tuple(Region(k, Graphic.CIRCLE, ((6.0, 7.0), (8.0, 7.0))) for k in (2, 3))
    return Result(
        findings=(
            Finding(
                codes.NODULE,
                category=codes.MORPHOLOGICALLY_ABNORMAL,
                site=UPPER_LOBE,
                laterality=codes.LEFT,
                confidence=0.93,
                segment="Nodule 1",
                measurements=(
                    Measurement(codes.VOLUME, made.millilitres(made.mask()), "mL", lowest=0.1),
                    Measurement(
                        codes.ATTENUATION_COEFFICIENT, 41.0, "[hnsf'U]", derivation=codes.MEAN
                    ),
                ),
            ),
            Finding(codes.NODULE, Presence.INDETERMINATE, confidence=0.4, regions=circles),
            Finding(codes.HAEMORRHAGE, confidence=0.7),
            Finding(EMBOLISM, Presence.ABSENT, confidence=0.99),
            Finding(codes.LUNG, segment="Lung", normal=True),
        ),
        segments=(
            Segment("Nodule 1", codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, made.mask()),
            Segment("Lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, made.mask(0, 12)),
        ),
    )


def ventricle() -> Result:
    """An ejection fraction of an outlined ventricle, and a rate of the whole clip."""
    mask = np.zeros(FRAMES, bool)
    mask[1, 4:20, 6:20] = mask[3, 6:16, 8:18] = True
    contour = ((6.0, 4.0), (20.0, 4.0), (20.0, 20.0), (6.0, 20.0), (6.0, 4.0))
    return Result(
        findings=(
            Finding(
                LEFT_VENTRICLE,
                site=LEFT_VENTRICLE,
                confidence=0.88,
                segment="Left ventricle",
                measurements=(
                    Measurement(EJECTION_FRACTION, 57.0, "%", lowest=51.0, highest=63.0),
                    Measurement(END_SYSTOLIC_VOLUME, 48.0, "mL"),
                ),
            ),
            Finding(
                LEFT_VENTRICLE,
                regions=(Region(1, Graphic.POLYLINE, contour),),
                measurements=(Measurement(END_DIASTOLIC_VOLUME, 112.0, "mL"),),
            ),
            Finding(codes.HEART, measurements=(Measurement(HEART_RATE, 72.0, "/min"),)),
        ),
        segments=(Segment("Left ventricle", codes.ANATOMICAL_STRUCTURE, LEFT_VENTRICLE, mask),),
    )


def subject(source: Source, kind="marked") -> Subject:
    work = work_on(kind)
    return Subject(
        source.instances,
        source.study,
        work.author,
        lambda label: work.uid(f"tracking-{label}"),
        frame_numbers=source.frame_numbers,
    )


def work_on(kind):
    """Return a job of its own for each kind of result, so that all of them fit in one PACS."""
    return made.work(uid_parts=("1.2.3", kind))


def cad(result: Result, source: Source | None = None, kind="marked"):
    source = source or chest_ct()
    report = chest_cad_report(subject(source, kind), result)
    return encode_document(report, source.instances, (), work_on(kind), Role.CAD_SR)


def echo(result: Result, kind="marked"):
    source = clip()
    report = echo_report(subject(source, kind), result)
    return encode_document(report, source.instances, (), work_on(kind), Role.SR)


def key_objects(source: Source, result: Result, kind="marked"):
    return encode_key_objects(source, result, work_on(kind))


def multiframe_nodules() -> Result:
    return replace(nodules(), findings=nodules().findings[:2])


def everything() -> dict[str, tuple[Encoded, ...]]:
    """Return every kind of object that this module is about."""
    axial, enhanced = made.classic(), made.multiframe()
    superseded = [one.dataset for one in made.encode(axial, made.outlined(), made.work())]
    note = encode_rejection_note(axial.instances, superseded, work_on("superseded"))
    few = multiframe_nodules()
    return {
        "echo": (
            Encoded(Role.SR, echo(ventricle(), "echo")),
            Encoded(Role.KO, key_objects(clip(), ventricle(), "echo")),
        ),
        "echo-nothing": (Encoded(Role.SR, echo(Result(), "echo-nothing")),),
        "chest": (
            Encoded(Role.CAD_SR, cad(nodules(), kind="chest")),
            Encoded(Role.KO, key_objects(chest_ct(), nodules(), "chest")),
        ),
        "chest-nothing": (Encoded(Role.CAD_SR, cad(Result(), kind="chest-nothing")),),
        "chest-multiframe": (
            Encoded(Role.CAD_SR, cad(few, enhanced, "chest-multiframe")),
            Encoded(Role.KO, key_objects(enhanced, few, "chest-multiframe")),
        ),
        "superseded": (Encoded(Role.REJECTION, note),),
    }
