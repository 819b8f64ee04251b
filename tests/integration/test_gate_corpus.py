"""The shipped model on everything that is, or is not, a frontal chest film, through the service's chain."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from triage.assess.classifier import Classifier
from triage.assess.engine import open_engine
from triage.assess.registry import find, models_dir
from triage.domain.finding import Outcome

#: Objects of which the corpus leaves open what they are, and which the chain judges: a film with a wrong body
#: part or age in its header, mirrored, or turned.
_ALSO_JUDGED = {
    "chest_labelled_abdomen.dcm",
    "infant_header.dcm",
    "mirrored.dcm",
    "rotated_90.dcm",
    "upside_down.dcm",
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("folder", "frontal", "others"), [("cxr/derived/gate", 10, 18), ("other", 0, 38)], ids=["gate", "other"]
)
def test_frontal_films_are_judged_and_nothing_else_is(
    shared: Path, folder: str, frontal: int, others: int
) -> None:
    with (shared / "dicom/manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith(f"{folder}/")]
    assert len(rows) == frontal + others == len(list((shared / "dicom" / folder).iterdir()))
    model = find(models_dir(), "chest")
    classifier = Classifier(model, open_engine(model, "torch"))
    found = {row["file"]: classifier.judge_file(shared / "dicom" / row["file"]).assessment for row in rows}
    judged = {file for file, answer in found.items() if answer.outcome is not Outcome.NOT_EVALUATED}
    wanted = {row["file"] for row in rows if row["expect"] == "assess"}
    assert judged == wanted | {f"{folder}/{name}" for name in _ALSO_JUDGED if folder.endswith("gate")}
    assert len(judged) == frontal
    assert all(found[file].reason is not None for file in found.keys() - judged)
