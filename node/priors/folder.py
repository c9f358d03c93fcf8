"""Earlier results from a folder, for who tries a pipeline without an archive."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from node.load.prior import Earlier, PriorFiles
from node.load.source import read_headers
from node.priors.patient import text
from node.priors.results import is_ours, latest_result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset


def earlier_among(files: Sequence[Path], pipeline: str, present: Path) -> Earlier:
    """Return the results of a pipeline among files: of the same patient, of other studies.

    Args:
        files: DICOM files: results, and the images that they were made from.
        pipeline: Its name.
        present: An image of the present study.
    """
    (image,) = read_headers([present])
    headers = dict(zip(files, read_headers(files), strict=True))
    same = {
        path: header
        for path, header in headers.items()
        if text(header, "PatientID") == text(image, "PatientID")
        and header.StudyInstanceUID != image.StudyInstanceUID
    }
    where = {str(header.SOPInstanceUID): path for path, header in same.items()}
    by_study: defaultdict[str, dict[Path, Dataset]] = defaultdict(dict)
    for path, header in same.items():
        if is_ours(header, pipeline):
            by_study[str(header.StudyInstanceUID)][path] = header
    results, problems = [], []
    for _, objects in sorted(by_study.items()):
        result = latest_result(objects)
        if result is None:
            continue
        uids = sorted(instance for _, _, instance in result.sources)
        if all(uid in where for uid in uids):
            sources = tuple(where[uid] for uid in uids)
            results.append(PriorFiles(sources, result.segmentation, result.reports))
        else:
            problems.append("One earlier result could not be compared: its images are not there.")
    return Earlier(tuple(results), tuple(problems))
