"""Add a model: from the catalogue, from a folder, or from an archive at an address."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import ModelRefused
from node.models import archive
from node.models.fetch import fetch, write
from node.models.names import LARGEST_BYTES, check_content, check_name, check_path, files_of
from node.models.shelf import Provenance, incoming, place, refuse_second
from pipelines.models import MANIFEST, AddedModel
from pipelines.runtimes import manifest as runtimes_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipelines.catalogue import Entry

Digests = dict[str, str]
"""Path within a model -> SHA-256 (hex)."""


def from_catalogue(
    models: Path,
    entry: Entry,
    *,
    folder: Path | None = None,
    stated: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> AddedModel:
    """Add a model of the catalogue.

    Args:
        models: Folder of all models.
        entry: Which one.
        folder: Where its files lie, in whatever folders below; None: they are fetched.
        stated: Digests of the files that the catalogue knows none of.
        tell: Gets a line for each file.

    Raises:
        ModelRefused: A file is nowhere, or is another; nothing is kept.
    """
    refuse_second(models, entry.name)
    files = {path: sha256 or (stated or {}).get(path, "") for path, sha256 in entry.files.items()}
    missing = [path for path, sha256 in files.items() if not sha256]
    if missing:
        raise ModelRefused(
            f"The catalogue has no digest of {missing[0]} of {entry.name}.",
            do="State which bytes you trust: --sha256 FILE, with lines as sha256sum prints them.",
        )
    with incoming(models) as staged:
        for path, sha256 in files.items():
            target = staged / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if folder is None:
                _fetch_from_any(entry, path, target, sha256)
            else:
                _copy_by_digest(folder, path, target, sha256)
            tell(path)
        source = "a folder"
        if entry.sources:
            source = entry.sources[0] if folder is None else f"a folder, as at {entry.sources[0]}"
        provenance = Provenance(source, entry.licence, entry.citation, entry.title)
        where = place(models, entry.name, staged, files, provenance)
    return AddedModel(entry.name, where, files, entry.licence, entry.citation, source)


def from_folder(
    models: Path,
    folder: Path,
    *,
    taken: Callable[[str], bool],
    source: str = "a folder",
    stated: Mapping[str, str] | None = None,
) -> AddedModel:
    """Add a model that a ``pipeline.toml`` in its folder describes.

    Args:
        models: Folder of all models.
        folder: Copied as it is.
        taken: Whether a pipeline of this name is there without the model.
        source: Where it came from, for the record.
        stated: Digests that some of its files must have, besides what the manifest says.

    Raises:
        ModelRefused: The manifest is wrong, a file is not the one it names, or may not be kept.
    """
    try:
        manifest = runtimes_manifest.read(folder)
    except runtimes_manifest.ManifestError as error:
        raise ModelRefused(
            f"{folder / runtimes_manifest.FILE} cannot be used.", do=" ".join(error.problems)
        ) from error
    check_name(manifest.name)
    if taken(manifest.name):
        raise ModelRefused(
            f"An installed package has a pipeline called {manifest.name}.",
            do="Give the model another name in its pipeline.toml.",
        )
    refuse_second(models, manifest.name)
    wanted = {**(stated or {}), **manifest.model.digests}
    with incoming(models) as staged:
        files = _copy_all(folder, staged)
        for path, sha256 in wanted.items():
            if files.get(path) != sha256:
                raise ModelRefused(
                    f"{path} is not there, or not the file whose SHA-256 was stated.",
                    do="Check the model's files; correct pipeline.toml only if you know them.",
                )
        provenance = Provenance(source, manifest.licence, manifest.citation, manifest.title)
        where = place(models, manifest.name, staged, files, provenance)
    return AddedModel(manifest.name, where, files, manifest.licence, manifest.citation, source)


def from_address(
    models: Path, url: str, sha256: str, *, taken: Callable[[str], bool]
) -> AddedModel:
    """Add a model that is an archive (zip or tar) at an https address.

    Raises:
        ModelRefused: As of ``from_folder``; or the archive is another, or unsafe.
    """
    with incoming(models) as staged:
        packed = staged / "archive"
        fetch(url, packed, sha256)
        unpacked = staged / "unpacked"
        archive.extract(packed, unpacked)
        return from_folder(models, archive.root_of(unpacked), taken=taken, source=url)


def _fetch_from_any(entry: Entry, path: str, target: Path, sha256: str) -> None:
    if not entry.sources:
        raise ModelRefused(
            f"The catalogue knows no address of {entry.name} that cannot change.",
            do="Get it from its authors, and take it from there with --from FOLDER.",
        )
    refusal: ModelRefused | None = None
    for source in entry.sources:
        try:
            fetch(source + path, target, sha256)
        except ModelRefused as error:
            refusal = refusal or error
        else:
            return
    if refusal:
        raise refusal


def _copy_by_digest(folder: Path, path: str, target: Path, sha256: str) -> None:
    """Copy the file of this name and digest from wherever it lies below ``folder``."""
    for candidate in sorted(folder.rglob(Path(path).name)):
        if candidate.is_file():
            with candidate.open("rb") as file:
                if write(file, target, LARGEST_BYTES) == sha256:
                    return
            target.unlink()
    raise ModelRefused(
        f"{path} with the SHA-256 {sha256} is not in {folder}.",
        do="Copy it there, from the source that 'radnode models list --catalogue' names.",
    )


def _copy_all(folder: Path, staged: Path) -> Digests:
    files: Digests = {}
    for path in files_of(folder):
        if path == MANIFEST:
            continue
        target = staged / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("rb") as file:
            files[path] = write(file, target, LARGEST_BYTES)
        check_path(path)
        check_content(target, path)  # of the copy: what was looked at before may have changed
    return files


def digests_in(stated: str) -> Digests:
    """Read digests as a person states them: a hex digest, or a file as ``sha256sum`` writes it.

    Returns:
        Path -> SHA-256 (hex); a digest alone is of the path ``""``.

    Raises:
        ModelRefused: It is neither.
    """
    if len(stated) == hashlib.sha256().digest_size * 2 and not Path(stated).exists():
        return {"": stated.lower()}
    digests = {}
    try:
        lines = Path(stated).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(
            f"{stated} is neither a SHA-256 nor a file of them.", do="Use sha256sum to make one."
        ) from error
    for line in lines:
        sha256, _, path = line.partition(" ")
        digests[path.strip().removeprefix("*").removeprefix("./")] = sha256.lower()
    return digests
