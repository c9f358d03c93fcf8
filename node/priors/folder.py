"""Earlier results from a folder, for who tries a pipeline without an archive."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from node.load.prior import Earlier, PriorFiles
from node.load.source import read_headers
from node.malformed import MALFORMED
from node.priors.patient import CannotAsk, patient_of
from node.priors.results import (
    DAMAGED,
    NOT_OUTLINED,
    UNSAFE,
    latest_result,
    not_compared,
    not_looked_up,
    ours_of,
    reports_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset


def earlier_among(files: Sequence[Path], pipeline: str, present: Path) -> Earlier:
    """Return the results of a pipeline among files: of the same patient, of earlier studies.

    And what people reported of these.

    Args:
        files: DICOM files: results, the images that they were made from, and reports.
        pipeline: Its name.
        present: An image of the present study.
    """
    headers = dict(zip(files, read_headers(files), strict=True))
    try:
        patient = patient_of(read_headers([present])[0])
        same = {
            path: header
            for path, header in headers.items()
            if header.StudyInstanceUID != patient.study_uid and patient.had_before(header)
        }
        ours, more = ours_of(patient, pipeline, same)
    except CannotAsk as reason:
        return Earlier(problems=(not_looked_up(str(reason)),))
    where = {
        str(header.SOPInstanceUID): path for path, header in same.items() if patient.is_of(header)
    }
    by_study: defaultdict[str, dict[Path, Dataset]] = defaultdict(dict)
    for path, header in ours.items():
        by_study[str(header.StudyInstanceUID)][path] = header
    results, problems = [], [UNSAFE] if more else []
    for _, objects in sorted(by_study.items()):
        try:
            result = latest_result(objects)
        except MALFORMED:
            problems.append(DAMAGED)
            continue
        if result is None:
            continue
        uids = sorted(instance for _, _, instance in result.sources)
        if not result.is_comparable:
            problems.append(NOT_OUTLINED)
        elif all(uid in where for uid in uids):
            sources = tuple(where[uid] for uid in uids)
            results.append(PriorFiles(sources, result.segmentation, result.reports))
        else:
            problems.append(not_compared("its images are not there"))
    reports, unsafe = reports_of(patient, same)
    return Earlier(tuple(results), (*problems, *unsafe), reports)
