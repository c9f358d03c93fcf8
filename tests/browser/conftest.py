"""One PACS with DICOMweb, one OHIF, one browser; a study with its results in the PACS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from tests.browser import study
from tests.browser.viewer import Viewer, open_study
from tests.peers.ohif import ohif
from tests.peers.orthanc import orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The study and its results: ``image-K`` or role -> file."""
    return study.write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def ohif_url(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> Iterator[str]:
    """OHIF on a PACS that holds the study."""
    with orthanc(tmp_path_factory.mktemp("orthanc-web"), dicom_web=True) as pacs:
        for path in files.values():
            pacs.store(path.read_bytes())
        with ohif(pacs.http_port) as url:
            yield url


@pytest.fixture
def viewer(browser: BrowserContext, ohif_url: str, files: dict[str, Path]) -> Iterator[Viewer]:
    """The study, open; nothing may go wrong in the page."""
    opened = open_study(browser, ohif_url, str(dcmread(files["image-0"]).StudyInstanceUID))
    yield opened
    opened.page.close()
    assert opened.complaints == []
