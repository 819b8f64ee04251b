"""Which studies are due: the same as a look at all of them would find, but for what comes together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triage.domain.study import CompletedBy
from triage.receive.watch import TOGETHER, Watch, Watches

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["object", "hurry", "hold", "free", "wait"]),
        st.integers(0, 5),
        st.floats(0.0, 3.0),
    ),
    max_size=60,
)
QUIET = 2.0


@given(STEPS)
def test_every_study_is_taken_once_when_it_is_due_and_never_while_it_is_held(steps):
    watches, now, held = Watches(), 0.0, set()
    known: dict[int, Watch] = {}
    for what, study, seconds in steps:
        if what == "object":
            due = now + QUIET
            watch = watches.add(study, Watch(now, due, CompletedBy.QUIET, (str(study), "")))
            watch.last, watch.due = now, due
            known[study] = watch
        elif what == "hurry" and study in known:
            watches.hurry(study, known[study], min(known[study].due, now + seconds))
        elif what == "hold":
            held.add(str(study))
        elif what == "free":
            held.discard(str(study))
            watches.look_at_held(now)
        else:
            now += seconds
        taken = [number for number, _ in watches.take_due(now, lambda watch: watch.sender[0] in held)]
        for number in taken:
            assert known[number].due <= now + TOGETHER
            assert str(number) not in held
            del known[number]
        # What is overdue and free is taken at once, or was held a moment ago and is looked at soon.
        late = [number for number, watch in known.items() if watch.due <= now and str(number) not in held]
        assert not late or watches.next <= now + 0.5
    held.clear()
    rest = {number for number, _ in watches.take_due(now + 10.0, lambda _: False)}
    assert rest == set(known)
    assert watches.next == float("inf")


def test_an_object_costs_the_same_whether_ten_or_ten_thousand_studies_wait():
    watches = Watches()
    for study in range(10_000):
        watches.add(study, Watch(0.0, 60.0, CompletedBy.QUIET, ("PACS", "")))
    asked = []
    assert watches.take_due(1.0, lambda watch: bool(asked.append(watch))) == []
    assert asked == [], "nobody who is not due is looked at"
    assert watches.next == 60.0
