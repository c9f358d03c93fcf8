"""TID 2000: the study was not judged, and why. Never to be read as "nothing found".

A plain diagnostic imaging report in an Enhanced SR, which every viewer shows as text. Its code
says that no algorithm succeeded (CID 6047), where a negative result says that all did.
"""

from __future__ import annotations

from highdicom import sr
from pydicom.uid import EnhancedSRStorage

from sr_templates import codes, context, items
from sr_templates.report import Author, Report

NOT_ANALYSED = (
    "NOT ANALYSED. This is not a negative result: the algorithm did not judge this study."
)


def could_not_look(author: Author, reason: str, *, about_waveform: bool) -> Report:
    """Return a report that says why there is no result.

    Args:
        author: The algorithm that would have spoken.
        reason: A sentence for a radiologist.
        about_waveform: The study is an ECG, not images.
    """
    title = codes.ECG_REPORT if about_waveform else codes.DIAGNOSTIC_IMAGING_REPORT
    conclusions = items.container(
        codes.CONCLUSIONS,
        [
            items.text(codes.CONCLUSION, f"{NOT_ANALYSED} {reason}"),
            items.code(codes.PROCESSING_SUMMARY, codes.NOTHING_SUCCEEDED),
            *(items.text(codes.COMMENT, line) for line in context.provenance(author)),
        ],
    )
    header = [
        *context.language(),
        *sr.ObservationContext(observer_device_context=context.observer(author)),
    ]
    root = items.root(title, [*header, conclusions], "2000")
    return Report(EnhancedSRStorage, root, complete=False)
