"""Which files a model may consist of: plain names, no links, nothing that is unpickled."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path, PurePosixPath

from node.errors import ModelRefused

LARGEST_BYTES = 16 << 30
"""Of all files of a model together; nnU-Net folders of five folds take 1 GB."""
MOST_FILES = 2000
_NAME = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
_PART = re.compile(r"^[A-Za-z0-9_+=-][A-Za-z0-9_.+ =()-]{0,127}$")
_PICKLES = {".pkl", ".pickle", ".joblib", ".pyc", ".so", ".dll", ".dylib"}
"""What runs code when it is loaded. PyTorch archives are read with ``weights_only``."""
_PASSED_OVER = {".git", "__pycache__", ".DS_Store", ".gitattributes", ".gitignore"}
_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Start of a PyTorch file of before 1.6, which ``weights_only`` reads, too."""


def check_name(name: str) -> None:
    """Refuse a name that could be a path, or an option.

    Raises:
        ModelRefused: It is not made of small letters, digits and single hyphens.
    """
    if not _NAME.fullmatch(name) or len(name) > 64:
        raise ModelRefused(
            f"{name!r} is no name for a model.",
            do="Use small letters, digits and hyphens, such as 'liver-ct'.",
        )


def check_path(path: str) -> None:
    """Refuse a path that could lead out of a model's folder.

    Raises:
        ModelRefused: It is absolute, climbs, or has characters that are not plain.
    """
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or not all(_PART.fullmatch(part) for part in parts):
        raise ModelRefused(f"{path!r} is no plain file name.", do="Rename it.")
    if PurePosixPath(path).suffix.lower() in _PICKLES:
        raise ModelRefused(
            f"{path} is of a kind that may run code when it is loaded.",
            do="Save the weights as .safetensors, .onnx or TorchScript, or leave the file out.",
        )


def files_of(folder: Path) -> tuple[str, ...]:
    """Return the files of a model's folder, as paths within it, each of which may be kept.

    Raises:
        ModelRefused: One may not, or there are too many, or they are too large.
    """
    found: list[str] = []
    size_bytes = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _PASSED_OVER)
        for name in sorted(set(names) - _PASSED_OVER):
            path = Path(parent) / name
            inside = path.relative_to(folder).as_posix()
            check_path(inside)
            if path.is_symlink() or not path.is_file():
                raise ModelRefused(f"{inside} is no ordinary file.", do="Replace it by the file.")
            size_bytes += path.stat().st_size
            found.append(inside)
            check_content(path, inside)
        if any((Path(parent) / one).is_symlink() for one in folders):
            raise ModelRefused("A folder of the model is a link.", do="Replace it by the folder.")
    if len(found) > MOST_FILES or size_bytes > LARGEST_BYTES:
        raise too_large()
    return tuple(found)


def check_content(path: Path, inside: str) -> None:
    """Refuse a bare pickle whatever its name, and an archive that would fill the memory.

    Raises:
        ModelRefused: It is one.
    """
    with path.open("rb") as file:
        start = file.read(len(_TORCH_MAGIC))
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and start != _TORCH_MAGIC:
        raise ModelRefused(
            f"{inside} is a pickle, which may run code when it is loaded.",
            do="Save the weights as .safetensors, .onnx or TorchScript.",
        )
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked_bytes = sum(one.file_size for one in archive.infolist())
        except zipfile.BadZipFile as error:
            raise ModelRefused(f"{inside} is a broken archive.", do="Copy it again.") from error
        if unpacked_bytes > LARGEST_BYTES:
            raise too_large()


def too_large() -> ModelRefused:
    """Return the refusal of a model that is more than a model can be."""
    return ModelRefused(
        f"The model has over {MOST_FILES} files, or takes over {LARGEST_BYTES >> 30} GB.",
        do="Check that this is the folder of one model.",
    )
