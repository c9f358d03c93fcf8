"""What an earlier result says that outlines nothing: that nothing is there, or that it may be."""

from __future__ import annotations

import pytest

from node.encode.objects import encode
from node.priors.results import latest_result
from pipelines import codes
from pipelines.contract import Finding, Presence, Result
from tests.sr_templates import made

ABSENT = Finding(codes.NODULE, Presence.ABSENT)
UNDECIDED = Finding(codes.NODULE, Presence.INDETERMINATE)


@pytest.mark.parametrize(
    ("findings", "is_comparable"),
    [
        ((), True),
        ((ABSENT,), True),
        ((UNDECIDED,), False),
        ((ABSENT, UNDECIDED), False),
        ((Finding(codes.NODULE),), False),
    ],
    ids=["nothing", "absent", "undecided", "absent and undecided", "present"],
)
def test_only_what_found_nothing_is_compared_without_an_outline(findings, is_comparable, tmp_path):
    (report,) = (one.dataset for one in encode(made.classic(), Result(findings), made.work()))
    found = latest_result({tmp_path / "sr.dcm": report})
    assert (found.segmentation, found.is_comparable) == (None, is_comparable)
