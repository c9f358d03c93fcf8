"""Orthanc as the PACS: receives, keeps, confirms storage commitment, answers REST and DICOMweb."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from tests.peers import absent, accepts, free_port, require, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

AE_TITLE = "ORTHANC"
DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running server."""

    port: int
    http_port: int
    ae_title: str = AE_TITLE

    def register(self, ae_title: str, port: int) -> None:
        """Make an AE known: where commitment reports go, and who may query."""
        self._request("PUT", f"/modalities/{ae_title}", [ae_title, "127.0.0.1", port])

    def find(self, **attributes: str) -> tuple[str, ...]:
        """Return Orthanc's ids of the instances whose attributes match, by DICOM keyword."""
        found = json.loads(
            self._request("POST", "/tools/find", {"Level": "Instance", "Query": attributes})
        )
        return tuple(found)

    def count(self) -> int:
        """Return how many instances it holds."""
        return int(json.loads(self._request("GET", "/statistics"))["CountInstances"])

    def file(self, instance: str) -> bytes:
        """Return the Part 10 file of one instance, as stored."""
        return self._request("GET", f"/instances/{instance}/file")

    def datasets(self, **attributes: str) -> tuple[Dataset, ...]:
        """Return the instances whose attributes match."""
        return tuple(dcmread(BytesIO(self.file(i))) for i in self.find(**attributes))

    def store(self, file: bytes) -> None:
        """Take a Part 10 file."""
        self._request("POST", "/instances", file)

    def send(self, ae_title: str, instances: Sequence[str]) -> None:
        """Send instances to a registered AE, as auto-routing does; returns when it has them."""
        answer = json.loads(self._request("POST", f"/modalities/{ae_title}/store", list(instances)))
        assert answer["FailedInstancesCount"] == 0, answer

    def ask_for_commitment(self, ae_title: str, instances: Sequence[tuple[str, str]]) -> str:
        """Ask a registered AE to answer for instances (class, UID); return the transaction."""
        body = {"DicomInstances": list(instances)}
        asked = self._request("POST", f"/modalities/{ae_title}/storage-commitment", body)
        return str(json.loads(asked)["ID"])

    def commitment(self, transaction: str) -> dict[str, Any]:
        """Return what was answered: ``Status``, and ``Success`` and ``Failures`` once it was."""
        answer: dict[str, Any] = json.loads(
            self._request("GET", f"/storage-commitment/{transaction}")
        )
        return answer

    def clear(self) -> None:
        """Forget everything."""
        for patient in json.loads(self._request("GET", "/patients")):
            self._request("DELETE", f"/patients/{patient}")

    def _request(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, sent)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise OSError(f"Orthanc answered {response.status} to {method} {path}: {content!r}")
        return content


@contextmanager
def orthanc(folder: Path, *, dicom_web: bool = False, threads: int = 4) -> Iterator[Orthanc]:
    """Run Orthanc with its storage in ``folder``.

    Args:
        folder: For storage, configuration and log.
        dicom_web: Answer DICOMweb at ``/dicom-web/``, and take SOP classes that it does not know.
        threads: That serve associations; with fewer than associations, some wait for others.
    """
    program = require("Orthanc")
    if dicom_web and not DICOM_WEB.exists():
        absent("orthanc-dicomweb is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    peer = Orthanc(free_port(), free_port())
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "radnode tests",
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "TemporaryDirectory": str(folder),
                "Plugins": [str(DICOM_WEB)] if dicom_web else [],
                "DicomAet": peer.ae_title,
                "DicomPort": peer.port,
                "DicomThreadsCount": threads,
                "DicomAlwaysAllowEcho": True,
                "DicomAlwaysAllowStore": True,
                "HttpPort": peer.http_port,
                "HttpRequestTimeout": 30,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "StableAge": 1,
                "OverwriteInstances": False,
                "UnknownSopClassAccepted": dicom_web,
            }
        )
    )
    with running(
        [program, configuration],
        ready=lambda: accepts(peer.http_port) and accepts(peer.port),
        log=folder / "orthanc.log",
    ):
        yield peer
