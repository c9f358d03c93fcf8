"""A map comes back at its place in the patient with its values, read by dcmqi."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from node.encode.parametric_map import encode_parametric_map
from node.encode.write import write
from pipelines.contract import Code, ParametricMap
from tests.node import shown
from tests.peers import validators
from tests.sr_templates import made

PROBABILITY = Code("122157", "DCM", "Probability")
SOURCES = {
    "axial": made.classic,
    "sagittal": lambda: made.classic("sagittal"),
    "oblique": lambda: made.classic("oblique"),
    "enhanced": made.multiframe,
}


def values_on(source) -> np.ndarray:
    """Different everywhere, so that a wrong order or axis shows."""
    shape = source.study.shape
    return np.linspace(-1.0, 1.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def map_of(source, number=1):
    a_map = ParametricMap("Where it looked", PROBABILITY, "1", values_on(source))
    return encode_parametric_map(source, a_map, number, made.work())


def float_frames(dataset) -> np.ndarray:
    shape = (dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.FloatPixelData, "<f4").reshape(shape)


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
def test_dciodvfy_finds_no_error_in_the_map_of_any_source(tmp_path):
    for kind, source in SOURCES.items():
        write(map_of(source()), tmp_path / f"{kind}.dcm")
    assert not any(validators.dciodvfy(tmp_path.iterdir()).values())


@pytest.mark.skipif(
    bool(validators.why_missing("paramap2itkimage")),
    reason=validators.why_missing("paramap2itkimage"),
)
@pytest.mark.parametrize("kind", SOURCES)
def test_dcmqi_reads_every_value_at_its_place_in_the_patient(kind, tmp_path):
    source = SOURCES[kind]()
    write(map_of(source), tmp_path / "map.dcm")
    reader = validators.program("paramap2itkimage") or ""
    arguments = ["--inputDICOM", tmp_path / "map.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"]
    subprocess.run([reader, *map(str, arguments)], check=True, capture_output=True)
    (path,) = tmp_path.glob("*.nrrd")
    theirs = SimpleITK.ReadImage(str(path))
    ours = values_on(source)
    for place in [(0, 0, 0), (11, 19, 15), (3, 7, 2), (8, 0, 14)]:
        point = (source.study.grid.affine @ [*place, 1.0])[:3]
        index = theirs.TransformPhysicalPointToIndex(point.tolist())
        assert theirs.GetPixel(*index) == pytest.approx(ours[place], abs=1e-6)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_frame_names_the_image_it_was_computed_from(kind):
    source = SOURCES[kind]()
    dataset = map_of(source)
    for frame, values in zip(
        dataset.PerFrameFunctionalGroupsSequence, float_frames(dataset), strict=True
    ):
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        if source.frame_numbers:
            index = source.frame_numbers.index(image.ReferencedFrameNumber)
        else:
            uids = [instance.SOPInstanceUID for instance in source.instances]
            index = uids.index(image.ReferencedSOPInstanceUID)
        place = (source.study.grid.affine @ [index, 0.0, 0.0, 1.0])[:3]
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, place, atol=1e-4)
        assert np.array_equal(values, values_on(source)[index])


@pytest.mark.parametrize("source", [shown.radiograph(), shown.clip(), made.ecg()])
def test_what_has_no_place_in_the_patient_has_no_map(source):
    a_map = ParametricMap("Map", PROBABILITY, "1", np.zeros((1, 2, 2), np.float32))
    assert encode_parametric_map(source, a_map, 1, made.work()) is None


def test_the_values_say_what_they_are_and_the_window_spans_them(tmp_path):
    write(map_of(made.classic()), tmp_path / "map.dcm")
    dataset = dcmread(tmp_path / "map.dcm")
    (shared,) = dataset.SharedFunctionalGroupsSequence
    (mapping,) = shared.RealWorldValueMappingSequence
    (quantity,) = mapping.QuantityDefinitionSequence
    assert quantity.ConceptCodeSequence[0].CodeValue == PROBABILITY.value
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.LUTExplanation == "Where it looked"
    (window,) = shared.FrameVOILUTSequence
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (0.0, 2.0)
    assert np.array_equal(dataset.pixel_array, values_on(made.classic()))


def test_a_second_map_is_an_object_and_a_series_of_its_own():
    first, second = map_of(made.classic()), map_of(made.classic(), 2)
    assert second.SOPInstanceUID == made.work().uid("map-2")
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert second.SeriesNumber == first.SeriesNumber + 1


def test_the_same_map_makes_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write(map_of(made.multiframe()), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_map_of_one_value_has_a_window():
    source = made.classic()
    flat = ParametricMap("Flat", PROBABILITY, "1", np.zeros(source.study.shape, np.float32))
    shared = encode_parametric_map(source, flat, 1, made.work()).SharedFunctionalGroupsSequence[0]
    assert float(shared.FrameVOILUTSequence[0].WindowWidth) > 0.0
