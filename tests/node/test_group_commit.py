"""What many threads want at once is done together, in turn, and each gets its own outcome."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.group_commit import GroupCommit
from tests.peers import wait_until


class Doubler:
    """Doubles numbers in groups; holds each group until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = threading.Semaphore(0)

    def __call__(self, group):
        self.groups.append(list(group))
        assert self.go_on.acquire(timeout=30)
        if 13 in group:
            raise ValueError(13)
        return [2 * number for number in group]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def with_thread(group):
    return [(one, threading.get_ident()) for one in group]


def doubled(group):
    return [2 * one for one in group]


def test_one_alone_is_done_in_its_own_thread():
    commit: GroupCommit[str, tuple[str, int]] = GroupCommit(with_thread)
    own = threading.get_ident()
    assert [commit("a"), commit("b")] == [("a", own), ("b", own)]


def test_what_comes_while_one_is_at_work_is_the_next_group(pool):
    doubler = Doubler()
    commit = GroupCommit(doubler)
    first = pool.submit(commit, 1)
    wait_until(lambda: doubler.groups == [[1]])
    others = [pool.submit(commit, number) for number in (2, 3, 4)]
    wait_until(lambda: len(commit._gathered) == 3)
    doubler.go_on.release()
    wait_until(lambda: len(doubler.groups) == 2)
    assert first.result() == 2
    assert not any(other.done() for other in others)
    doubler.go_on.release()
    assert [other.result(30) for other in others] == [4, 6, 8]
    assert sorted(doubler.groups[1]) == [2, 3, 4]


def test_what_fails_fails_for_its_group_and_for_nobody_else(pool):
    doubler = Doubler()
    commit = GroupCommit(doubler)
    first = pool.submit(commit, 1)
    wait_until(lambda: doubler.groups == [[1]])
    failing = [pool.submit(commit, number) for number in (13, 14)]
    wait_until(lambda: len(commit._gathered) == 2)
    doubler.go_on.release(3)
    assert first.result(30) == 2
    for one in failing:
        with pytest.raises(ValueError, match="13"):
            one.result(30)
    assert commit(5) == 10


def test_nobody_is_left_waiting_when_many_come_at_once(pool):
    commit: GroupCommit[int, int] = GroupCommit(doubled)
    numbers = range(2000)
    assert list(pool.map(commit, numbers)) == [2 * number for number in numbers]
