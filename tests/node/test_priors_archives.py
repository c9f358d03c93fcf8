"""Which archive is asked for earlier results: the one that the routes taken name, or none."""

from __future__ import annotations

import pytest
from pydicom import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.priors.archives import archive_for
from node.priors.patient import CannotAsk
from node.settings import DimseDestination, Route, Settings
from tests.node.earlier import installed
from tests.peers import spots


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("site")):
        yield


def pacs(ae_title):
    return DimseDestination(kind="dimse", ae_title=ae_title, host="127.0.0.1", port=1)


def node(*routes):
    """Settings of a node that serves hospitals, each with its archive."""
    return Settings(
        destinations={name: pacs(name.upper()) for name in ("north", "south", "pacs")},
        routes=tuple(
            Route(match=match, run=(spots.NAME,), send_to=("pacs",), priors_from=asked)
            for match, asked in routes
        ),
    )


def image(folder, **attributes):
    """A file of a series."""
    header = Dataset()
    header.Modality, header.ImageType = "CT", "ORIGINAL"
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, "1.2.3"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    path = folder / "image.dcm"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    FileDataset(path, header, file_meta=meta, preamble=bytes(128)).save_as(
        path, enforce_file_format=True
    )
    return (path,)


NORTH = ({"InstitutionName": "North"}, "north")
SOUTH = ({"InstitutionName": "South"}, "south")
ANY = ({"Modality": "CT"}, None)
FROM_ABROAD = ({"CallingAETitle": "ABROAD"}, "south")


@pytest.mark.parametrize(
    ("institution", "routes", "asked"),
    [
        ("North", (NORTH, SOUTH), "NORTH"),
        ("South", (NORTH, SOUTH), "SOUTH"),
        ("South", (NORTH, SOUTH, ANY), "SOUTH"),
        ("West", (NORTH, SOUTH, ANY), None),
        ("West", (ANY,), None),
        ("West", (NORTH, FROM_ABROAD), "SOUTH"),
    ],
)
def test_only_a_route_that_takes_the_series_names_its_archive(tmp_path, institution, routes, asked):
    files = image(tmp_path, InstitutionName=institution)
    found = archive_for(node(*routes), spots.NAME, files, ("ABROAD",))
    assert (found and found.ae_title) == asked


def test_two_archives_are_not_asked(tmp_path):
    files = image(tmp_path, InstitutionName="North")
    with pytest.raises(CannotAsk, match="more than one archive"):
        archive_for(node(NORTH, FROM_ABROAD), spots.NAME, files, ("ABROAD",))


def test_files_that_no_route_can_judge_fail_no_job(tmp_path):
    (tmp_path / "image.dcm").write_bytes(b"nothing")
    with pytest.raises(CannotAsk, match="which archive"):
        archive_for(node(NORTH), spots.NAME, (tmp_path / "image.dcm",), ())


@pytest.mark.parametrize("named", ["nowhere", "folder"])
def test_a_route_can_only_look_in_an_archive(named):
    with pytest.raises(ValueError, match=r"routes\[1\].priors_from is no destination"):
        Settings.model_validate(
            {
                "destinations": {"folder": {"kind": "folder", "path": "out"}},
                "routes": [{"run": ["spots-ct"], "priors_from": named}],
            }
        )
