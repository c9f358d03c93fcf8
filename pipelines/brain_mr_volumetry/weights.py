"""Where deepbet's networks are, and that they are the ones this pipeline was tested with."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "deepbet"
BOX_NETWORK = "bbox_model.pt"
BRAIN_NETWORK = "model.pt"
SHA256 = {
    BOX_NETWORK: "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    BRAIN_NETWORK: "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
"""Of the files in the wheel of deepbet 1.0.2, in the order in which they are used."""


def read_weights() -> dict[str, bytes]:
    """Return the bytes of each network, verified.

    The files are found through the installed distribution's own list, because the package
    itself imports a windowing toolkit, and its data lie in a folder beside it called ``data``.

    Raises:
        RuntimeError: deepbet is not installed, or a file is not the one tested.
    """
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        files = []
    found = {file.name: Path(str(file.locate())) for file in files if file.match("data/models/*")}
    weights = {}
    for name, digest in SHA256.items():
        if name not in found or not found[name].is_file():
            raise RuntimeError(
                f"The network {name} of deepbet is not installed. Install radnode[models]."
            )
        weights[name] = found[name].read_bytes()
        if hashlib.sha256(weights[name]).hexdigest() != digest:
            raise RuntimeError(
                f"The network {name} of deepbet is not the one this pipeline was tested with: "
                "its SHA-256 differs. Install deepbet 1.0.2."
            )
    return weights
