"""OHIF, the web viewer: the app that its makers build, served on loopback beside a PACS.

``python -m tests.peers.ohif`` fetches it from the npm registry into ``build/ohif``.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.peers import REPOSITORY, absent

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "3.13.2"
PACKAGE = f"@ohif/app@{VERSION}"
SHA512 = (
    "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
    "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10"
)
"""Of the package's archive."""
FOLDER = REPOSITORY / "build" / "ohif" / VERSION

_LEFT_OUT = ("/ort/", "/dicom-microscopy-viewer/", ".map")
"""Neural networks, slide microscopy, source maps: three quarters of the package."""
_DICOM_WEB = "/dicom-web/"
_CONFIGURATION = b"""\
window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  customizationService: [{ "ohif.tours": { $set: [] } }],
  showStudyList: true,
  maxNumberOfWebWorkers: 1,
  showLoadingIndicator: true,
  investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "pacs",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
    sourceName: "pacs",
    configuration: {
      friendlyName: "PACS",
      name: "pacs",
      qidoRoot: "/dicom-web",
      wadoRoot: "/dicom-web",
      qidoSupportsIncludeField: false,
      imageRendering: "wadors",
      thumbnailRendering: "wadors",
      enableStudyLazyLoad: true,
      supportsFuzzyMatching: false,
      supportsWildcard: true,
      bulkDataURI: { enabled: true, relativeResolution: "studies" },
      omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


@contextmanager
def ohif(orthanc_http_port: int) -> Iterator[str]:
    """Serve OHIF and the DICOMweb of Orthanc from one origin; the address, without final slash."""
    if not FOLDER.exists():
        absent("OHIF is not in build/ohif: make peers fetches it by npm")
    handler = partial(_Handler, directory=str(FOLDER), orthanc_http_port=orthanc_http_port)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *arguments: Any, orthanc_http_port: int, **options: Any) -> None:
        self.orthanc_http_port = orthanc_http_port
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(_DICOM_WEB):
            self._ask_orthanc()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", _CONFIGURATION)
        else:
            if "." not in path.rpartition("/")[2]:
                self.path = "/index.html"  # a page of the app, which its script finds
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _ask_orthanc(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.orthanc_http_port, timeout=60)
        # With our host, Orthanc writes the links to bulk data so that they lead through here.
        headers = {name: self.headers[name] for name in ("Accept", "Host")}
        try:
            connection.request("GET", self.path, headers=headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self._answer(response.status, response.headers["Content-Type"], content)

    def _answer(self, status: int, content_type: str | None, content: bytes) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def fetch() -> str:
    """Fetch the package into ``FOLDER`` unless it is there; why not, or an empty text."""
    if FOLDER.exists():
        return ""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        folder = Path(name)
        packed = subprocess.run(
            [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(folder.glob("*.tgz"))
        if packed.returncode != 0 or len(archives) != 1:
            return f"npm pack failed: {packed.stderr.strip()[-300:]}"
        if hashlib.sha512(archives[0].read_bytes()).hexdigest() != SHA512:
            return f"{PACKAGE} is not the archive that the tests were written for"
        with tarfile.open(archives[0]) as archive:
            wanted = [m for m in archive.getmembers() if not any(p in m.name for p in _LEFT_OUT)]
            archive.extractall(folder, wanted, filter="data")
        (folder / "package" / "dist").rename(FOLDER)
    return ""


if __name__ == "__main__":
    why_not = fetch()
    if why_not:
        print(f"OHIF could not be fetched; the tests that need it will be skipped: {why_not}.")
