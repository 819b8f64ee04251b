"""The forms that films come in, their splits, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from triage.errors import DataError
from triage.learn.data import read_films, split_of


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60), value, np.uint8))


def table(root: Path, rows: list[dict[str, str]], name: str = "index.csv") -> Path:
    for row in rows:
        picture(root / row["file"])
    with (root / name).open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_competition_folders_with_their_misspelling(tmp_path):
    for file in (
        "train/NORMAL/a.jpg",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "train/PNEUMONIA/person2_virus_2.jpeg",
        "train/PNEUMONIA/unknown.jpeg",
        "test/TURBERCULOSIS/t.png",
        "val/COVID19/c.jpg",
    ):
        picture(tmp_path / file)
    found = {row.file: (row.label, row.split) for row in read_films(tmp_path).rows}
    assert found["train/PNEUMONIA/person1_bacteria_1.jpeg"] == ("bacterial_pneumonia", "train")
    assert found["train/PNEUMONIA/person2_virus_2.jpeg"] == ("viral_pneumonia", "train")
    assert found["train/PNEUMONIA/unknown.jpeg"] == ("pneumonia_unspecified", "train")
    assert found["test/TURBERCULOSIS/t.png"] == ("tuberculosis", "test")
    assert found["val/COVID19/c.jpg"] == ("covid19", "val")


def test_a_folder_that_is_no_class_is_named(tmp_path):
    picture(tmp_path / "train" / "KITTENS" / "a.png")
    with pytest.raises(DataError, match="KITTENS"):
        read_films(tmp_path)


def test_without_splits_a_patient_goes_where_the_hash_says(tmp_path):
    rows = [
        {"file": f"{person}-{take}.png", "label": "normal", "patient": f"p{person}"}
        for person in range(60)
        for take in range(2)
    ]
    films = read_films(table(tmp_path, rows, "labels.csv"))
    by_patient: dict[str, set[str]] = {}
    for row in films.rows:
        by_patient.setdefault(row.patient, set()).add(row.split)
        assert row.split == split_of(row.patient)
    assert all(len(splits) == 1 for splits in by_patient.values())
    assert set(films.splits) == {"train", "val", "test"}


def test_the_hash_never_changes():
    # models are compared across years by these splits
    assert [split_of(f"patient-{number}") for number in range(2, 5)] == ["train", "test", "train"]


def test_a_patient_in_two_splits_is_refused(tmp_path):
    rows = [
        {"file": "a.png", "label": "normal", "patient": "p", "split": "train"},
        {"file": "b.png", "label": "normal", "patient": "p", "split": "test"},
    ]
    with pytest.raises(DataError, match=r"a\.png in train and b\.png in test"):
        read_films(table(tmp_path, rows))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file": "a.png", "label": "measles"}, "measles"),
        ({"file": "a.png", "label": "normal", "split": "holdout"}, "holdout"),
    ],
)
def test_what_is_not_known_is_named(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        read_films(table(tmp_path, [row]))


def test_a_missing_file_and_one_outside_are_named(tmp_path):
    root = table(tmp_path / "set", [{"file": "a.png", "label": "normal"}])
    (root / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png, which is not there"):
        read_films(root)
    picture(tmp_path / "secret.png")
    (root / "index.csv").write_text("file,label\n../secret.png,normal\n")
    with pytest.raises(DataError, match="outside"):
        read_films(root)


def test_a_folder_of_no_known_form_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"index\.csv"):
        read_films(tmp_path)


def test_a_table_without_labels_names_the_column(tmp_path):
    (tmp_path / "labels.csv").write_text("file,finding\na.png,normal\n")
    with pytest.raises(DataError, match="no column 'label'"):
        read_films(tmp_path)
