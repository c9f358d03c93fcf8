"""The gate keeps the lease: its work grows with the segments, and it ticks between objects."""

from __future__ import annotations

import cProfile
import math
import pstats

import numpy as np
import pytest

from node.domain import Role
from node.encode.objects import encode
from node.errors import LeaseLost
from node.publish_gate import verify
from pipelines.codes import MORPHOLOGICALLY_ABNORMAL, NODULE
from pipelines.contract import Result, Segment
from tests.node.tampering import read_back
from tests.sr_templates import made


def objects_of(segments, folder):
    """Return a segmentation and a report of as many segments, each of one voxel."""
    source = made.classic()
    masks = np.eye(segments, math.prod(made.SHAPE), dtype=bool).reshape(-1, *made.SHAPE)
    found = tuple(
        Segment(f"Spot {number}", MORPHOLOGICALLY_ABNORMAL, NODULE, mask)
        for number, mask in enumerate(masks, start=1)
    )
    work = made.work(roles=frozenset({Role.SEG, Role.SR}))
    folder.mkdir()
    objects = read_back(encode(source, Result(segments=found), work), folder)
    return [*objects.values()], source.instances


def calls_to_verify(segments, folder):
    """Count calls of functions, which are the same on every machine."""
    objects, sources = objects_of(segments, folder)
    profile = cProfile.Profile()
    profile.runcall(verify, objects, sources)
    return pstats.Stats(profile).total_calls


def test_the_gate_takes_no_longer_for_the_last_segments_than_for_the_first(tmp_path):
    """Were segments looked up anew for each statement, the second step would be 6 % longer."""
    verify(*objects_of(1, tmp_path / "tables are built once"))
    few, more, most = (calls_to_verify(n, tmp_path / str(n)) for n in (20, 40, 60))
    assert most - more == pytest.approx(more - few, rel=0.01)


def test_the_gate_ticks_between_objects(tmp_path):
    objects, sources = objects_of(2, tmp_path / "result")
    ticks: list[None] = []
    verify(objects, sources, tick=lambda: ticks.append(None))
    assert len(ticks) > len(objects)


def test_a_lease_lost_at_the_gate_ends_the_comparison(tmp_path):
    objects, sources = objects_of(2, tmp_path / "result")

    def lose():
        raise LeaseLost("The job belongs to another worker.", do="Nothing.")

    with pytest.raises(LeaseLost):
        verify(objects, sources, tick=lose)
