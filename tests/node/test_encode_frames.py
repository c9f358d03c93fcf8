"""What is written fast is, attribute for attribute and voxel for voxel, what highdicom writes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from node.encode import segmentation
from node.encode.multiframe.frames import Frame, set_frames
from node.encode.segmentation import encode_segmentation
from node.encode.write import write
from pipelines import codes
from pipelines.contract import Segment
from sr_templates.items import concept
from tests.sr_templates import made

SOURCES = {
    "axial": made.classic,
    "sagittal": lambda: made.classic("sagittal"),
    "oblique": lambda: made.classic("oblique"),
}
COUNT = 5
OF_THE_NODE = {
    "ContentCreatorName",  # type 2, which highdicom leaves out
    "ContributingEquipmentSequence",
    "DimensionOrganizationUID",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "IssuerOfPatientID",
    "PatientAge",
    "SegmentSequence",
    "SeriesDescription",
    "SoftwareVersions",
    "StudyDescription",
}
"""Which ``identity`` and ``segments`` write, and their own tests look at."""


def segments() -> tuple[Segment, ...]:
    """Blobs that overlap, some slices without any."""
    random = np.random.default_rng(0)
    masks = random.random((COUNT, *made.SHAPE)) > 0.7
    masks[:, 7:9] = False
    masks[3, :5] = False
    return tuple(
        Segment(f"Organ {number}", codes.TISSUE, codes.BRAIN, mask)
        for number, mask in enumerate(masks, start=1)
    )


def by_highdicom(source, outlined, *, sparse: bool) -> Dataset:
    work = made.work()
    headers = list(source.instances)
    for header in headers:
        header.SpacingBetweenSlices = made.SPACING_MM[0]
    return hd.seg.Segmentation(
        source_images=headers,
        pixel_array=np.stack([one.mask for one in outlined], axis=-1),
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=one.label,
                segmented_property_category=concept(one.category),
                segmented_property_type=concept(one.property),
                algorithm_type="MANUAL",
            )
            for number, one in enumerate(outlined, start=1)
        ],
        series_instance_uid=work.uid("seg-series"),
        series_number=21004,
        sop_instance_uid=work.uid("seg"),
        instance_number=1,
        manufacturer="radnode",
        manufacturer_model_name=work.pipeline,
        software_versions="1",
        device_serial_number=work.model.weights_sha256,
        content_label="AI_SEGMENTATION",
        content_description=segmentation.NOT_FOR_DIAGNOSIS,
        specific_character_set="ISO_IR 192",
        omit_empty_frames=sparse,
    )


def flat(dataset, path=()):
    """Yield every attribute with its place and value, apart from the node's own."""
    for element in dataset:
        if element.keyword in OF_THE_NODE or element.keyword.endswith(("Date", "Time")):
            continue
        if element.VR == "SQ":
            yield (*path, element.keyword), len(element.value)
            for number, item in enumerate(element.value):
                yield from flat(item, (*path, element.keyword, number))
        else:
            yield (*path, element.keyword, element.VR), element.value


def written(dataset, folder):
    write(dataset, folder / "seg.dcm")
    return dcmread(folder / "seg.dcm")


@pytest.fixture(params=[True, False], ids=["sparse", "dense"])
def sparse(request, monkeypatch):
    monkeypatch.setattr(segmentation, "DENSE_FRAMES", 0 if request.param else 4000)
    return request.param


@pytest.mark.parametrize("kind", SOURCES)
def test_every_attribute_and_bit_is_that_of_highdicom(kind, sparse, tmp_path):
    source = SOURCES[kind]()
    ours = written(encode_segmentation(source, segments(), made.work()), tmp_path)
    theirs = written(by_highdicom(source, segments(), sparse=sparse), tmp_path)
    assert dict(flat(ours)) == dict(flat(theirs))


def test_highdicom_reads_every_mask_on_its_image(sparse, tmp_path):
    source, outlined = made.classic("oblique"), segments()
    write(encode_segmentation(source, outlined, made.work()), tmp_path / "seg.dcm")
    read = hd.seg.segread(tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_instance(
        [instance.SOPInstanceUID for instance in source.instances],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=sparse,
    )
    assert (pixels == np.stack([one.mask for one in outlined], axis=-1)).all()


def test_writing_does_not_decode_what_is_encoded():
    shown = [Frame(k, k + 1, segment) for segment in (1, 2) for k in range(made.SHAPE[0])]
    dataset = Dataset()
    set_frames(dataset, made.classic(), shown, "1.2.3")
    once = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert dataset.get_item("PerFrameFunctionalGroupsSequence").is_raw
    assert len(dataset.PerFrameFunctionalGroupsSequence) == dataset.NumberOfFrames == len(shown)
    assert encode(dataset, is_implicit_vr=False, is_little_endian=True) == once


@pytest.mark.parametrize("count", [1, COUNT])
def test_it_says_the_same_in_implicit_vr(count, tmp_path):
    dataset = encode_segmentation(made.classic(), segments()[:count], made.work())
    read = written(dataset, tmp_path)
    sent = encode(read, is_implicit_vr=True, is_little_endian=True)
    assert encode(dataset, is_implicit_vr=True, is_little_endian=True) == sent
    assert sent
    implicit = dcmread(BytesIO(sent), force=True)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    explicit = dcmread(tmp_path / "seg.dcm")
    implicit["PixelData"].VR = "OB"
    assert implicit == explicit


def test_a_segment_names_where_it_is_with_its_side():
    result = made.outlined(2)
    brain, nodule = result.findings
    findings = (brain, replace(nodule, site=codes.LUNG, laterality=codes.RIGHT))
    dataset = encode_segmentation(made.classic(), result.segments, made.work(), findings=findings)
    itself, inside = dataset.SegmentSequence
    (kind,) = itself.SegmentedPropertyTypeCodeSequence
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert itself.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == "7771000"
    (region,) = inside.AnatomicRegionSequence
    assert region.CodeMeaning == codes.LUNG.meaning
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Right"
    (kind,) = inside.SegmentedPropertyTypeCodeSequence
    assert "SegmentedPropertyTypeModifierCodeSequence" not in kind


def test_where_a_finding_names_no_site_its_segment_names_none():
    result = made.outlined()
    findings = tuple(replace(one, site=None, laterality=None) for one in result.findings)
    (item,) = encode_segmentation(
        made.classic(), result.segments, made.work(), findings=findings
    ).SegmentSequence
    assert "AnatomicRegionSequence" not in item
