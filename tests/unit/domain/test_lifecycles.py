"""Every step of every life cycle: what the tables allow happens, everything else is refused."""

from __future__ import annotations

from itertools import product

import pytest

from triage.domain.entry import ENTRY, EntryState, EntryStep
from triage.domain.result import RESULT, ResultState, ResultStep
from triage.domain.study import STUDY, StudyState, StudyStep
from triage.errors import IllegalTransition

CYCLES = [(STUDY, StudyState, StudyStep), (ENTRY, EntryState, EntryStep), (RESULT, ResultState, ResultStep)]
PAIRS = [(cycle, state, step) for cycle, states, steps in CYCLES for state, step in product(states, steps)]


@pytest.mark.parametrize(("cycle", "state", "step"), PAIRS)
def test_a_step_is_in_the_table_or_is_refused_by_name(cycle, state, step):
    if (state, step) in cycle.table:
        assert cycle.after(state, step) in type(state)
        assert state in cycle.sources(step)
    else:
        with pytest.raises(IllegalTransition, match=f"'{state}'.*'{step}'"):
            cycle.after(state, step)


@pytest.mark.parametrize(
    ("cycle", "states", "first"),
    [(STUDY, StudyState, "receiving"), (ENTRY, EntryState, "waiting"), (RESULT, ResultState, "built")],
)
def test_every_state_can_be_reached(cycle, states, first):
    reached = {states(first)}
    for _ in states:
        reached |= {after for (before, _step), after in cycle.table.items() if before in reached}
    assert reached == set(states)
