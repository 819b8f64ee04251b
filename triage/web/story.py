"""What happened to a study, as sentences in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triage.worklist.history import WORDS


def story(item: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the steps of list, pipeline and delivery of a study, oldest first."""
    steps = [{"at": event["at"], "sentence": _entry_sentence(event)} for event in item.get("events", ())]
    steps += [
        {"at": event["at"], "sentence": _pipeline_sentence(event)} for event in item.get("pipeline", ())
    ]
    steps.sort(key=lambda step: step["at"])
    return steps


def _entry_sentence(event: Mapping[str, Any]) -> str:
    sentence = WORDS.get(event["verb"], event["verb"])
    if event["actor"]:
        sentence += f" by {event['actor']}"
    return f"{sentence} ({event['cause']})" if event["cause"] else sentence


def _pipeline_sentence(event: Mapping[str, Any]) -> str:
    sentence = f"study: {event['after'].replace('_', ' ')}"
    return f"{sentence} ({event['cause']})" if event["cause"] else sentence
