"""Waiting times of a simulated reading room."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from triage.cli.main import app
from triage.domain.finding import Finding, Outcome
from triage.domain.policy import Policy
from triage.domain.priority import Evaluation, Urgency
from triage.simulate import room
from triage.simulate.cases import START, Case, draw
from triage.simulate.compare import compare
from triage.simulate.scenario import Kind, Scenario, ScenarioError

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "config" / "scenarios").glob("*.toml"))
PLAIN = {"name": "small", "class": [{"name": "normal", "share": 1.0}]}
MINUTE = timedelta(minutes=1)


def case(number: int, minute: float, said: Evaluation, urgency: Urgency = Urgency.ROUTINE) -> Case:
    at = START + minute * MINUTE
    return Case(number, Kind("a", 1.0, urgency), at, at, said, 10 * MINUTE)


def taken(cases: list[Case], place: room.Place, limit: timedelta | None = None) -> list[int]:
    scenario = Scenario("by hand", (Kind("a", 1.0),), days=1)
    reads = room.run(scenario, cases, place, limit)
    return [read.case.number for read in sorted(reads, key=lambda read: read.begun_at or START)]


def test_a_reader_takes_the_first_of_the_list() -> None:
    quiet = Evaluation(Outcome.NEGATIVE)
    ill = Evaluation(Outcome.POSITIVE, any_disease=0.9, any_disease_low=0.3, any_disease_high=0.6)
    cases = [
        case(1, 0, quiet),
        case(2, 1, quiet),
        case(3, 2, ill),
        case(4, 3, quiet, Urgency.STAT),
        case(5, 4, quiet),
    ]
    # The first is taken at once; then STAT, the ill one, and the others as they came.
    assert taken(cases, room.by_policy(Policy())) == [1, 4, 3, 2, 5]
    assert taken(cases, room.by_arrival) == [1, 2, 3, 4, 5]


def test_who_waited_too_long_goes_ahead_of_new_disease() -> None:
    quiet = Evaluation(Outcome.NEGATIVE)
    ill = Evaluation(Outcome.POSITIVE, any_disease=0.9, any_disease_low=0.3, any_disease_high=0.6)
    cases = [case(1, 0, quiet), case(2, 1, quiet), case(3, 2, ill)]
    policy = Policy(upper_limit_minutes=5)
    assert taken(cases, room.by_policy(policy)) == [1, 3, 2]
    assert taken(cases, room.by_policy(policy), 5 * MINUTE) == [1, 2, 3]


def test_nobody_reads_while_no_reader_is_there() -> None:
    scenario = Scenario("night", (Kind("a", 1.0),), days=1, readers=(0,) * 8 + (1,) * 16)
    [read] = room.run(scenario, [case(1, 30, Evaluation(Outcome.NEGATIVE))], room.by_arrival)
    assert read.begun_at == START + timedelta(hours=8)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_shipped_scenarios_show_what_a_policy_is_for(file: Path) -> None:
    scenario = Scenario.from_mapping(tomllib.loads(file.read_text()))
    rows = {row.name: row for row in compare(scenario, Policy(), 1)}
    assert rows["tuberculosis"].policy.mean < rows["tuberculosis"].fifo.mean
    assert rows["all"].count == sum(row.count for name, row in rows.items() if name != "all")
    assert rows["all"].policy.left == rows["all"].fifo.left == 0
    assert rows == {row.name: row for row in compare(scenario, Policy(), 1)}, "the same seed, the same world"
    assert draw(scenario, 1) != draw(scenario, 2)


def test_a_policy_in_shadow_waits_as_first_in_first_out() -> None:
    scenario = Scenario.from_mapping({**PLAIN, "arrivals_per_hour": 15})
    shadow = Policy.from_mapping({"mode": "shadow"})
    for row in compare(scenario, shadow, 3):
        assert row.policy == row.fifo


def test_the_model_answers_as_often_as_the_scenario_says() -> None:
    kind = {"name": "tb", "share": 1.0, "finding": "tuberculosis", "present": 0.8, "not_evaluated": 0.1}
    scenario = Scenario.from_mapping({"name": "x", "days": 10, "arrivals_per_hour": 10, "class": [kind]})
    cases = draw(scenario, 5)
    assert len(cases) == pytest.approx(2400, rel=0.1)
    said = [one.evaluation.outcome for one in cases]
    assert said.count(Outcome.POSITIVE) / len(said) == pytest.approx(0.8, abs=0.03)
    assert said.count(Outcome.NOT_EVALUATED) / len(said) == pytest.approx(0.1, abs=0.03)
    assert {f.finding for one in cases for f in one.evaluation.findings} == {Finding.TUBERCULOSIS}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dayz": 3}, "Did you mean 'days'?"),
        ({"days": 0}, "from 1 to 366"),
        ({"readers": 0}, "Nobody reads"),
        ({"readers": [1, 2]}, "24"),
        ({"readers": 1.5}, "whole numbers"),
        ({"arrivals_per_hour": -1}, "from 0"),
        ({"arrivals_per_hour": 9999, "days": 366}, "take fewer days"),
        ({"class": []}, "at least one"),
        ({"class": [{"name": "a", "share": 0.5}]}, "add up to 0.5"),
        ({"class": [{"name": "a", "share": 1, "urgency": "soon"}]}, "urgency 'soon' is not known"),
        ({"class": [{"name": "a", "share": 1, "present": 0.9, "undetermined": 0.2}]}, "more than 1"),
        ({"class": [{"name": "a", "share": True}]}, "share of 'a' must be a number"),
        ({"class": [{"share": 1}]}, "'name' is missing"),
    ],
)
def test_a_scenario_that_cannot_be_says_why(change: dict, sentence: str) -> None:
    with pytest.raises(ScenarioError, match=sentence.replace("?", r"\?")):
        Scenario.from_mapping({**PLAIN, **change})


def test_the_command_prints_both_orders(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    file.write_text('name = "small"\ndays = 1\n[[class]]\nname = "normal"\nshare = 1.0\n')
    shown = CliRunner().invoke(app, ["simulate", str(file), "--json", "--seed", "4"])
    assert shown.exit_code == 0
    document = json.loads(shown.stdout)
    assert document["seed"] == 4
    assert [row["class"] for row in document["classes"]] == ["normal", "all"]
    assert set(document["classes"][0]["fifo"]) >= {"mean_minutes", "p95_minutes", "late_share", "left"}
    assert "normal" in CliRunner().invoke(app, ["simulate", str(file)]).stdout
