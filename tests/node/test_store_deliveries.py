"""Deliveries: every object to every destination, until it is there or a person is told why not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain, takewhile
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from node.clock import database_now
from node.domain import Priority
from node.store import commitments, deliveries, outages
from node.store.tables import commitment, delivery, event, job
from tests.node.results import happened, make_due, states, waiting_result
from tests.node.results import rows as delivery_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.domain import Artifact, Commitment, DueDelivery
    from node.settings import Settings
    from node.store.ledger import Ledger

PACS = "pacs"
NO_SUCH_OBJECT = 0x0112


@pytest.fixture
def result(settings: Settings, ledger: Ledger) -> tuple[Artifact, ...]:
    """One study's SEG and SR, on their way to one PACS."""
    return waiting_result(settings, ledger, [PACS])


def due(ledger: Ledger, destination: str = PACS) -> tuple[DueDelivery, ...]:
    with ledger.write() as db:
        return deliveries.claim_due(db, destination)


def uids(objects: Sequence[Artifact | DueDelivery]) -> list[str]:
    return [one.sop_instance_uid for one in objects]


def sent(ledger: Ledger, objects: Sequence[Artifact], destination: str = PACS) -> None:
    with ledger.write() as db:
        for one in objects:
            deliveries.mark_sent(db, one.sop_instance_uid, destination, status=0)


def asked(ledger: Ledger, destination: str = PACS) -> Commitment:
    with ledger.write() as db:
        opened = commitments.claim_uncommitted(db, destination, timeout_s=600.0)
    assert opened is not None
    return opened


def commit(ledger: Ledger, transaction_uid: str, objects: Sequence[Artifact]) -> int:
    with ledger.write() as db:
        return commitments.mark_committed(db, transaction_uid, uids(objects))


def not_commit(ledger: Ledger, transaction_uid: str, objects: Sequence[Artifact]) -> int:
    failures = [(uid, NO_SUCH_OBJECT) for uid in uids(objects)]
    with ledger.write() as db:
        return commitments.mark_uncommitted(db, transaction_uid, failures)


# --- sending ---------------------------------------------------------------------------------


def test_the_objects_of_one_study_are_due_together_segmentation_first(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    claimed = due(ledger)
    assert uids(claimed) == uids(result)
    assert {(one.destination, one.attempts) for one in claimed} == {(PACS, 1)}


def test_the_study_that_waits_longest_goes_first(settings: Settings, ledger: Ledger) -> None:
    made = [waiting_result(settings, ledger, [PACS], name=name) for name in ("b", "c", "a")]
    with ledger.write() as db:
        for age_s, objects in enumerate(made):
            db.execute(
                delivery.update()
                .where(delivery.c.sop_instance_uid.in_(uids(objects)))
                .values(planned_at=delivery.c.planned_at - age_s)
            )
    order = [due(ledger)[0].study_uid for _ in made]
    assert order == [objects[0].study_uid for objects in reversed(made)]
    assert due(ledger) == ()


def test_an_urgent_study_goes_before_one_that_waits_longer(
    settings: Settings, ledger: Ledger
) -> None:
    waiting_result(settings, ledger, [PACS], name="routine")
    urgent = waiting_result(settings, ledger, [PACS], name="urgent")
    with ledger.write() as db:
        db.execute(
            job.update().where(job.c.id == urgent[0].job_id).values(priority=Priority.STAT.value)
        )
    assert uids(due(ledger)) == uids(urgent)


def test_what_one_deliverer_holds_no_other_gets_until_its_lease_ends(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    assert len(due(ledger)) == len(result)
    assert due(ledger) == ()
    make_due(ledger)
    assert {one.attempts for one in due(ledger)} == {2}


def test_deliverers_that_race_share_the_studies(settings: Settings, ledger: Ledger) -> None:
    """Several hosts may deliver: none of them may wait for another for ever."""
    names = [f"study {number}" for number in range(12)]
    for name in names:
        waiting_result(settings, ledger, [PACS], name=name)

    def deliver(_: int) -> list[DueDelivery]:
        return list(chain.from_iterable(takewhile(bool, iter(lambda: due(ledger), None))))

    with ThreadPoolExecutor(6) as pool:
        got = list(chain.from_iterable(pool.map(deliver, range(6))))
    assert len(set(uids(got))) == len(got) == 2 * len(names)


def test_each_destination_has_its_own_fate(settings: Settings, ledger: Ledger) -> None:
    made = waiting_result(settings, ledger, ["pacs", "archive"])
    assert len(due(ledger, "pacs")) == 2
    assert len(due(ledger, "archive")) == 2
    sent(ledger, made, "pacs")
    with ledger.write() as db:
        outages.postpone(db, "archive", what="Away.", retry_in_s=60.0)
    assert states(ledger, "pacs") == ["sent", "sent"]
    assert states(ledger, "archive") == ["pending", "pending"]
    make_due(ledger)
    assert due(ledger, "pacs") == ()
    assert len(due(ledger, "archive")) == 2


def test_an_object_is_planned_once_for_a_destination(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    with ledger.write() as db:
        assert not deliveries.write_artifact(db, result[0])
        deliveries.plan_deliveries(db, result, PACS)
    assert states(ledger) == ["sent", "sent"]


def test_what_was_not_accepted_is_due_again_when_it_says_and_says_why(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    due(ledger)
    with ledger.write() as db:
        deliveries.mark_unsent(db, uids(result)[0], PACS, what="Busy.", retry_in_s=60.0)
        deliveries.mark_unsent(db, uids(result)[1], PACS, what="Busy.", retry_in_s=-1.0)
    assert uids(due(ledger)) == uids(result)[1:]
    assert {row.what for row in delivery_rows(ledger)} == {"Busy."}


def test_a_refused_object_waits_for_a_person_who_may_send_it_again(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    due(ledger)
    with ledger.write() as db:
        for uid in uids(result):
            deliveries.mark_refused(db, uid, PACS, what="No.", do="Ask.", status=0x0122)
    make_due(ledger)
    assert due(ledger) == ()
    assert len(happened(ledger, "refused")) == 2
    with ledger.write() as db:
        assert deliveries.retry(db, uids(result)[:1], None) == 1
    assert uids(due(ledger)) == uids(result)[:1]
    assert len(happened(ledger, "delivery_retried")) == 1


def test_a_person_may_send_again_to_one_destination_only(
    settings: Settings, ledger: Ledger
) -> None:
    made = waiting_result(settings, ledger, ["pacs", "archive"])
    with ledger.write() as db:
        assert deliveries.cancel(db, uids(made)) == 4
        assert deliveries.retry(db, uids(made), "archive") == 2
    assert states(ledger, "pacs") == ["canceled", "canceled"]
    assert states(ledger, "archive") == ["pending", "pending"]
    assert len(happened(ledger, "delivery_canceled")) == 4


def test_what_is_sent_is_not_canceled_nor_sent_again(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    with ledger.write() as db:
        assert deliveries.cancel(db, uids(result)) == 0
        assert deliveries.retry(db, uids(result), None) == 0
    assert states(ledger) == ["sent", "sent"]


def test_what_was_on_its_way_when_it_was_canceled_is_sent_and_asked_for(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    due(ledger)
    with ledger.write() as db:
        assert deliveries.cancel(db, uids(result)) == 2
    sent(ledger, result[:1])
    assert sorted(states(ledger)) == ["canceled", "sent"]
    (told,) = happened(ledger, "canceled_too_late")
    assert told.subject == PACS
    assert [uid for _, uid in asked(ledger).references] == uids(result)[:1]


def test_what_was_not_tried_is_due_again_as_if_nobody_had_taken_it(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    first = due(ledger)
    with ledger.write() as db:
        deliveries.give_back(db, uids(first)[1:], PACS)
    (again,) = due(ledger)
    assert (again.sop_instance_uid, again.attempts) == (uids(first)[1], 1)


def test_what_was_tried_least_often_goes_first(settings: Settings, ledger: Ledger) -> None:
    made = [waiting_result(settings, ledger, [PACS], name=name) for name in ("a", "b")]
    due(ledger)
    make_due(ledger)
    assert uids(due(ledger)) == uids(made[1])
    make_due(ledger)
    assert uids(due(ledger)) == uids(made[0])


def test_of_one_study_what_was_tried_least_often_goes_first(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    claimed = due(ledger)
    with ledger.write() as db:
        deliveries.give_back(db, uids(claimed)[1:], PACS)
    make_due(ledger)
    assert uids(due(ledger)) == uids(result)[::-1]


def test_what_waits_is_told_after_a_quarter_of_an_hour_and_after_four(
    settings: Settings, ledger: Ledger
) -> None:
    made = waiting_result(settings, ledger, [PACS, "archive"])
    sent(ledger, made, "archive")
    for passed_s, times in ((0, 0), (800, 0), (200, 1), (9000, 1), (5000, 2), (90_000, 2)):
        with ledger.write() as db:
            for column in (delivery.c.planned_at, delivery.c.sent_at, event.c.at):
                db.execute(update(column.table).values({column: column - passed_s}))
            outages.tell(db, outages.unsent(db, [PACS, "archive"]))
            outages.tell(db, outages.uncommitted(db, ["archive"]))
        for kind, destination in (("delivery_waits", PACS), ("commitment_waits", "archive")):
            assert [told.subject for told in happened(ledger, kind)] == [destination] * times


def test_what_has_waited_for_days_is_told_once(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    with ledger.write() as db:
        db.execute(delivery.update().values(planned_at=delivery.c.planned_at - 200_000.0))
        for _ in range(2):
            outages.tell(db, outages.unsent(db, [PACS]))
    (told,) = happened(ledger, "delivery_waits")
    assert told.study_uid == result[0].study_uid
    assert told.detail == "2 objects have waited for 3333 min."


def test_a_late_failure_does_not_undo_a_success(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    """Two deliverers sent the same object; the one that was cut off writes last."""
    sent(ledger, result)
    with ledger.write() as db:
        for uid in uids(result):
            deliveries.mark_unsent(db, uid, PACS, what="Cut off.", retry_in_s=0.0)
            deliveries.mark_refused(db, uid, PACS, what="No.", do="Ask.", status=None)
    assert [(row.state, row.what) for row in delivery_rows(ledger)] == [("sent", None)] * 2


# --- storage commitment ----------------------------------------------------------------------


def test_a_transaction_asks_for_what_one_study_sent(
    settings: Settings, ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    other = waiting_result(settings, ledger, [PACS], name="not yet sent")
    sent(ledger, result)
    opened = asked(ledger)
    assert set(opened.references) == {(one.sop_class_uid, one.sop_instance_uid) for one in result}
    assert not {uid for _, uid in opened.references} & set(uids(other))
    with ledger.read() as db:
        assert [row.transaction_uid for row in db.execute(commitment.select())] == [
            opened.transaction_uid
        ]
    with ledger.write() as db:
        assert commitments.claim_uncommitted(db, PACS, timeout_s=600.0) is None


def test_an_answer_finishes_the_deliveries_and_a_second_one_changes_nothing(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    transaction_uid = asked(ledger).transaction_uid
    assert commit(ledger, transaction_uid, result) == 2
    assert commit(ledger, transaction_uid, result) == 0
    assert not_commit(ledger, transaction_uid, result) == 0
    assert states(ledger) == ["committed", "committed"]
    assert len(happened(ledger, "committed")) == 2


def test_an_answer_to_an_unknown_transaction_is_no_answer(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    asked(ledger)
    assert commit(ledger, "1.2.3", result) == 0
    assert not_commit(ledger, "1.2.3", result) == 0
    assert states(ledger) == ["sent", "sent"]


def test_an_answer_about_objects_never_asked_for_changes_nothing(
    settings: Settings, ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    other = waiting_result(settings, ledger, ["archive"], name="elsewhere")
    sent(ledger, result)
    sent(ledger, other, "archive")
    transaction_uid = asked(ledger).transaction_uid
    assert commit(ledger, transaction_uid, other) == 0
    assert not_commit(ledger, transaction_uid, other) == 0
    assert states(ledger, "archive") == ["sent", "sent"]


def test_without_an_answer_the_same_objects_are_asked_for_again(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    first = asked(ledger)
    make_due(ledger)
    second = asked(ledger)
    assert second.transaction_uid != first.transaction_uid
    assert set(second.references) == set(first.references)


def test_a_late_answer_is_an_answer(ledger: Ledger, result: tuple[Artifact, ...]) -> None:
    sent(ledger, result)
    first = asked(ledger)
    make_due(ledger)
    asked(ledger)
    assert commit(ledger, first.transaction_uid, result) == 2


def test_a_late_no_is_none_when_it_was_asked_for_again(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    first = asked(ledger)
    make_due(ledger)
    asked(ledger)
    assert not_commit(ledger, first.transaction_uid, result) == 0
    assert states(ledger) == ["sent", "sent"]


def test_only_what_the_destination_cannot_commit_to_is_sent_again(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    transaction_uid = asked(ledger).transaction_uid
    assert commit(ledger, transaction_uid, result[:1]) == 1
    assert not_commit(ledger, transaction_uid, result[1:]) == 1
    found = {row.sop_instance_uid: row.state for row in delivery_rows(ledger)}
    assert found == dict(zip(uids(result), ("committed", "pending"), strict=True))
    (told,) = happened(ledger, "not_committed")
    assert "0x0112" in told.detail
    assert due(ledger) == ()  # not at once: the destination has just lost it
    make_due(ledger)
    assert uids(due(ledger)) == uids(result)[1:]


def test_what_is_never_committed_to_is_sent_ever_less_often(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    pauses_s = []
    for _ in range(12):
        make_due(ledger)
        due(ledger)
        sent(ledger, result)
        not_commit(ledger, asked(ledger).transaction_uid, result)
        with ledger.read() as db:
            pause_s = select(delivery.c.next_attempt_at - database_now()).limit(1)
            pauses_s.append(db.execute(pause_s).scalar_one())
    assert pauses_s[0] == pytest.approx(commitments.RESEND_S, abs=2.0)
    assert pauses_s[1] == pytest.approx(2 * commitments.RESEND_S, abs=2.0)
    assert pauses_s[-1] == pytest.approx(commitments.LONGEST_RESEND_S, abs=2.0)


def test_a_request_that_could_not_be_made_is_due_again_when_it_says(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    for retry_in_s, again in ((60.0, False), (-1.0, True)):
        make_due(ledger)
        opened = asked(ledger)
        with ledger.write() as db:
            commitments.abandon_commitment(
                db, opened.transaction_uid, what="Away.", retry_in_s=retry_in_s
            )
            found = commitments.claim_uncommitted(db, PACS, timeout_s=600.0)
        assert (found is not None) is again
    assert states(ledger) == ["sent", "sent"]


def test_an_abandoned_request_that_was_answered_after_all_stays_answered(
    ledger: Ledger, result: tuple[Artifact, ...]
) -> None:
    sent(ledger, result)
    opened = asked(ledger)
    commit(ledger, opened.transaction_uid, result)
    with ledger.write() as db:
        commitments.abandon_commitment(db, opened.transaction_uid, what="Cut.", retry_in_s=0.0)
    assert states(ledger) == ["committed", "committed"]
