"""Readers' words on findings as a table of labels, in the form that `triage evaluate` reads."""

from __future__ import annotations

import csv
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from triage.store import assessments, installation
from triage.store.tables import Feedback, Instance, Study

COLUMNS = ("file", "label", "patient", "split", "source", "view", "model", "by", "at")


def rows(session: Session) -> Iterator[dict[str, str]]:
    """Yield one row for each study of which readers confirmed one class only, with the deciding film.

    A word that is taken back counts no more; a class that one reader confirms and another denies, or several
    confirmed classes, are no label. A film that retention removed can't be evaluated and is left out.
    """
    key = bytes.fromhex(installation.secret_key(session))
    words: dict[int, dict[tuple[str, str], Feedback]] = {}
    for word in session.scalars(select(Feedback).order_by(Feedback.id)):
        words.setdefault(word.study_id, {})[(word.finding, word.by)] = word
    for study_id, said in words.items():
        denied = {word.finding for word in said.values() if not word.agrees}
        confirmed = {word.finding for word in said.values() if word.agrees} - denied
        if len(confirmed) != 1:
            continue
        [label] = confirmed
        newest = max((word for word in said.values() if word.finding == label), key=lambda word: word.id)
        row = _row(session, key, study_id, label, newest)
        if row is not None:
            yield row


def _row(session: Session, key: bytes, study_id: int, label: str, word: Feedback) -> dict[str, str] | None:
    study = session.get_one(Study, study_id)
    _, film = assessments.evaluation(session, study)
    instance = session.get(Instance, film.instance_id) if film else None
    if instance is None or not instance.path:
        return None
    # Whose films belong together must be told without telling whose they are.
    patient = hmac.new(key, f"{study.patient_id_issuer}|{study.patient_id}".encode(), hashlib.sha256)
    return {
        "file": instance.path,
        "label": label,
        "patient": patient.hexdigest()[:16],
        "split": "test",
        "source": "feedback",
        "view": "frontal",
        "model": word.model,
        "by": word.by,
        "at": word.at.isoformat().replace("+00:00", "Z"),
    }


def write(session: Session, spool: Path) -> tuple[Path, int]:
    """Write `labels.csv` into the spool folder, beside the films that it names; returns it and its rows."""
    found = list(rows(session))
    target = spool / "labels.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    return target, len(found)
