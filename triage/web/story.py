"""What happened to a study, as sentences in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_VERBS: Mapping[str, str] = {
    "arrived": "entered the list",
    "assessed": "re-ranked after an assessment",
    "ordered": "re-ranked after an order",
    "claim": "claimed",
    "release": "released",
    "expire": "claim ended, its reader was idle",
    "complete": "marked as read",
    "withdraw": "withdrawn",
    "restore": "back in the list",
    "reopen": "back in the list",
    "reranked": "re-ranked",
    "pinned": "pinned ahead",
    "lowered": "lowered",
    "noted": "note written",
    "aged_out": "waited longer than the limit: moved ahead",
    "due_warning": "due soon",
    "due_breach": "overdue",
    "policy": "re-ranked under another policy",
}


def story(item: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the steps of list, pipeline and delivery of a study, oldest first."""
    steps = [{"at": event["at"], "sentence": _entry_sentence(event)} for event in item.get("events", ())]
    steps += [
        {"at": event["at"], "sentence": _pipeline_sentence(event)} for event in item.get("pipeline", ())
    ]
    steps.sort(key=lambda step: step["at"])
    return steps


def _entry_sentence(event: Mapping[str, Any]) -> str:
    sentence = _VERBS.get(event["verb"], event["verb"].replace("_", " "))
    if event["actor"]:
        sentence += f" by {event['actor']}"
    return f"{sentence} ({event['cause']})" if event["cause"] else sentence


def _pipeline_sentence(event: Mapping[str, Any]) -> str:
    sentence = f"study: {event['after'].replace('_', ' ')}"
    return f"{sentence} ({event['cause']})" if event["cause"] else sentence
