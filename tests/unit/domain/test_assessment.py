"""What a study's films say together: the worst of them, and never silence for one that nobody judged."""

from __future__ import annotations

import pytest

from tests.reports import answer, no_answer
from triage.domain.assessment import conclude
from triage.domain.finding import NotEvaluated, Outcome
from triage.report import wording

OTHER = "1.2.3.4.2"


def test_a_negative_film_beside_one_that_failed_says_that_one_was_not_judged():
    said = conclude([answer(), no_answer(NotEvaluated.UNDECODABLE, OTHER)])
    assert (said.outcome, said.reason, said.unseen) == (Outcome.NEGATIVE, None, NotEvaluated.UNDECODABLE)
    assert said.sentence.endswith("Another film was not evaluated: the pixels could not be decoded.")
    assert "not evaluated: the pixels could not be decoded" in wording.conclusion(said)


@pytest.mark.parametrize("reason", [NotEvaluated.LATERAL_ONLY, NotEvaluated.NOT_FRONTAL])
def test_a_film_that_is_no_matter_for_the_model_takes_nothing_from_the_answer(reason):
    said = conclude([answer(), no_answer(reason, OTHER)])
    assert (said.outcome, said.unseen, said.sentence) == (Outcome.NEGATIVE, None, "a sentence")
