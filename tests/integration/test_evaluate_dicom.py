"""`triage evaluate` over DICOM: what it judges is what the service would have said of the same files."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.models import write_model
from tests.reading_room import fill, uid_of
from triage.assess.classifier import Classifier
from triage.assess.engine import open_engine
from triage.assess.registry import find, models_dir
from triage.domain.finding import Outcome
from triage.learn.evaluate import evaluate
from triage.store import migrations
from triage.store.database import Database
from triage.worklist import actions

#: What is known of real films: the words of those who published them.
_LABELS = {
    "udacity_test3_dx_8bit_j2kr.dcm": "other",
    "udacity_test4_dx_8bit_jls.dcm": "normal",
    "udacity_test5_ct_lie_8bit_jls.dcm": "normal",
    "cr_philips_pa_m1_15bit_j2ki.dcm": "other",
    "cr_konica_m1_8bit_jpegbaseline_2446x2010.dcm": "other",
    "derived/gate/all_black.dcm": "not_frontal",
    "derived/gate/hip_labelled_chest_pa.dcm": "not_frontal",
    "derived/gate/lateral_1.dcm": "not_frontal",
    "derived/gate/real_dental_pano_cr_m1_modality_lut.dcm": "not_frontal",
    "derived/gate/thumbnail_32.dcm": "not_frontal",
}


def test_real_films_get_the_services_own_answers(shared: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "label", "split"])
        writer.writerows([file, label, "test"] for file, label in _LABELS.items())
    model = find(models_dir(), "chest")
    engine = open_engine(model, "torch")
    said: list[str] = []
    films = shared / "dicom" / "cxr"
    made = evaluate(model, engine, films, labels=labels, cache=tmp_path / "cache", say=said.append)
    assert "No figures of the border alone: DICOM films have none." in said
    classifier = Classifier(model, engine)
    service = {file: classifier.judge_file(shared / "dicom" / "cxr" / file).assessment for file in _LABELS}
    judged = made.judgement.judged
    ours = dict(zip((row.file for row in judged.films.rows), judged.diseased, strict=True))
    answered = {file: found for file, found in service.items() if found.outcome is not Outcome.NOT_EVALUATED}
    assert len(answered) >= 3
    for file, found in answered.items():
        assert ours[file] == pytest.approx(found.any_disease, abs=1e-6)
    refused = made.document["not_evaluated"]
    assert sum(refused.values()) == len(_LABELS) - len(answered)
    assert refused["too-small"] == 1
    row = made.document["gate"]
    assert row["n"] == len(_LABELS)
    assert row["others_rejected"] == 1.0
    assert row["frontal_recall"] == len([file for file in answered if _LABELS[file] != "not_frontal"]) / 5
    assert not (tmp_path / "cache").exists()


def test_what_readers_confirmed_is_judged_from_the_spool(sample_films, tmp_path: Path, command) -> None:
    config = tmp_path / "triage.toml"
    config.write_text(f'[site]\ndata_dir = "{tmp_path}"\n')
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    migrations.upgrade(db)
    now = datetime.now(UTC)
    fill(db, now, 7)
    frontal = [film for film in sample_films if film.scene == "frontal"][:7]
    (tmp_path / "spool").mkdir()
    with db.write() as session:
        for number, film in enumerate(frontal, 1):
            shutil.copy(film.path, tmp_path / "spool" / f"{number}.dcm")
            finding = "other" if film.diseased else "normal"
            actions.feedback(session, uid_of(number), "ada", now, finding=finding, agrees=True)
    db.close()
    code, out, _ = command("feedback", "export", "--config", config, "--json")
    assert code == 0
    assert json.loads(out)["films"] == 7
    write_model(tmp_path / "models")
    arguments = [
        "--data",
        tmp_path / "spool",
        "--models-dir",
        tmp_path / "models",
        "--engine",
        "torch",
        "--json",
        "--pictures",
        tmp_path / "pictures",
    ]
    code, out, err = command("evaluate", *arguments)
    assert code == 0, err
    assert {path.name for path in (tmp_path / "pictures").iterdir()} >= {"roc.png", "worst.png"}
    document = json.loads(out)
    assert document["any_disease"]["n"] == 7
    row = document["outcome"]
    assert row["n"] == 7
    assert sum(row.get(f"{said}_of_normal", 0) for said in ("positive", "undetermined", "negative")) == 1
    assert document["any_disease"]["per_source"]["feedback"]["normals"] == sum(
        not f.diseased for f in frontal
    )
    assert document["any_disease"]["threshold"] == 0.6


def test_a_film_that_is_missing_is_named(tmp_path: Path, command) -> None:
    (tmp_path / "labels.csv").write_text("file,label,split\nnone.dcm,normal,test\n")
    write_model(tmp_path / "models")
    code, out, err = command(
        "evaluate",
        "--data",
        tmp_path,
        "--models-dir",
        tmp_path / "models",
        "--engine",
        "torch",
    )
    assert code == 1
    assert out == ""
    assert "labels.csv names none.dcm, which is not there." in err
