"""The embedded queue: a job joins its transaction, is done at least once, and never blocks the others."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.peers import wait_until
from triage.store import installation
from triage.store.tables import Job
from triage.work.embedded import LEASE, EmbeddedQueue
from triage.work.queue import LONGEST_WAIT, Stage
from triage.work.worker import Worker


@pytest.fixture
def queue(db):
    return EmbeddedQueue(db)


def put(db, queue, key, now, stage=Stage.ASSESS):
    with db.write() as session:
        queue.put(session, stage, key, {"key": key}, now)


def finish(db, queue, job):
    with db.write() as session:
        queue.finish(session, job)


def test_a_job_of_an_undone_transaction_does_not_exist(db, queue, now):
    with pytest.raises(KeyError), db.write() as session:
        queue.put(session, Stage.ASSESS, "1", {}, now)
        raise KeyError
    assert queue.take(Stage.ASSESS, now) is None


def test_jobs_come_in_the_order_in_which_they_were_due(db, queue, now):
    put(db, queue, "late", now + timedelta(seconds=1))
    put(db, queue, "early", now)
    put(db, queue, "not yet", now + timedelta(minutes=5))
    taken = [queue.take(Stage.ASSESS, now + timedelta(seconds=2)) for _ in range(3)]
    assert [job.key if job else None for job in taken] == ["early", "late", None]


def test_a_stage_takes_only_its_own_jobs(db, queue, now):
    put(db, queue, "1", now, Stage.REPORT)
    assert queue.take(Stage.ASSESS, now) is None
    assert queue.take(Stage.REPORT, now).payload == {"key": "1"}


def test_the_same_key_waits_only_once_but_is_not_swallowed_by_one_at_work(db, queue, now):
    put(db, queue, "1", now)
    put(db, queue, "1", now)
    first = queue.take(Stage.ASSESS, now)
    assert queue.take(Stage.ASSESS, now) is None
    put(db, queue, "1", now)
    second = queue.take(Stage.ASSESS, now)
    assert second is not None
    finish(db, queue, first)
    finish(db, queue, second)
    with db.read() as session:
        assert session.query(Job).count() == 0


def test_the_job_of_a_dead_worker_comes_back_when_its_lease_is_over(db, queue, now):
    put(db, queue, "1", now)
    assert queue.take(Stage.ASSESS, now).attempts == 1
    assert queue.take(Stage.ASSESS, now + LEASE) is None
    again = queue.take(Stage.ASSESS, now + LEASE + timedelta(seconds=1))
    assert again.attempts == 2


def test_a_clock_that_goes_back_stops_no_job_and_keeps_no_lease(db, queue, now):
    put(db, queue, "1", now)
    earlier = now - timedelta(hours=1)
    first = queue.take(Stage.ASSESS, earlier)
    assert first is not None, "put just before the clock went back"
    assert queue.take(Stage.ASSESS, earlier) is None
    again = queue.take(Stage.ASSESS, earlier - timedelta(hours=1))
    assert again is not None, "leased just before the clock went back, by a worker that may be dead"


def test_a_look_at_the_time_a_moment_ago_takes_no_job_twice(db, queue, now):
    put(db, queue, "1", now)
    assert queue.take(Stage.ASSESS, now + timedelta(seconds=2)) is not None
    assert queue.take(Stage.ASSESS, now) is None


def test_the_longest_wait_of_a_failed_job_is_kept(db, queue, now):
    put(db, queue, "1", now)
    job = queue.take(Stage.ASSESS, now)
    with db.write() as session:
        queue.retry(session, job, "Failed.", now + LONGEST_WAIT)
    assert queue.take(Stage.ASSESS, now) is None
    assert queue.take(Stage.ASSESS, now + LONGEST_WAIT) is not None


def test_a_lease_of_one_process_is_kept_and_ends_with_its_length_or_a_clock_that_goes_back(db, now):
    minute = timedelta(minutes=1)

    def takes(holder, at):
        with db.write() as session:
            return installation.take_lease(session, "beat", holder, at, minute)

    assert takes("one", now)
    assert not takes("two", now + minute / 2)
    assert takes("two", now - timedelta(hours=1))
    assert not takes("one", now - timedelta(hours=1))


def test_at_a_start_the_leases_of_the_last_run_are_free(db, queue, now):
    put(db, queue, "1", now)
    queue.take(Stage.ASSESS, now)
    assert queue.release_all(now) == 1
    assert queue.take(Stage.ASSESS, now).key == "1"


def test_many_threads_take_each_job_once(db, queue, now):
    for number in range(40):
        put(db, queue, str(number), now)
    taken: list[str] = []

    def work():
        while job := queue.take(Stage.ASSESS, now):
            taken.append(job.key)
            finish(db, queue, job)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken, key=int) == [str(number) for number in range(40)]


def test_a_worker_runs_what_another_transaction_asks_for_at_once(db, queue):
    done = threading.Event()

    def handle(job):
        finish(db, queue, job)
        done.set()

    worker = Worker(db, queue, Stage.ASSESS, handle, lambda: datetime.now(UTC))
    worker.start()
    try:
        put(db, queue, "1", datetime.now(UTC))
        assert done.wait(5)
    finally:
        worker.stop()


def test_a_poison_job_does_not_hold_up_the_next_and_is_tried_again(db, queue):
    seen: list[str] = []
    start = datetime.now(UTC)

    def handle(job):
        seen.append(job.key)
        if job.key == "poison" and job.attempts < 2:
            raise ZeroDivisionError
        finish(db, queue, job)

    # A clock that runs fast, so that the wait for the second try is over quickly.
    worker = Worker(
        db,
        queue,
        Stage.ASSESS,
        handle,
        lambda: start + 20 * (datetime.now(UTC) - start) + timedelta(seconds=1),
    )
    put(db, queue, "poison", start)
    put(db, queue, "good", start)
    worker.start()
    try:
        wait_until(lambda: seen.count("poison") == 2 and "good" in seen, 20)
        wait_until(lambda: _jobs(db) == 0, 20)
    finally:
        worker.stop()
    assert seen[:2] == ["poison", "good"]
    assert worker.failures == 1


def _jobs(db):
    with db.read() as session:
        return session.query(Job).count()


def test_a_worker_outlives_a_database_that_is_away(db, queue):
    done = threading.Event()

    calls = iter([True, False])
    real = queue.take

    def take(stage, now):
        if next(calls, False):
            raise OSError
        return real(stage, now)

    queue.take = take

    def handle(job):
        finish(db, queue, job)
        done.set()

    put(db, queue, "1", datetime.now(UTC))
    worker = Worker(db, queue, Stage.ASSESS, handle, lambda: datetime.now(UTC))
    worker.start()
    try:
        assert done.wait(10)
    finally:
        worker.stop()
