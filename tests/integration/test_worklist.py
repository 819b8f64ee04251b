"""The list on a real database: places, claims, the scheduler's clock jobs, policy changes and history."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from tests.reading_room import arrive, assess, uid_of
from tests.reports import no_answer
from triage.domain.entry import EntryVerb
from triage.domain.finding import Finding, NotEvaluated
from triage.domain.policy import Mode, Policy
from triage.domain.study import StudyStep
from triage.errors import Conflict, IllegalTransition, UnknownStudy
from triage.store import assessments, entries, policies, studies
from triage.store.tables import Instance
from triage.worklist import actions, history, listing, policy_change, rows
from triage.worklist.scheduler import Scheduler

MINUTE = timedelta(minutes=1)


def uids(db, now, **options):
    with db.read() as session:
        return [item["study_instance_uid"] for item in listing.page(session, now, **options)["items"]]


def item(db, uid, now):
    with db.read() as session:
        return listing.study(session, uid, now)


def do(db, action, uid, actor, now, *arguments, **options):
    with db.write() as session:
        action(session, uid, actor, now, *arguments, **options)


@pytest.fixture
def three(db, now):
    """Three routine studies a minute apart; the last shows tuberculosis."""
    for number in (1, 2, 3):
        arrive(db, number, now + number * MINUTE)
        assess(db, number, now + number * MINUTE, {Finding.TUBERCULOSIS: 0.9} if number == 3 else {})
    return now + 5 * MINUTE


@pytest.fixture
def scheduler(db):
    def at(moment):
        return Scheduler(db, lambda: moment, every=timedelta(seconds=30), claim_idle=30 * MINUTE)

    return at


def test_likely_disease_is_first_and_the_rest_in_order_of_arrival(db, three):
    assert uids(db, three) == [uid_of(3), uid_of(1), uid_of(2)]


def late_film(db, number, now):
    with db.write() as session:
        study, policy = studies.by_uid(session, uid_of(number)), policies.active(session)
        studies.step(session, study, StudyStep.REOPEN, now, cause="late image")
        entries.rerank(session, study, policy, now, verb=EntryVerb.RECEIVED, cause="another object")


def test_a_negative_study_with_a_film_that_is_pending_is_pending(db, three):
    assert item(db, uid_of(2), three)["assessment"]["outcome"] == "negative"
    late_film(db, 2, three)
    assert uids(db, three) == [uid_of(3), uid_of(2), uid_of(1)]
    shown = item(db, uid_of(2), three)
    minutes = Policy().minutes["not_evaluated"]
    assert (shown["assessment"]["state"], shown["assessment"]["outcome"]) == ("receiving", None)
    assert shown["assessment"]["findings"] == []
    assert shown["advance_minutes"] == minutes
    assert shown["reasons"] == [f"not evaluated in full yet: {minutes:.0f} min ahead"]


def test_a_positive_study_with_a_film_that_is_pending_keeps_its_place_and_outcome(db, three):
    before = item(db, uid_of(3), three)
    late_film(db, 3, three)
    after = item(db, uid_of(3), three)
    assert after["assessment"]["outcome"] == "positive"
    assert (after["effective_at"], after["reasons"]) == (before["effective_at"], before["reasons"])


def test_a_negative_film_beside_one_that_could_not_be_decoded_is_no_negative_study(db, three):
    uid, other = uid_of(2), f"{uid_of(2)}.1.2"
    with db.write() as session:
        study = studies.by_uid(session, uid)
        film = Instance(
            study_id=study.id, study_uid=uid, series_uid=f"{uid}.1", sop_instance_uid=other,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1", transfer_syntax_uid="1.2.840.10008.1.2.1",
            digest="f" * 64, size=1, path="other.dcm", received_at=three,
        )  # fmt: skip
        session.add(film)
        session.flush()
        assessments.add(session, film, no_answer(NotEvaluated.UNDECODABLE, other))
        policy = policies.active(session)
        entries.rerank(session, study, policy, three, verb=EntryVerb.ASSESSED, cause="undecodable")
    assert uids(db, three) == [uid_of(3), uid_of(2), uid_of(1)]
    shown = item(db, uid, three)
    assert shown["advance_minutes"] == 60
    assert shown["reasons"] == ["a film was not evaluated, the pixels could not be decoded: 60 min ahead"]


def test_stat_is_before_everything(db, three):
    arrive(db, 4, three, priority="STAT")
    assert uids(db, three)[0] == uid_of(4)


def test_pages_by_cursor_give_every_entry_once_in_order(db, now):
    for number in range(1, 24):
        arrive(db, number, now + number * MINUTE)
    seen, positions, cursor = [], [], None
    while True:
        with db.read() as session:
            page = listing.page(session, now, limit=5, cursor=cursor)
        seen += [i["study_instance_uid"] for i in page["items"]]
        positions += [i["position"] for i in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == uids(db, now, limit=100)
    assert positions == list(range(1, 24))


@pytest.mark.parametrize("cursor", ["x", "AAAA", "eyJhIjoxfQ", "%00", "e30"])
def test_a_foreign_cursor_is_refused(db, now, cursor):
    with db.read() as session, pytest.raises(listing.BadCursor):
        listing.page(session, now, cursor=cursor)


def test_of_two_readers_who_claim_at_once_one_wins(db, three):
    won, lost = [], []
    gate = threading.Barrier(2)

    def claim(reader):
        gate.wait()
        try:
            do(db, actions.claim, uid_of(1), reader, three)
            won.append(reader)
        except Conflict:
            lost.append(reader)

    readers = [threading.Thread(target=claim, args=(name,)) for name in ("ada", "bob")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(10)
    assert len(won) == len(lost) == 1
    assert item(db, uid_of(1), three)["claimed_by"] == won[0]
    assert uid_of(1) not in uids(db, three)


def test_a_stale_revision_is_a_conflict_and_changes_nothing(db, three):
    revision = item(db, uid_of(1), three)["revision"]
    do(db, actions.note, uid_of(1), "ada", three, revision, text="portable")
    with pytest.raises(Conflict):
        do(db, actions.note, uid_of(1), "bob", three, revision, text="other")
    assert item(db, uid_of(1), three)["note"] == "portable"


def test_a_released_claim_returns_to_its_place(db, three):
    before = uids(db, three)
    do(db, actions.claim, uid_of(1), "ada", three)
    do(db, actions.release, uid_of(1), "ada", three)
    assert uids(db, three) == before


def test_only_the_claimant_completes_and_a_read_study_stays_read(db, three):
    with pytest.raises(IllegalTransition):
        do(db, actions.complete, uid_of(1), "ada", three)
    do(db, actions.claim, uid_of(1), "ada", three)
    with pytest.raises(Conflict):
        do(db, actions.complete, uid_of(1), "bob", three)
    do(db, actions.complete, uid_of(1), "ada", three)
    assert item(db, uid_of(1), three)["status"] == "read"
    with pytest.raises(IllegalTransition):
        do(db, actions.release, uid_of(1), "ada", three)


def test_an_unknown_study_is_said_to_be_unknown(db, now):
    with pytest.raises(UnknownStudy):
        do(db, actions.claim, "1.2.3", "ada", now)


def test_a_pin_moves_and_is_explained_within_the_bounds(db, three):
    do(db, actions.pin, uid_of(2), "ada", three, minutes=200, reason="surgeon waits")
    assert uids(db, three)[:2] == [uid_of(3), uid_of(2)]
    with db.read() as session:
        why = listing.why(session, uid_of(2), three)
    assert any("surgeon waits" in term["sentence"] and "ada" in term["sentence"] for term in why["terms"])
    used = sum(term["minutes"] for term in why["terms"] if term["used"])
    assert used == pytest.approx(why["advance_minutes"])
    assert why["history"][-1]["verb"] == "pinned"


@pytest.mark.parametrize(("minutes", "reason"), [(0, "why"), (10_000, "why"), (5, "  ")])
def test_a_pin_without_reason_or_bound_is_refused(db, three, minutes, reason):
    with pytest.raises(actions.BadRequest):
        do(db, actions.pin, uid_of(2), "ada", three, minutes=minutes, reason=reason)


def test_whoever_waits_too_long_is_moved_to_the_limit_once(db, three, scheduler):
    later = three + 250 * MINUTE
    arrive(db, 9, later)
    assess(db, 9, later, {Finding.TUBERCULOSIS: 0.99})
    scheduler(later).beat()
    scheduler(later).beat()
    aged = item(db, uid_of(1), later)
    assert aged["advance_minutes"] == 240
    assert [event["verb"] for event in aged["events"]].count("aged_out") == 1
    assert uids(db, later).index(uid_of(1)) < uids(db, later).index(uid_of(9))


def test_due_times_are_warned_of_and_their_breach_recorded_once(db, now, scheduler):
    arrive(db, 1, now, priority="STAT")
    for minutes in (10, 22, 23, 31, 32):
        scheduler(now + minutes * MINUTE).beat()
    verbs = [event["verb"] for event in item(db, uid_of(1), now)["events"]]
    assert verbs.count("due_warned") == 1
    assert verbs.count("due_breached") == 1
    with db.read() as session:
        then = [history.at(session, now + minutes * MINUTE)["items"][0] for minutes in (25, 35)]
    assert [row["reasons"] for row in then] == [["due soon"], ["overdue"]]


def test_an_idle_claim_returns_and_a_lively_one_stays(db, three, scheduler):
    do(db, actions.claim, uid_of(1), "ada", three)
    do(db, actions.claim, uid_of(2), "bob", three)
    do(db, actions.seen, uid_of(2), "bob", three + 20 * MINUTE)
    scheduler(three + 31 * MINUTE).beat()
    assert item(db, uid_of(1), three)["status"] == "waiting"
    assert item(db, uid_of(2), three)["claimed_by"] == "bob"


def test_an_idle_claim_that_waited_too_long_comes_back_at_the_limit_at_once(db, three, scheduler):
    do(db, actions.claim, uid_of(1), "ada", three)
    later = three + 300 * MINUTE
    scheduler(later).beat()
    back = item(db, uid_of(1), later)
    assert (back["status"], back["advance_minutes"]) == ("waiting", 240)


def test_only_one_scheduler_works_and_another_takes_over(db, now):
    arrive(db, 1, now)
    moment = [now + 300 * MINUTE]
    one, two = (Scheduler(db, lambda: moment[0], every=MINUTE, claim_idle=MINUTE) for _ in range(2))
    one.beat()
    arrive(db, 2, now)
    two.beat()
    assert item(db, uid_of(2), now)["advance_minutes"] != 240
    moment[0] += 5 * MINUTE
    two.beat()
    assert item(db, uid_of(2), now)["advance_minutes"] == 240


def test_a_policy_change_is_one_step_and_undone_by_switching_back(db, three):
    before = uids(db, three)
    with db.read() as session:
        moves = policy_change.compare(session, Policy(name="fifo", mode=Mode.SHADOW), three)
    assert uids(db, three) == before
    assert [m.study_uid for m in moves] == [uid_of(1), uid_of(2), uid_of(3)]
    with db.write() as session:
        policy_change.switch(session, Policy(name="fifo", mode=Mode.SHADOW), three, "ada")
    assert uids(db, three) == [uid_of(1), uid_of(2), uid_of(3)]
    with db.write() as session:
        policy_change.switch(session, Policy(), three + MINUTE, "ada")
    assert uids(db, three) == before


def test_a_policy_is_tried_on_the_list_of_an_earlier_minute(db, three):
    fifo = Policy(name="fifo", mode=Mode.SHADOW)
    do(db, actions.claim, uid_of(3), "ada", three + MINUTE)
    do(db, actions.complete, uid_of(3), "ada", three + 2 * MINUTE)
    arrive(db, 4, three + 3 * MINUTE)
    with db.read() as session:
        then = policy_change.compare(session, fifo, three, past=True)
        today = policy_change.compare(session, fifo, three + 4 * MINUTE)
    assert [(m.study_uid, m.before, m.after) for m in then] == [
        (uid_of(1), 2, 1),
        (uid_of(2), 3, 2),
        (uid_of(3), 1, 3),
    ]
    assert {m.study_uid for m in today} == {uid_of(1), uid_of(2), uid_of(4)}


def test_history_is_forgotten_as_the_site_says_and_never_shown_in_part(db, three):
    do(db, actions.claim, uid_of(1), "ada", three)
    do(db, actions.complete, uid_of(1), "ada", three + MINUTE)
    later = three + timedelta(days=40)
    do(db, actions.claim, uid_of(2), "ada", later - MINUTE)
    do(db, actions.complete, uid_of(2), "ada", later)
    assert history.forget(db, lambda: later, timedelta(days=60)) == 0
    assert history.forget(db, lambda: later, timedelta(days=30)) > 0
    assert item(db, uid_of(1), later)["events"] == []
    assert item(db, uid_of(2), later)["events"]
    assert item(db, uid_of(3), later)["events"], "what waits keeps its history"
    with db.read() as session:
        shown = history.at(session, later - timedelta(days=1))["items"]
        with pytest.raises(history.BadTime, match="is kept from"):
            history.at(session, three)
    assert [row["study_instance_uid"] for row in shown] == [uid_of(3), uid_of(2)]


def test_the_list_of_any_minute_can_be_seen_again(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    assess(db, 2, now + 2 * MINUTE, {Finding.COVID19: 0.95})
    do(db, actions.claim, uid_of(2), "ada", now + 3 * MINUTE)

    def at(minutes):
        with db.read() as session:
            return [i["study_instance_uid"] for i in history.at(session, now + minutes * MINUTE)["items"]]

    assert at(-1) == []
    assert at(0.5) == [uid_of(1)]
    assert at(1.5) == [uid_of(1), uid_of(2)]
    assert at(2.5) == [uid_of(2), uid_of(1)]
    assert at(4) == [uid_of(1)]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(history.BadTime):
        history.moment_of(text)


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00"])
def test_a_time_is_read_in_its_zone(now, text):
    assert history.moment_of(text) == now


def test_the_whole_first_page_walks_the_index_and_sorts_nothing(db):
    query = entries.in_reading_order(rows.rows_of(), 50)
    text_of = str(query.compile(db.engine, compile_kwargs={"literal_binds": True}))
    with db.engine.connect() as connection:
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text_of}").all())
    assert "ix_entry_waiting" in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN imaging_order" not in plan
    assert "SCAN study" not in plan


def test_a_place_is_counted_in_the_index_alone(db, three):
    with db.read() as session:
        for row in rows.read(session, entries.in_reading_order(rows.rows_of(), 10)):
            item = listing.study(session, row.study_uid, three)
            assert entries.place_at(session, rows.key_of(row)) == item["position"]
    nothing = {"band": 1, "effective": 0, "arrived": 0, "uid": ""}
    with db.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {entries.AHEAD}", nothing).all()
    looks = [step.detail for step in plan if "entry" in step.detail]
    assert len(looks) == 3
    assert all("SEARCH entry USING COVERING INDEX ix_entry_waiting" in look for look in looks)


def test_rows_that_are_kept_follow_every_change(db, three):
    def first():
        with db.read() as session:
            return listing.page(session, three)["items"][0]

    assert first()["note"] == ""
    do(db, actions.note, uid_of(3), "ada", three, text="compare with last year")
    assert first()["note"] == "compare with last year"
    with db.write() as session:
        studies.by_uid(session, uid_of(3)).patient_name = "SYNTHETIC^MERGED"
    assert first()["patient"]["name"] == "SYNTHETIC^MERGED"
