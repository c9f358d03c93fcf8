"""What no object can hold as it is stops a result before it is encoded, with a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.encode.objects import encode
from node.errors import GateClosed
from pipelines import codes
from pipelines.contract import Code, Finding, Measurement, ParametricMap, Result, WaveformSpan
from tests.sr_templates import made

LENGTH = Code("410668003", "SCT", "Length")


def measured(**changes) -> Result:
    return Result(
        (Finding(codes.NODULE, measurements=(Measurement(LENGTH, 3.0, "mm", **changes),)),)
    )


def called(finding: Code) -> Result:
    return Result((Finding(finding),))


def wrong_results() -> dict[str, tuple[Result, str]]:
    (segment,) = made.outlined().segments
    other = replace(segment, label="Other", mask=~segment.mask)
    values = np.zeros(made.SHAPE, np.float32)
    quantity = Code("122157", "DCM", "Probability")
    return {
        "a label of two lines": (Result(segments=(replace(segment, label="a\nb"),)), "control"),
        "a label of blanks": (Result(segments=(replace(segment, label=" "),)), "empty"),
        "half a character": (Result(segments=(replace(segment, label="\ud800"),)), "control"),
        "a map's label of two lines": (
            Result(maps=(ParametricMap("a\nb", quantity, "1", values),)),
            "control",
        ),
        "a mask of numbers": (
            Result(segments=(replace(segment, mask=segment.mask.astype(np.float32)),)),
            "float32, not bool",
        ),
        "an empty note": (Result(notes=("",)), "note"),
        "a bell in a note": (Result(notes=("\a",)), "note"),
        "half a character in a note": (Result(notes=("\ud800",)), "note"),
        "a long meaning": (called(Code("1", "99ME", "m" * 65)), "64 characters"),
        "a meaning of two values": (called(Code("1", "99ME", "a\\b")), r"\\ in it"),
        "a value of two values": (called(Code("a\\b", "99ME", "a")), r"\\ in it"),
        "a long scheme": (called(Code("1", "99ABCDEFGHIJKLMNO", "a")), "code"),
        "a code that nobody knows": (
            called(Code("999999", "SCT", "Old code")),
            "neither in PS3.16",
        ),
        "no lower bound": (measured(lowest=float("nan")), "its own interval"),
        "no upper bound": (measured(highest=float("inf")), "its own interval"),
        "a lower bound above the value": (measured(lowest=4.0), "its own interval"),
        "an upper bound below the value": (measured(highest=2.0), "its own interval"),
        "a tracking UID that is none": (
            Result((Finding(codes.NODULE, tracking_uid="nodule 1"),)),
            "no UID",
        ),
        "one tracking UID for two": (
            Result(segments=tuple(replace(one, tracking_uid="1.2.3") for one in (segment, other))),
            "tracked by the same UID",
        ),
    }


@pytest.mark.parametrize("name", wrong_results())
def test_what_no_object_can_hold_closes_the_gate(name):
    result, complaint = wrong_results()[name]
    with pytest.raises(GateClosed, match=complaint):
        encode(made.classic(), result, made.work())


def test_a_note_may_have_lines_and_any_script():
    encode(made.classic(), Result(notes=("Zeile 1\r\n行 2",)), made.work())


@pytest.mark.parametrize(
    "span", [(5.0, 1.0), (-3.0, 2.0), (float("nan"), 1.0), (0.0, float("inf")), (1e6, 2e6)]
)
def test_a_span_of_no_part_of_the_recording_closes_the_gate(span):
    finding = Finding(made.ATRIAL_FIBRILLATION, spans=(WaveformSpan(1, 1, *span),))
    with pytest.raises(GateClosed, match="in a span that"):
        encode(made.ecg(), Result((finding,)), made.work("ecg_report"))
