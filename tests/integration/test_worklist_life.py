"""The whole life of the list as a state machine over the real store: no guarantee breaks, whatever happens.

Films arrive, are ordered, judged, sent again, claimed, read and cancelled, time passes, policies change and
processes restart, in any order that Hypothesis finds; after each step the list is compared with a model that
knows nothing but the guarantees.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event

from tests.reading_room import HIGH, LOW, arrive, uid_of
from triage.domain.assessment import FilmAssessment
from triage.domain.entry import EntryState, EntryVerb
from triage.domain.finding import Finding, FindingResult, NotEvaluated, Outcome, finding_state
from triage.domain.policy import Mode, Policy
from triage.domain.priority import Urgency
from triage.domain.study import CompletedBy, StudyState, StudyStep
from triage.errors import Conflict, IllegalTransition, RefusedOnce
from triage.store import assessments, entries, migrations, policies, studies
from triage.store.database import Database
from triage.store.tables import Entry, Instance
from triage.worklist import actions, history, listing, orders, policy_change, ups
from triage.worklist.orders import OrderRequest, Source
from triage.worklist.scheduler import Scheduler

MINUTE = timedelta(minutes=1)
POLICIES = (
    Policy(),
    Policy(name="short", upper_limit_minutes=30, max_advance=300),
    Policy(name="shadow", mode=Mode.SHADOW),
    Policy(name="even", minutes=dict.fromkeys(Policy().minutes, 60.0)),
)
numbers = st.integers(0, 30)
readers = st.sampled_from(["ada", "bob"])
shares = st.floats(0, 1, allow_nan=False)


def _template() -> Path:
    path = Path(tempfile.mkdtemp()) / "template.db"
    db = Database(f"sqlite:///{path}")
    migrations.upgrade(db)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


class Life(RuleBasedStateMachine):
    """One list, from empty."""

    template: Path

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "life.db")
        self._open()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.latest = self.now
        self.count = self.answers = 0
        self.stat: set[str] = set()
        self.arrived: dict[str, datetime] = {}
        self.seen: dict[str, str] = {}
        self.remembered: tuple[datetime, list[str]] | None = None

    def _open(self):
        self.db = Database(f"sqlite:///{self.folder / 'life.db'}")
        # Durability has tests of its own; here it would only cost time.
        event.listen(self.db.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        self.scheduler = Scheduler(self.db, lambda: self.now, every=MINUTE, claim_idle=45 * MINUTE)
        self.scheduler._name = "one"

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.folder)

    def tick(self):
        self.now += timedelta(seconds=1)
        self.latest = max(self.latest, self.now)

    def pick(self, number):
        return uid_of(number % self.count + 1)

    # What may happen

    @rule(stat=st.booleans())
    def film_arrives(self, stat):
        self.tick()
        self.count += 1
        uid = arrive(self.db, self.count, self.now, priority="STAT" if stat and self.count % 4 == 0 else "")
        self.arrived[uid] = self.now
        if stat and self.count % 4 == 0:
            self.stat.add(uid)

    @precondition(lambda self: self.count)
    @rule(number=numbers, urgency=st.sampled_from([*Urgency, None]), cancelled=st.booleans())
    def order_comes(self, number, urgency, cancelled):
        self.tick()
        uid = self.pick(number)
        with self.db.write() as session:
            request = OrderRequest(Source.REST, study_uid=uid, urgency=urgency, cancelled=cancelled)
            orders.receive(session, request, self.now, "ris")
        with self.db.read() as session:
            entry = session.get(Entry, studies.by_uid(session, uid).id)
            stat = entry.urgency is Urgency.STAT
            if entry.state in (EntryState.WAITING, EntryState.CLAIMED):
                assert cancelled or urgency in (None, entry.urgency)
        (self.stat.add if stat else self.stat.discard)(uid)

    @precondition(lambda self: self.count)
    @rule(number=numbers, one=shares, two=shares, fails=st.booleans())
    def film_is_judged(self, number, one, two, fails):
        self.tick()
        self.answers += 1
        with self.db.write() as session:
            study = studies.by_uid(session, self.pick(number))
            if study.state is not StudyState.RECEIVING:
                studies.step(session, study, StudyStep.REOPEN, self.now)
            film = session.query(Instance).filter_by(study_id=study.id).one()
            probabilities = dict.fromkeys(Finding, 0.0) | {Finding.TUBERCULOSIS: one, Finding.OTHER: two}
            found = tuple(
                FindingResult(f, p, finding_state(p, LOW, HIGH), LOW, HIGH) for f, p in probabilities.items()
            )
            worst = max(one, two)
            outcome = (
                Outcome.POSITIVE
                if worst >= HIGH
                else Outcome.UNDETERMINED
                if worst >= LOW
                else Outcome.NEGATIVE
            )
            answer = FilmAssessment(
                film.sop_instance_uid,
                Outcome.NOT_EVALUATED if fails else outcome,
                NotEvaluated.MODEL_FAILURE if fails else None,
                "Judged.",
                None if fails else 0.9,
                None if fails else worst,
                () if fails else found,
                "chest/1",
                f"{self.answers:064}",
                self.now,
                self.now,
            )
            assessments.add(session, film, answer, any_disease_low=LOW, any_disease_high=HIGH)
            studies.complete(session, study.id, CompletedBy.QUIET, self.now)
            session.refresh(study)
            studies.step(session, study, StudyStep.ASSESS, self.now)
            last = StudyStep.FAIL if fails else StudyStep.ASSESSED
            studies.step(session, study, last, self.now)
            policy = policies.active(session)
            entries.rerank(session, study, policy, self.now, verb=EntryVerb.ASSESSED, cause="judged")

    @precondition(lambda self: self.count)
    @rule(number=numbers, reader=readers, verb=st.sampled_from(["claim", "release", "complete", "note"]))
    def reader_acts(self, number, reader, verb):
        self.tick()
        uid = self.pick(number)
        more = {"text": "seen"} if verb == "note" else {}
        before = self._state(uid)
        try:
            with self.db.write() as session:
                getattr(actions, verb)(session, uid, reader, self.now, **more)
        except (Conflict, IllegalTransition):
            assert self._state(uid) == before

    @precondition(lambda self: self.count)
    @rule(number=numbers, minutes=st.integers(-200, 200).filter(bool))
    def reader_shifts(self, number, minutes):
        self.tick()
        uid = self.pick(number)
        if self._state(uid) in ("waiting", "claimed"):
            with self.db.write() as session:
                actions.pin(session, uid, "ada", self.now, minutes=minutes, reason="ward called")

    @precondition(lambda self: self.count)
    @rule(number=numbers, transaction=st.sampled_from(["2.25.1", "2.25.2"]), state=st.sampled_from(ups.State))
    def machine_acts(self, number, transaction, state):
        self.tick()
        uid = self.pick(number)
        before = self._state(uid)
        with self.db.read() as session:
            workitem = session.get(Entry, studies.by_uid(session, uid).id).workitem_uid
        change = ups.Dataset()
        change.TransactionUID, change.ProcedureStepState = transaction, state.value
        try:
            with self.db.write() as session:
                ups.change_state(session, workitem, change, "ae:READER", self.now)
        except (ups.UpsError, RefusedOnce):
            assert self._state(uid) == before

    @precondition(lambda self: self.count)
    @rule(number=numbers)
    def film_is_sent_again(self, number):
        self.tick()
        with self.db.write() as session:
            study = studies.by_uid(session, self.pick(number))
            study.last_instance_at = self.now
            policy = policies.active(session)
            assert not entries.rerank(
                session, study, policy, self.now, verb=EntryVerb.RECEIVED, cause="sent again"
            )

    @precondition(lambda self: self.count)
    @rule(number=numbers)
    def film_comes_late(self, number):
        self.tick()
        uid = self.pick(number)
        before = self._state(uid)
        if before in ("read", "claimed"):
            with self.db.write() as session:
                study, policy = studies.by_uid(session, uid), policies.active(session)
                entries.show_new_film(session, study, policy, self.now, actor="receive")
            self.seen[uid] = {"read": "waiting"}.get(before, before)
            assert self._state(uid) == self.seen[uid]

    @rule(policy=st.sampled_from(POLICIES), back=st.booleans())
    def policy_changes(self, policy, back):
        self.tick()
        with self.db.write() as session:
            old = policies.active(session)
            policy_change.switch(session, old, self.now, "admin")
        before = self._list()
        with self.db.write() as session:
            policy_change.switch(session, policy, self.now, "admin")
        if back:
            with self.db.write() as session:
                policy_change.switch(session, old, self.now, "admin")
            assert self._list() == before

    @rule(minutes=st.integers(1, 120))
    def time_passes(self, minutes):
        if self.now >= self.latest:
            self.remembered = (self.now, self._list())
        self.now += minutes * MINUTE

    @rule()
    def clock_jumps_back(self):
        self.now -= timedelta(milliseconds=500)

    @rule()
    def scheduler_beats(self):
        self.tick()
        self.scheduler.beat()
        again = self._list()
        self.scheduler.beat()
        assert self._list() == again

    @rule()
    def process_restarts(self):
        before = self._list()
        self.db.close()
        self._open()
        assert self._list() == before

    # What must hold

    def _list(self):
        uids, cursor = [], None
        with self.db.read() as session:
            while True:
                page = listing.page(session, self.now, limit=7, cursor=cursor)
                uids += [item["study_instance_uid"] for item in page["items"]]
                assert [i["position"] for i in page["items"]] == list(
                    range(len(uids) - len(page["items"]) + 1, len(uids) + 1)
                )
                cursor = page["next_cursor"]
                if cursor is None:
                    return uids

    def _state(self, uid):
        with self.db.read() as session:
            return session.get(Entry, studies.by_uid(session, uid).id).state.value

    @invariant()
    def the_guarantees_hold(self):
        if not self.count:
            return
        with self.db.read() as session:
            rows = {entry.study_uid: entry for entry in session.query(Entry).all()}
            policy = policies.active(session)
            assert set(rows) == set(self.arrived), "a film was lost or doubled"
            shown = self._list()
            waiting = [uid for uid, entry in rows.items() if entry.state is EntryState.WAITING]
            assert sorted(shown) == sorted(waiting), "each waiting film is listed exactly once"
            most = timedelta(minutes=policy.max_advance)
            for place, uid in enumerate(shown):
                entry = rows[uid]
                assert entry.arrived_at == self.arrived[uid], "arrival never moves"
                assert (entry.band == 0) == (uid in self.stat), "only a human's word makes STAT"
                ranking = entries.ranking_of(entry, policy)
                assert ranking.key.effective_at == entry.effective_at, "the explanation reproduces the key"
                used = sum(round(term.minutes * 60_000_000) for term in ranking.terms if term.used)
                assert timedelta(microseconds=used) == entry.arrived_at - entry.effective_at
                for ahead in (rows[other] for other in shown[:place]):
                    assert ahead.band <= entry.band, "STAT is before everything"
                    if ahead.band == entry.band:
                        assert ahead.arrived_at - entry.arrived_at <= most, "overtaking is bounded"
            for uid, entry in rows.items():
                assert (entry.state is EntryState.CLAIMED) == (
                    entry.claimed_by is not None and entry.state is not EntryState.READ
                )
                before, self.seen[uid] = self.seen.get(uid, "waiting"), entry.state.value
                assert before != "read" or entry.state is EntryState.READ, "what was read stays read"

    @invariant()
    def history_repeats_what_was_seen(self):
        if self.count and self.remembered and self.now > self.remembered[0] + MINUTE:
            moment, then = self.remembered
            with self.db.read() as session:
                past = history.at(session, moment, 500)
            assert [item["study_instance_uid"] for item in past["items"]] == then
            self.remembered = None


def _walk(examples: int, steps: int) -> None:
    Life.template = _template()
    case = Life.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    case("runTest").runTest()


def test_no_guarantee_breaks_in_a_short_life():
    _walk(examples=6, steps=25)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_no_guarantee_breaks_in_ten_thousand_steps():
    _walk(examples=100, steps=100)
