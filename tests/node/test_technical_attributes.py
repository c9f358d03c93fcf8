"""What a pipeline learns of a radiograph and a clip besides their pixels: codes and regions."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from node.load.headers import technical_attributes
from tests.peers.made_images import item

REGION = {
    "RegionSpatialFormat": 1,
    "RegionDataType": 2,
    "RegionLocationMinX0": 10,
    "RegionLocationMinY0": 20,
    "RegionLocationMaxX1": 300,
    "RegionLocationMaxY1": 200,
}


def header(**attributes) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_a_code_is_told_as_value_and_scheme_without_its_words():
    coded = item(CodeValue="56459004", CodingSchemeDesignator="SCT", CodeMeaning="Fuß von Meier")
    said = technical_attributes([header(AnatomicRegionSequence=coded, ViewCodeSequence=coded)])
    assert said == {
        "AnatomicRegionSequence": "56459004\\SCT",
        "ViewCodeSequence": "56459004\\SCT",
    }


def test_ultrasound_regions_are_told_with_their_kind_and_place():
    two = item(**REGION) + item(**{**REGION, "RegionDataType": 1})
    said = technical_attributes([header(SequenceOfUltrasoundRegions=two)])
    assert said["SequenceOfUltrasoundRegions"] == "1 2 10 20 300 200\\1 1 10 20 300 200"


@pytest.mark.parametrize(
    "damaged",
    [
        {"AnatomicRegionSequence": []},
        {"AnatomicRegionSequence": item(CodeMeaning="Foot")},
        {"SequenceOfUltrasoundRegions": []},
        {"SequenceOfUltrasoundRegions": item(RegionSpatialFormat=1)},
    ],
)
def test_what_is_damaged_is_left_out_and_stops_nothing(damaged):
    assert technical_attributes([header(Modality="US", **damaged)]) == {"Modality": "US"}
