"""Other people's software reads everything this node makes, without an error."""

from __future__ import annotations

import pytest

from tests.peers import validators


def everything(files):
    return [path for roles in files.values() for path in roles.values()]


def reports_on_images(files):
    ecg_or_refusal = ("ecg", "could-not-look")
    return [
        roles[role]
        for kind, roles in files.items()
        for role in {"sr", "viewer-sr"} & set(roles)
        if not kind.startswith(ecg_or_refusal)
    ]


def segmentations(files):
    return [roles["seg"] for roles in files.values() if "seg" in roles]


def silent(complaints):
    assert complaints
    assert {path.name: said for path, said in complaints.items() if said} == {}


needs = pytest.mark.skipif


@needs(bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy"))
def test_dciodvfy_finds_no_error(files):
    silent(validators.dciodvfy(everything(files)))


@needs(bool(validators.why_missing("dsrdump")), reason=validators.why_missing("dsrdump"))
def test_dsrdump_reads_every_report(files):
    silent(validators.dsrdump(path for path in everything(files) if path.stem.endswith("sr")))


@needs(
    bool(validators.why_missing("segimage2itkimage")),
    reason=validators.why_missing("segimage2itkimage"),
)
def test_dcmqi_reads_every_segmentation(files):
    silent(validators.segmentation_reader(segmentations(files)))


@needs(
    bool(validators.why_missing("tid1500reader")), reason=validators.why_missing("tid1500reader")
)
def test_dcmqi_reads_every_measurement_report(files):
    silent(validators.report_reader(reports_on_images(files)))
