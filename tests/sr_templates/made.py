"""Small sources of each kind, and the results encoded from them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from pydicom import Dataset, examples
from pydicom.uid import (
    EnhancedMRImageStorage,
    MRImageStorage,
    TwelveLeadECGWaveformStorage,
)

from node.domain import Role
from node.encode.objects import encode, encode_could_not_look
from node.encode.work import Encoded, Work
from node.load.source import Source
from node.uids import derived_uid
from pipelines import codes
from pipelines.contract import (
    Channel,
    Code,
    Finding,
    Graphic,
    Grid,
    Measurement,
    Model,
    MultiplexGroup,
    Presence,
    Region,
    Result,
    Segment,
    Volume,
    Waveform,
    WaveformSpan,
)
from pipelines.shape import measure

SHAPE = (12, 20, 16)
SPACING_MM = (2.5, 0.8, 0.9)
AXES = {
    "axial": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "sagittal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    "oblique": (
        (0.0, -math.sin(0.3), math.cos(0.3)),
        (0.0, math.cos(0.3), math.sin(0.3)),
        (1.0, 0.0, 0.0),
    ),
}
MODEL = Model(
    name="phantom-net",
    version="2.1",
    maker="Someone",
    weights_sha256="a" * 64,
    trained_on="synthetic spheres",
    citation="A model card",
)
FOR_PEOPLE = frozenset({Role.SEG, Role.SR, Role.VIEWER_SR, Role.TEXT_SR})
ATRIAL_FIBRILLATION = Code("49436004", "SCT", "Atrial Fibrillation")


def work(report="measurement_report", **changes) -> Work:
    base = Work(
        job_id="job",
        uid_parts=("1.2.3", "digest", "pipeline", "1.0.0", "model"),
        pipeline="phantom",
        pipeline_version="1.0.0",
        title="Brain volume",
        report=report,
        model=MODEL,
        parameters={"threshold": "0.5"},
        analysed_at=datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC),
        software_version="0.1.0",
    )
    return replace(base, **changes)


def identity() -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.PatientName = "Müller^Änne"
    header.PatientID = "P-1"
    header.IssuerOfPatientID = "Ward"
    header.PatientBirthDate = "19600101"
    header.PatientSex = "F"
    header.PatientAge = "066Y"
    header.StudyInstanceUID = derived_uid("test", "study")
    header.StudyDate, header.StudyTime = "20260301", "120000"
    header.StudyID, header.AccessionNumber = "7", "A-9"
    header.ReferringPhysicianName = ""
    header.StudyDescription = "Kopf"
    header.SeriesInstanceUID = derived_uid("test", "series")
    header.SeriesNumber = 4
    header.InstanceNumber = 1
    header.Manufacturer = "Scanner"
    return header


def grid(plane="axial") -> Grid:
    return Grid(SHAPE, (-7.0, -8.0, 31.0), AXES[plane], SPACING_MM)


def _position(of: Grid, k: int) -> list[float]:
    return [round(float(value), 6) for value in (of.affine @ [k, 0, 0, 1])[:3]]


def _orientation(of: Grid) -> list[float]:
    return [round(value, 9) for value in (*of.axes[2], *of.axes[1])]


def classic(plane="axial") -> Source:
    of = grid(plane)
    instances = []
    for k in range(SHAPE[0]):
        header = identity()
        header.SOPClassUID = MRImageStorage
        header.SOPInstanceUID = derived_uid("test", plane, str(k))
        header.Modality = "MR"
        header.ScanningSequence, header.SequenceVariant = "GR", "SP"
        header.FrameOfReferenceUID = derived_uid("test", "frame of reference")
        header.PositionReferenceIndicator = ""
        header.Rows, header.Columns = SHAPE[1:]
        header.ImageOrientationPatient = _orientation(of)
        header.ImagePositionPatient = _position(of, k)
        header.PixelSpacing = list(SPACING_MM[1:])
        header.SliceThickness = 2.0
        instances.append(header)
    return Source(_volume(of), tuple(instances))


def multiframe() -> Source:
    """An Enhanced MR whose frames are stored in another order than slices lie."""
    of = grid()
    header = classic().instances[0]
    for keyword in (
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "PixelSpacing",
        "SliceThickness",
    ):
        del header[keyword]
    header.SOPClassUID = EnhancedMRImageStorage
    header.SOPInstanceUID = derived_uid("test", "enhanced")
    header.ApplicableSafetyStandardAgency = "IEC"
    header.NumberOfFrames = SHAPE[0]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = list(SPACING_MM[1:])
    measures.SliceThickness = 2.0
    orientation.ImageOrientationPatient = _orientation(of)
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    header.SharedFunctionalGroupsSequence = [shared]
    frame_of_slice = [*range(2, SHAPE[0] + 1, 2), *range(1, SHAPE[0] + 1, 2)]
    header.PerFrameFunctionalGroupsSequence = []
    for frame in range(1, SHAPE[0] + 1):
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = _position(of, frame_of_slice.index(frame))
        groups.PlanePositionSequence = [position]
        header.PerFrameFunctionalGroupsSequence.append(groups)
    return Source(_volume(of), (header,), tuple(frame_of_slice))


def _volume(of: Grid) -> Volume:
    return Volume(np.zeros(of.shape, np.float32), of)


def ecg() -> Source:
    """The 12-lead ECG that pydicom ships, its identity made complete."""
    instance = examples.waveform
    group = instance.WaveformSequence[0]
    channels = tuple(
        Channel(
            Code(
                definition.ChannelSourceSequence[0].CodeValue,
                definition.ChannelSourceSequence[0].CodingSchemeDesignator,
                definition.ChannelSourceSequence[0].CodeMeaning,
            ),
            "",
            "uV",
        )
        for definition in group.ChannelDefinitionSequence
    )
    samples = np.zeros((len(channels), group.NumberOfWaveformSamples), np.float32)
    multiplex = MultiplexGroup(1, float(group.SamplingFrequency), channels, samples)
    header = Dataset()
    header.update({one.tag: one for one in instance if one.tag.group != 0x5400})
    assert header.SOPClassUID == TwelveLeadECGWaveformStorage
    return Source(Waveform((multiplex,)), (header,))


def mask(low=4, high=8) -> np.ndarray:
    """A block that differs in every slice, so that a wrong order shows."""
    block = np.zeros(SHAPE, bool)
    for k in range(low, high):
        block[k, 3 : 5 + k, 2:9] = True
    return block


def millilitres(block: np.ndarray) -> float:
    return float(block.sum()) * math.prod(SPACING_MM) / 1000.0


def outlined(count=1) -> Result:
    blocks = [mask(), mask(6, 11)][:count]
    labels = ["Brain", "Nodule"]
    return Result(
        findings=tuple(
            Finding(
                codes.BRAIN,
                category=codes.ANATOMICAL_STRUCTURE,
                site=codes.BRAIN,
                laterality=codes.LEFT,
                confidence=0.9321,
                segment=label,
                measurements=(
                    Measurement(codes.VOLUME, millilitres(block), "mL", lowest=0.1, highest=9.0),
                ),
            )
            for label, block in zip(labels, blocks, strict=False)
        ),
        segments=tuple(
            Segment(label, codes.TISSUE, codes.BRAIN, block)
            for label, block in zip(labels, blocks, strict=False)
        ),
        notes=("A note for the reader.",),
    )


def lesion(source: Source) -> Result:
    """One lesion, measured, and an organ that no finding mentions."""
    assert isinstance(source.study, Volume)
    study = replace(source.study, attributes={"Modality": "CT"})
    nodule = Finding(
        codes.NODULE,
        category=codes.MORPHOLOGICALLY_ABNORMAL,
        site=codes.LUNG,
        laterality=codes.LEFT,
        confidence=0.93,
        segment="Nodule 1",
        measurements=measure(mask(), study),
    )
    segments = (
        Segment("Nodule 1", codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask()),
        Segment("Lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, mask(2, 11)),
    )
    return Result((nodule,), segments, ("A note for the reader.",))


def drawn() -> Result:
    """Findings that are drawn on images, one on two, and one that is absent."""
    regions = (
        Region(3, Graphic.CIRCLE, ((5.0, 6.5), (8.0, 6.5))),
        Region(5, Graphic.POINT, ((5.0, 6.0),)),
    )
    outline = ((2.0, 3.0), (6.0, 3.0), (6.0, 9.0), (2.0, 3.0))
    return Result(
        (
            Finding(
                codes.OPACITY,
                category=codes.MORPHOLOGICALLY_ABNORMAL,
                confidence=0.7,
                regions=regions,
                measurements=(Measurement(Code("81827009", "SCT", "Diameter"), 5.4, "mm"),),
            ),
            Finding(codes.NODULE, regions=(Region(0, Graphic.POLYLINE, outline),)),
            Finding(codes.HAEMORRHAGE, Presence.ABSENT, confidence=0.98),
        )
    )


def rhythm(presence=Presence.PRESENT) -> Result:
    spans = tuple(WaveformSpan(1, 2, start, start + 2.0) for start in (0.0, 5.0))
    return Result(
        findings=(
            Finding(
                ATRIAL_FIBRILLATION,
                presence=presence,
                confidence=0.87,
                spans=spans,
                measurements=(
                    Measurement(Code("8867-4", "LN", "Heart rate"), 112.0, "/min"),
                    Measurement(Code("2:7936", "MDC", "QRS duration per lead"), 94.0, "ms"),
                ),
            ),
        )
    )


def everything() -> dict[str, tuple[Source, tuple[Encoded, ...]]]:
    """Return every kind of result, with its source."""
    axial, sagittal, enhanced, tracing = classic(), classic("sagittal"), multiframe(), ecg()
    made = {
        "one-segment": (axial, encode(axial, outlined(), work())),
        "two-segments": (axial, encode(axial, outlined(2), work())),
        "sagittal": (sagittal, encode(sagittal, outlined(2), work())),
        "enhanced": (enhanced, encode(enhanced, outlined(2), work())),
        "lesion": (axial, encode(axial, lesion(axial), work(roles=FOR_PEOPLE))),
        "lesion-enhanced": (enhanced, encode(enhanced, lesion(enhanced), work(roles=FOR_PEOPLE))),
        "drawn": (axial, encode(axial, drawn(), work(roles=FOR_PEOPLE))),
        "drawn-enhanced": (enhanced, encode(enhanced, drawn(), work(roles=FOR_PEOPLE))),
        "nothing": (axial, encode(axial, Result(), work(roles=FOR_PEOPLE))),
        "absent": (
            axial,
            encode(axial, Result((Finding(codes.HAEMORRHAGE, Presence.ABSENT),)), work()),
        ),
        "could-not-look": (
            axial,
            encode_could_not_look(axial.instances, "Slices are missing.", work()),
        ),
        "ecg-could-not-look": (
            tracing,
            encode_could_not_look(tracing.instances, "Too noisy.", work("ecg_report")),
        ),
    }
    for presence in Presence:
        made[f"ecg-{presence.value}"] = (
            tracing,
            encode(tracing, rhythm(presence), work("ecg_report", roles=FOR_PEOPLE)),
        )
    made["ecg-nothing"] = (tracing, encode(tracing, Result(), work("ecg_report")))
    return made
