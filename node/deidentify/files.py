"""De-identify files: read, decide on every element, write, look again.

The same file, secret and settings always give the same bytes: what is sent twice is the same.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from node.deidentify.apply import deidentified
from node.deidentify.keys import pseudonyms
from node.deidentify.pixels import blanked
from node.deidentify.rules import rules_of
from node.deidentify.verify import verify
from node.errors import ConfigError, DeliveryError, NotDeidentified, PeerBusy, PeerUnreachable
from node.malformed import MALFORMED
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydicom import Dataset

    from node.confidentiality import Blank
    from node.deidentify.keys import Pseudonyms
    from node.deidentify.rules import Rules
    from node.settings import Settings

LEFT_BEHIND_S = 86400.0
"""A folder of copies that is older than this is of a process that has died."""


@dataclass(frozen=True)
class Copy:
    """A file that may leave, and what it calls itself."""

    path: Path
    study_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Deidentifier:
    """How a site de-identifies."""

    rules: Rules
    pseudonyms: Pseudonyms
    blanks: tuple[Blank, ...]

    def write(self, source: Path, folder: Path) -> Copy:
        """Write what may leave of the file ``source`` into ``folder``, named by its new UID.

        Raises:
            NotDeidentified: Nothing may. Nothing was written.
            OSError: The disk does not take it.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes the values that it warns of
            return self._write(source, folder)

    def _write(self, source: Path, folder: Path) -> Copy:
        try:
            original = dcmread(source)
            has_blanks = blanked(original, self.blanks)
            made = deidentified(original, self.rules, self.pseudonyms, pixels_blanked=has_blanks)
            made.file_meta = _meta(made, original)
            target = folder / f"{made.SOPInstanceUID}.dcm"
            made.save_as(target, enforce_file_format=True)
        except (FileNotFoundError, IndexError, RuntimeError, *MALFORMED) as error:
            # Not chained: the cause may quote what it could not read.
            raise NotDeidentified(
                f"It cannot be read or written whole ({type(error).__name__}).",
                do="Have it sent again, or leave it out.",
            ) from None
        try:
            verify(original, target)
        except NotDeidentified:
            target.unlink()
            raise
        return Copy(target, str(made.StudyInstanceUID), str(made.SOPInstanceUID))


def deidentifier_of(settings: Settings) -> Deidentifier:
    """Return how this site de-identifies. Its secret is made on first use.

    Raises:
        ConfigError: The secret is not one, or open to others.
    """
    chosen = settings.deidentify
    secret = pseudonyms(settings.deidentify_secret)
    return Deidentifier(rules_of(chosen), secret, tuple(chosen.blank.values()))


@contextmanager
def copies(
    settings: Settings, paths: Mapping[str, Path]
) -> Iterator[tuple[dict[str, Copy], dict[str, DeliveryError]]]:
    """Lend de-identified copies of result objects; they are gone at the end.

    Args:
        settings: Of the node.
        paths: Original SOP Instance UID -> file.

    Yields:
        Original SOP Instance UID -> its copy, and why there is none.

    Raises:
        PeerUnreachable: None can be made for now.
    """
    try:
        deidentifier = deidentifier_of(settings)
        folder = settings.data / "deidentified"
        folder.mkdir(exist_ok=True, mode=0o700)
    except ConfigError as error:
        raise PeerUnreachable(error.what, do=error.do) from error
    except OSError as error:
        raise PeerUnreachable(
            f"The secret of the de-identification cannot be used: {error.strerror}.",
            do="Check the disk under 'data' with 'radnode check'.",
        ) from error
    for left in folder.iterdir():
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - LEFT_BEHIND_S:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        made: dict[str, Copy] = {}
        refused: dict[str, DeliveryError] = {}
        for sop_instance_uid, path in paths.items():
            try:
                made[sop_instance_uid] = deidentifier.write(path, Path(own))
            except NotDeidentified as error:
                refused[sop_instance_uid] = error
            except OSError as error:
                refused[sop_instance_uid] = PeerBusy(
                    f"Its de-identified copy cannot be written: {error.strerror}.",
                    do="Check the disk under 'data' with 'radnode check'.",
                )
        yield made, refused


def _meta(made: Dataset, original: Dataset) -> FileMetaDataset:
    """Return a meta group of our own: the original's names its senders (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
