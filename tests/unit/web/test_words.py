"""How the page puts things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from triage.domain.entry import EntryStep, EntryVerb
from triage.web import words
from triage.web.story import story
from triage.worklist.history import WORDS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dicom", "shown"),
    [
        ("DOE^JANE", "DOE, JANE"),
        ("DOE^JANE^M^^MD", "DOE, JANE M"),
        ("DOE", "DOE"),
        ("^JANE", "JANE"),
        ("", "(no name)"),
        ("^^", "(no name)"),
        ("=山田^太郎", "山田, 太郎"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
    ],
)
def test_a_person_name_reads_like_one(dicom: str, shown: str) -> None:
    assert words.patient_name(dicom) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 01"), (90_000, "1 d 1 h")],
)
def test_a_span_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert words.span(seconds) == shown


def item(waited: float, allowed: float) -> dict[str, object]:
    arrived = NOW - timedelta(minutes=waited)
    return {"arrived_at": arrived.isoformat(), "due_at": (arrived + timedelta(minutes=allowed)).isoformat()}


@pytest.mark.parametrize(
    ("waited", "allowed", "share", "said"),
    [
        (0, 120, 0, "due in 2 h 00"),
        (60, 120, 50, "due in 1 h 00"),
        (180, 120, 100, "overdue 1 h 00"),
        (5, 0, 100, "overdue 5 min"),
    ],
)
def test_the_due_bar_fills_up_and_stays_full(waited: float, allowed: float, share: int, said: str) -> None:
    row = item(waited, allowed)
    assert words.due_share(row, NOW) == share
    assert words.due_words(row, NOW) == said


def test_a_clock_that_went_back_shows_an_empty_bar() -> None:
    assert words.due_share(item(-10, 120), NOW) == 0


def test_reasons_name_findings_as_readers_do() -> None:
    pinned = "pinned by a: 5 min ahead (other bed)"
    row = {"band": 1, "reasons": ["bacterial_pneumonia 0.81: 180 min ahead", pinned]}
    said = words.why_line(row)
    assert said == "Bacterial pneumonia 0.81: 180 min ahead; Pinned by a: 5 min ahead (other bed)"
    assert words.why_line({"band": 1, "reasons": []}) == "In order of arrival"
    assert words.why_line({"band": 0, "reasons": []}).startswith("STAT by order")


def test_a_viewer_link_can_be_broken_out_of_by_no_value() -> None:
    study = {
        "study_instance_uid": "1.2.3",
        "accession_number": "a&b=c/../",
        "patient": {"id": "x y#"},
    }
    link = words.viewer_link("https://v/?s={study_uid}&a={accession_number}&p={patient_id}", study)
    assert link == "https://v/?s=1.2.3&a=a%26b%3Dc%2F..%2F&p=x%20y%23"
    assert words.viewer_link("", study) == ""


@pytest.mark.parametrize("verb", [*EntryStep, *EntryVerb])
def test_the_story_has_words_for_whatever_happens_to_an_entry(verb: EntryStep | EntryVerb) -> None:
    assert verb in WORDS
    event = {"at": NOW, "verb": verb.value, "actor": "scheduler", "cause": ""}
    (step,) = story({"events": [event]})
    assert step["sentence"] == f"{WORDS[verb]} by scheduler"
    assert "_" not in step["sentence"]
