"""The forms that films come in, their splits, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

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


def test_the_real_competition_set_is_read_as_it_is(tmp_path):
    # its bacterial and its viral films are numbered each for themselves, its normals in every folder anew
    for file in (
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "train/PNEUMONIA/person1_bacteria_2.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
        "train/NORMAL/IM-0115-0001.jpeg",
        "test/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/0.jpg",
        "train/PNEUMONIA/0.jpg",
        "val/NORMAL/0.jpg",
    ):
        picture(tmp_path / file)
    films = read_films(tmp_path)
    patients = dict(zip((row.file for row in films.rows), films.patients, strict=True))
    assert len(set(patients.values())) == len(films) - 1
    one, two = (patients[f"train/PNEUMONIA/person1_bacteria_{number}.jpeg"] for number in (1, 2))
    assert one == two


def test_a_patient_of_a_competition_set_in_two_splits_is_refused(tmp_path):
    picture(tmp_path / "train/PNEUMONIA/person1_virus_1.jpeg")
    picture(tmp_path / "test/PNEUMONIA/person1_virus_2.jpeg")
    with pytest.raises(DataError, match="must stay in one split"):
        read_films(tmp_path)


def test_what_notebooks_and_macs_leave_behind_is_no_film(tmp_path):
    picture(tmp_path / "train/NORMAL/a.jpg")
    for file in (
        "train/.ipynb_checkpoints/b.jpg",
        "train/NORMAL/.ipynb_checkpoints/a-checkpoint.jpg",
        "train/NORMAL/._a.jpg",
        "train/NORMAL/.DS_Store",
        "train/NORMAL/Thumbs.db",
        "train/.DS_Store",
    ):
        picture(tmp_path / "b.jpg")
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / "b.jpg").rename(tmp_path / file)
    assert [row.file for row in read_films(tmp_path).rows] == ["train/NORMAL/a.jpg"]


def test_other_names_of_the_split_folders_are_known(tmp_path):
    for number, folder in enumerate(("Train", "validation", "valid", "TEST")):
        picture(tmp_path / folder / "NORMAL" / f"{number}.jpg")
    assert list(read_films(tmp_path).splits) == ["train", "val", "val", "test"]


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


def test_a_patient_of_two_sources_is_one_patient(tmp_path):
    rows = [
        {"file": "a.png", "label": "normal", "source": "nih", "patient": "p", "split": "train"},
        {"file": "b.png", "label": "normal", "source": "rsna", "patient": "p", "split": "train"},
    ]
    assert len(set(read_films(table(tmp_path, rows)).patients)) == 1
    rows[1]["split"] = "test"
    with pytest.raises(DataError, match=r"a\.png in train and b\.png in test; .* two sources"):
        read_films(table(tmp_path, rows))


def dicom(path: Path, patient: str, issuer: str = "", **told: str) -> None:
    header = Dataset()
    header.PatientID, header.IssuerOfPatientID, header.Rows = patient, issuer, 40
    for keyword, value in told.items():
        setattr(header, keyword, value)
    header.file_meta = Dataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, header, enforce_file_format=True)


def test_dicom_films_of_one_patient_stay_together_without_telling_who_it_is(tmp_path):
    files = [f"{person}-{take}.dcm" for person in range(40) for take in range(2)]
    for file in files:
        dicom(tmp_path / file, f"MRN{file.split('-')[0]}")
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *(f"{file},normal" for file in files)]))
    films = read_films(tmp_path)
    assert len(set(films.patients)) == 40
    assert (films.patients[::2] == films.patients[1::2]).all()
    assert (films.splits[::2] == films.splits[1::2]).all()
    assert set(films.splits) == {"train", "val", "test"}
    assert not any("MRN" in patient for patient in films.patients)


def test_view_age_and_sex_are_the_headers_where_the_table_leaves_them_open(tmp_path):
    dicom(tmp_path / "a.dcm", "1", ViewPosition="AP", PatientAge="006M", PatientSex="F")
    dicom(tmp_path / "b.dcm", "2", ViewPosition="AP", PatientAge="070Y", PatientSex="F")
    (tmp_path / "labels.csv").write_text(
        "file,label,view,age,sex,split\na.dcm,normal,,,,train\nb.dcm,normal,PA,12,M,train\n"
    )
    told = [(row.view, row.age, row.sex) for row in read_films(tmp_path).rows]
    assert told == [("AP", "006M", "F"), ("PA", "12", "M")]


def test_the_same_number_of_two_hospitals_is_two_patients(tmp_path):
    dicom(tmp_path / "train/NORMAL/a.dcm", "1", "north")
    dicom(tmp_path / "test/NORMAL/b.dcm", "1", "south")
    assert len(set(read_films(tmp_path).patients)) == 2
    dicom(tmp_path / "test/NORMAL/b.dcm", "1", "north")
    with pytest.raises(DataError, match=r"a\.dcm in train and test/NORMAL/b\.dcm in test"):
        read_films(tmp_path)


def test_films_that_name_nobody_each_count_for_themselves(tmp_path):
    dicom(tmp_path / "a.dcm", "")
    (tmp_path / "b.dcm").write_bytes(bytes(200))
    (tmp_path / "labels.csv").write_text("file,label\na.dcm,normal\nb.dcm,normal\n")
    assert len(set(read_films(tmp_path).patients)) == 2


def test_films_that_all_name_one_patient_cannot_be_split(tmp_path):
    for file in ("a.dcm", "b.dcm"):
        dicom(tmp_path / file, "ANONYMOUS")
    (tmp_path / "labels.csv").write_text("file,label\na.dcm,normal\nb.dcm,normal\n")
    with pytest.raises(DataError, match=r"All 2 films .* column 'patient'") as refused:
        read_films(tmp_path)
    assert "ANONYMOUS" not in str(refused.value)


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("File,Label,Split", "utf-8"),
        ("file, label, split", "utf-8"),
        ("file,label,split", "utf-8-sig"),
        ("File;Label;Split", "utf-8-sig"),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(tmp_path, head, encoding):
    picture(tmp_path / "ä.png")
    lines = [head, "ä.png,normal,val"]
    if ";" in head:
        lines[1] = lines[1].replace(",", ";")
    (tmp_path / "labels.csv").write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    (row,) = read_films(tmp_path).rows
    assert (row.file, row.label, row.split) == ("ä.png", "normal", "val")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,label\nä.png,normal\n".encode("latin-1"), "not UTF-8 text; save it as CSV in UTF-8"),
        ("file,label\na.png,normal\n".encode("utf-16"), "not UTF-8 text; save it as CSV in UTF-8"),
        (b"file,label\na.png," + b"x" * 200_000, "can't be read as a table .*field larger"),
        (b'file,label\na.png,"normal\nb.png,normal\n', "can't be read as a table .*unexpected end"),
        (b"file,label\n,normal\n", "names no file in line 2"),
        (b"file,label\na.png,normal\n./a.png,covid19\n", r"\./a\.png in lines 2 and 3"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path, content, words):
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"labels\.csv .*{words}"):
        read_films(tmp_path)


def test_labels_may_be_named_as_class_folders_are(tmp_path):
    said = {
        "a.png": ("NORMAL", "normal"),
        "b.png": ("TB", "tuberculosis"),
        "person1_virus_2.png": ("Pneumonia", "viral_pneumonia"),
        # a label of ours is never read otherwise
        "person1_virus_3.png": ("pneumonia_unspecified", "pneumonia_unspecified"),
    }
    rows = [{"file": file, "label": word} for file, (word, _) in said.items()]
    films = read_films(table(tmp_path, rows))
    assert [row.label for row in films.rows] == [label for _, label in said.values()]
