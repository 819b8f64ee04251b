"""The guarantees of the order, each as a property over any films and any policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from triage.domain.finding import Finding, FindingResult, NotEvaluated, Outcome, finding_state
from triage.domain.policy import Mode, Policy
from triage.domain.priority import (
    Evaluation,
    Inputs,
    Pin,
    Urgency,
    order,
    ramp,
    rank,
    urgency_of_word,
)
from triage.errors import PolicyError

T0 = datetime(2026, 3, 1, tzinfo=UTC)
LOW, HIGH = 0.2, 0.6

probabilities = st.floats(0, 1, allow_nan=False)
moments = st.integers(0, 3_000_000_000).map(lambda us: T0 + timedelta(microseconds=us))
uids = st.integers(1, 10**9).map(lambda n: f"2.25.{n}")


def result(finding: Finding, probability: float) -> FindingResult:
    return FindingResult(finding, probability, finding_state(probability, LOW, HIGH), LOW, HIGH)


@st.composite
def evaluations(draw):
    kind = draw(st.sampled_from(["pending", "judged", "not_evaluated", "failed"]))
    if kind == "pending":
        return Evaluation()
    if kind == "not_evaluated":
        return Evaluation(Outcome.NOT_EVALUATED, NotEvaluated.NOT_FRONTAL)
    if kind == "failed":
        return Evaluation(Outcome.NOT_EVALUATED, NotEvaluated.MODEL_FAILURE, failed=True)
    findings = tuple(result(finding, draw(probabilities)) for finding in Finding)
    disease = draw(probabilities)
    worst = max([disease, *(f.probability for f in findings)])
    outcome = (
        Outcome.POSITIVE if worst >= HIGH else Outcome.UNDETERMINED if worst >= LOW else Outcome.NEGATIVE
    )
    unseen = draw(st.sampled_from([None, NotEvaluated.UNDECODABLE]))
    return Evaluation(outcome, None, False, disease, LOW, HIGH, findings, unseen, draw(st.booleans()))


pins = st.lists(
    st.builds(Pin, st.floats(-240, 240, allow_nan=False), st.just("reason"), st.just("reader"), st.just(T0)),
    max_size=3,
).map(tuple)

inputs = st.builds(
    Inputs,
    study_uid=uids,
    arrived_at=moments,
    urgency=st.sampled_from(Urgency),
    evaluation=evaluations(),
    pins=pins,
    aged_out=st.booleans(),
)
lists = st.lists(inputs, max_size=30, unique_by=lambda item: item.study_uid)


@st.composite
def policies(draw):
    most = draw(st.floats(0, 600, allow_nan=False))
    minutes = {name: draw(st.floats(0, most, allow_nan=False)) for name in Policy().minutes}
    return Policy(
        name="any",
        mode=draw(st.sampled_from(Mode)),
        minutes=minutes,
        max_advance=most,
        upper_limit_minutes=draw(st.floats(0, 600, allow_nan=False)),
    )


@given(lists, policies())
def test_stat_is_always_before_everything_else(films, policy):
    ranked = order([rank(film, policy) for film in films])
    stat = {film.study_uid for film in films if film.urgency is Urgency.STAT}
    assert {r.key.study_uid for r in ranked[: len(stat)]} == stat


@given(lists, policies())
def test_overtaking_is_bounded_by_the_difference_of_the_advances(films, policy):
    ranked = order([rank(film, policy) for film in films])
    for place, behind in enumerate(ranked):
        for ahead in ranked[:place]:
            if ahead.key.band == behind.key.band and ahead.key.arrived_at > behind.key.arrived_at:
                later = ahead.key.arrived_at - behind.key.arrived_at
                assert later <= ahead.advance - behind.advance
                assert later <= timedelta(minutes=policy.max_advance) + timedelta(microseconds=1)


@given(inputs, policies())
def test_an_advance_is_never_negative_and_never_above_the_limit(film, policy):
    advance = rank(film, policy).advance
    assert timedelta(0) <= advance <= timedelta(minutes=policy.max_advance) + timedelta(microseconds=1)


@given(inputs, policies())
def test_the_used_terms_add_up_to_the_key_exactly(film, policy):
    ranking = rank(film, policy)
    used = sum(round(term.minutes * 60_000_000) for term in ranking.terms if term.used)
    assert ranking.key.effective_at == film.arrived_at - timedelta(microseconds=used)
    assert ranking.key.arrived_at == film.arrived_at


@given(lists, policies(), st.randoms(use_true_random=False))
def test_any_permutation_gives_the_same_total_order(films, policy, random):
    ranked = order([rank(film, policy) for film in films])
    shuffled = list(films)
    random.shuffle(shuffled)
    assert order([rank(film, policy) for film in shuffled]) == ranked
    assert len({r.key for r in ranked}) == len(films)


@given(lists, inputs, inputs, policies())
def test_changing_one_film_never_swaps_two_others(films, before, after, policy):
    assume(before.study_uid not in {film.study_uid for film in films})
    after = replace(after, study_uid=before.study_uid)

    def others(changed):
        ranked = order([rank(film, policy) for film in [*films, changed]])
        return [r.key.study_uid for r in ranked if r.key.study_uid != before.study_uid]

    assert others(before) == others(after)


@given(inputs, policies(), st.sampled_from(Finding), probabilities, probabilities)
def test_a_higher_probability_never_moves_a_film_back(film, policy, finding, one, other):
    def at(probability):
        rest = [result(f, 0.3) for f in Finding if f is not finding]
        said = Evaluation(
            Outcome.POSITIVE, None, False, 0.3, LOW, HIGH, (*rest, result(finding, probability))
        )
        return rank(replace(film, evaluation=said), policy).key

    assert at(max(one, other)) <= at(min(one, other))


@given(inputs, policies())
def test_a_higher_urgency_never_moves_a_film_back(film, policy):
    keys = [
        rank(replace(film, urgency=urgency), policy).key
        for urgency in (Urgency.STAT, Urgency.URGENT, Urgency.ROUTINE)
    ]
    assert keys == sorted(keys)


@given(lists)
def test_in_shadow_mode_the_list_is_first_in_first_out(films):
    plain = [replace(film, urgency=Urgency.ROUTINE) for film in films]
    ranked = order([rank(film, Policy(mode=Mode.SHADOW)) for film in plain])
    assert [r.key.arrived_at for r in ranked] == sorted(film.arrived_at for film in plain)


@given(inputs, policies())
def test_an_aged_out_film_can_only_be_overtaken_by_what_arrived_before_it(film, policy):
    assume(policy.mode is Mode.LIVE)
    ranking = rank(replace(film, aged_out=True), policy)
    lowered = sum(pin.minutes for pin in film.pins) < 0
    assert ranking.advance >= timedelta(minutes=policy.max_advance) - timedelta(microseconds=1) or lowered


@given(inputs)
def test_a_film_without_an_answer_never_sinks_below_a_negative_one_that_came_with_it(film):
    film = replace(film, pins=(), aged_out=False)
    negative = Evaluation(
        Outcome.NEGATIVE, None, False, 0.0, LOW, HIGH, tuple(result(f, 0.0) for f in Finding)
    )
    unknown = Evaluation(Outcome.NOT_EVALUATED, NotEvaluated.UNDECODABLE)
    policy = Policy()
    assert (
        rank(replace(film, evaluation=unknown), policy).key
        <= rank(replace(film, evaluation=negative), policy).key
    )


@given(inputs, policies(), evaluations())
def test_a_study_that_is_pending_has_at_least_the_advance_of_one_without_an_answer(film, policy, said):
    pending = replace(film, evaluation=replace(said, settled=False))
    without = replace(film, evaluation=Evaluation())
    assert rank(pending, policy).advance >= rank(without, policy).advance


@settings(max_examples=200)
@given(st.floats(0, 1), st.floats(0, 1), probabilities, probabilities)
def test_the_ramp_never_falls(low, high, one, other):
    low, high = min(low, high), max(low, high)
    assert ramp(min(one, other), low, high) <= ramp(max(one, other), low, high)
    assert ramp(high, low, high) == 1
    assert low == 0 or ramp(low - 1e-9, low, high) == 0


@pytest.mark.parametrize(
    ("word", "urgency"),
    [
        ("STAT", Urgency.STAT),
        ("stat ", Urgency.STAT),
        ("HIGH", Urgency.URGENT),
        ("ASAP", Urgency.URGENT),
        ("URGENT", Urgency.URGENT),
        ("ROUTINE", Urgency.ROUTINE),
        ("LOW", Urgency.ROUTINE),
        ("", Urgency.ROUTINE),
        ("STATISTICS", Urgency.ROUTINE),
    ],
)
def test_only_the_known_words_raise_a_study(word, urgency):
    assert urgency_of_word(word) is urgency


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"minutes": {"urgent": -1}}, "minutes.urgent"),
        ({"minutes": {"urgent": 500}}, "minutes.urgent"),
        ({"minutes": {"plague": 1}}, "plague"),
        ({"max_advance": "much"}, "max_advance"),
        ({"max_advance": float("nan")}, "max_advance"),
        ({"mode": "dead"}, "live"),
        ({"frieze": 3}, "Did you mean 'freeze'"),
        ({"minutes": 3}, "minutes"),
        ({"freeze": True}, "freeze"),
    ],
)
def test_a_policy_that_would_break_a_guarantee_is_refused_in_one_sentence(raw, expected):
    with pytest.raises(PolicyError, match=expected) as caught:
        Policy.from_mapping(raw)
    assert "\n" not in str(caught.value)


def test_a_policys_digest_depends_on_what_it_says_alone():
    assert (
        Policy.from_mapping({"max_advance": 240}).digest == Policy.from_mapping({"max_advance": 240.0}).digest
    )
    assert Policy.from_mapping({"max_advance": 241}).digest != Policy().digest
    assert Policy.from_mapping(Policy().to_mapping()).digest == Policy().digest
