"""The concepts of PS3.16 that this pipeline reports."""

from __future__ import annotations

from pipelines.contract import Code

ATRIAL_FIBRILLATION = Code("49436004", "SCT", "Atrial Fibrillation")
"""CID 3230 ECG Finding."""
SINUS_RHYTHM = Code("10:9216", "MDC", "Sinus Rhythm")
"""CID 3415 Cardiac Rhythm. Not "normal": the model does not judge the rate."""

HEART_RATE = Code("8867-4", "LN", "Heart rate")
RR_INTERVAL = Code("2:33024", "MDC", "RR interval per lead")
"""CID 3228, as the three below: "per lead" because one lead is read, where a global
measurement runs from the earliest onset to the latest offset of all leads."""
PR_INTERVAL = Code("2:7168", "MDC", "PR interval per lead")
QRS_DURATION = Code("2:7936", "MDC", "QRS duration per lead")
QT_INTERVAL = Code("2:8192", "MDC", "QT interval per lead")
QTC_BAZETT = Code("2:34048", "MDC", "QTc per lead using Bazett formula")
"""CID 3227, as the one below."""
QTC_FRIDERICIA = Code("2:34304", "MDC", "QTc per lead using Fredericia formula")
