"""A database as a hospital has it after a year: most studies read, some waiting. Synthetic patients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from triage.domain.finding import Finding, FindingResult, Outcome, finding_state
from triage.domain.policy import Policy
from triage.domain.priority import Evaluation, Inputs, Urgency
from triage.store import assessments, entries
from triage.store.database import Database
from triage.store.tables import FilmAssessmentRow
from triage.store.types import to_micros

LOW, HIGH = 0.3, 0.6
_EVERY = timedelta(seconds=9)
_HOUR = 3_600_000_000
_KINDS = 500


def uid_of(number: int) -> str:
    return f"1.2.826.0.1.3680043.10.1471.9.{number}"


def judged(draw: random.Random) -> Evaluation:
    """Return the answer for one film: every fifth or so shows something."""
    findings = []
    for finding in Finding:
        probability = round(draw.uniform(0.4, 1) if draw.random() < 0.05 else draw.uniform(0, 0.25), 4)
        findings.append(FindingResult(finding, probability, finding_state(probability, LOW, HIGH), LOW, HIGH))
    worst = max(f.probability for f in findings)
    outcome = (
        Outcome.POSITIVE if worst >= HIGH else Outcome.UNDETERMINED if worst >= LOW else Outcome.NEGATIVE
    )
    return Evaluation(outcome, None, False, worst, LOW, HIGH, tuple(findings))


def _kind(draw: random.Random) -> dict[str, Any]:
    """Return what the tables hold of one sort of study, with times counted from its arrival."""
    chance = draw.random()
    urgency = Urgency.STAT if chance < 0.01 else Urgency.URGENT if chance < 0.06 else Urgency.ROUTINE
    said = judged(draw)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    findings = assessments.findings_to_json(said.findings)
    film = FilmAssessmentRow(
        outcome=said.outcome,
        any_disease=said.any_disease,
        model="chest/1",
        findings=findings,
        sentence="Synthetic.",
    )
    columns = entries.columns(Inputs("1", start, urgency, said), film, Policy())
    return {
        "urgency": urgency.value,
        "outcome": said.outcome.value,
        "any_disease": said.any_disease,
        "findings": orjson.dumps(findings).decode(),
        "band": columns["band"],
        "advance": columns["advance_micros"],
        "due": to_micros(columns["due_at"]) - to_micros(start),
        "standing": orjson.dumps(columns["standing"]).decode(),
        "answer": orjson.dumps(columns["answer"]).decode(),
        "policy": columns["policy"],
    }


def fill(db: Database, studies: int, waiting: int, now: datetime, seed: int = 1) -> None:
    """Write `studies` studies into an empty database, the newest `waiting` of them unread."""
    draw = random.Random(seed)
    kinds = [_kind(draw) for _ in range(_KINDS)]
    for first in range(1, studies + 1, 20_000):
        rows: dict[str, list[dict[str, Any]]] = {}
        for number in range(first, min(first + 20_000, studies + 1)):
            arrived = to_micros(now - _EVERY * (studies - number))
            for table, row in _study(number, arrived, number > studies - waiting, draw.choice(kinds)):
                rows.setdefault(table, []).append(row)
        connection: Any = db.engine.raw_connection()
        connection.execute("BEGIN IMMEDIATE")
        for table, values in rows.items():
            names = list(values[0])
            marks = ", ".join("?" * len(names))
            statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
            connection.executemany(statement, [tuple(row.values()) for row in values])
        connection.commit()
        connection.close()
    with db.engine.connect() as opened:
        opened.exec_driver_sql("ANALYZE")
        opened.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _study(
    number: int, arrived: int, unread: bool, kind: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    uid = uid_of(number)
    yield "study", {
        "id": number, "study_uid": uid, "patient_id": f"SYN-{number:07d}", "patient_id_issuer": "",
        "patient_name": f"SYNTHETIC^P{number}", "patient_birth_date": "19610403", "patient_sex": "F",
        "accession_number": f"A{number:08d}", "study_date": "20260301", "study_time": "120000",
        "description": "Chest PA", "institution_name": "", "object_urgency": kind["urgency"],
        "state": "assessed", "state_sentence": "", "version": 1, "sender": "SIMULATOR",
        "arrived_at": arrived, "last_instance_at": arrived,
    }  # fmt: skip
    yield "instance", {
        "id": number, "study_id": number, "study_version": 1, "study_uid": uid, "series_uid": f"{uid}.1",
        "sop_instance_uid": f"{uid}.1.1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "modality": "DX", "digest": f"{number:064x}",
        "size": 9_000_000, "path": f"{number}.dcm", "sender": "SIMULATOR", "received_at": arrived,
        "current": True, "conflict": False, "quarantine": "",
    }  # fmt: skip
    yield "assessment", {
        "id": number, "instance_id": number, "study_id": number, "study_version": 1,
        "sop_instance_uid": f"{uid}.1.1", "outcome": kind["outcome"], "sentence": "Synthetic.",
        "frontal": 0.99, "any_disease": kind["any_disease"], "any_disease_low": LOW, "any_disease_high": HIGH,
        "findings": kind["findings"], "model": "chest/1", "model_digest": "d" * 64,
        "started_at": arrived, "finished_at": arrived,
    }  # fmt: skip
    place = {
        "band": kind["band"], "effective_at": arrived - kind["advance"], "arrived_at": arrived,
        "due_at": arrived + kind["due"], "policy": kind["policy"],
    }  # fmt: skip
    yield "entry", {
        "study_id": number, "study_uid": uid, "state": "waiting" if unread else "read", **place,
        "urgency": kind["urgency"], "advance_micros": kind["advance"], "standing": kind["standing"],
        "answer": kind["answer"], "pins": "[]", "aged_out": False, "due_warned": False, "due_breached": False,
        "read_at": None if unread else arrived + _HOUR, "note": "", "revision": 2,
    }  # fmt: skip
    happened = [(arrived, "waiting", "arrived")] + ([] if unread else [(arrived + _HOUR, "read", "complete")])
    for at, state, verb in happened:
        event = {"study_id": number, "at": at, "verb": verb, "actor": "", "cause": "", "state": state}
        yield "entry_event", {**event, "model": "chest/1", **place}
