"""Whatever a film's header looks like, the report is valid and in the same patient's name."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.peers import Dcmtk
from tests.reports import answer, film_header, report_input
from triage.report.document import file_bytes
from triage.report.errors import NoReport
from triage.report.evidence import normalise, read_evidence
from triage.report.sr import build_sr


def as_read(**raw: bytes | str) -> Dataset:
    """Return a header as it looks when it was read from a file whose bytes were these."""
    ds = film_header()
    del ds.SpecificCharacterSet
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=True, little_endian=True)
    read = dcmread(BytesIO(buffer.getvalue()), force=True)
    for keyword, value in raw.items():
        element = read.get_item(keyword) if keyword in read else None
        if element is None:
            setattr(read, keyword, value)
        else:
            read[keyword] = element._replace(value=value, length=len(value))
    return read


@pytest.mark.parametrize(
    ("charset", "raw", "shown"),
    [
        ("ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        ("", "Müller".encode(), "Müller"),
        ("", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 192", "Müller".encode("latin-1"), "Müller"),
        ("NO SUCH SET", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 100", b"Bad\x00\x1b[31mName", "Bad[31mName"),
    ],
)
def test_names_are_read_by_their_own_set_and_never_raise(charset: str, raw: bytes, shown: str) -> None:
    source = as_read(SpecificCharacterSet=charset) if charset else as_read()
    source["PatientName"] = source.get_item("PatientName")._replace(value=raw, length=len(raw))
    clean = normalise(source)
    assert str(clean.PatientName) == shown
    read = dcmread(BytesIO(file_bytes(build_sr(report_input(answer(), evidence=[clean])))))
    assert str(read.PatientName) == shown


def test_type_2_attributes_are_there_and_empty_when_the_film_has_none() -> None:
    bare = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(bare, keyword, film_header()[keyword].value)
    ds = build_sr(report_input(answer(), evidence=[normalise(bare)]))
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "AccessionNumber",
    ):
        assert keyword in ds
        assert not ds[keyword].value


@pytest.mark.parametrize(
    ("keyword", "bad"),
    [("PatientBirthDate", b"01.02.1950"), ("StudyTime", b"99:99"), ("PatientSex", b"weiblich")],
)
def test_values_that_are_none_are_left_out(keyword: str, bad: bytes) -> None:
    assert not normalise(as_read(**{keyword: bad}))[keyword].value


@pytest.mark.parametrize(
    ("keyword", "raw", "kept"),
    [
        ("ViewPosition", b"PA\\AP", "PA"),
        ("ViewPosition", b"\\AP", "AP"),
        ("Modality", b"DX\\CR", "DX"),
        ("BodyPartExamined", b"CHEST\\ABDOMEN", "CHEST"),
        ("StudyDate", b"20260304\\20260305", "20260304"),
        ("AccessionNumber", b"A-1\\A-2", "A-1"),
        ("ImagerPixelSpacing", b"1e400\\0.15", None),
        ("PixelSpacing", "0.15\\-1e999", None),
        ("TimezoneOffsetFromUTC", "+0130", "+0130"),
        ("TimezoneOffsetFromUTC", "+01:30", None),
        ("TimezoneOffsetFromUTC", "Z", None),
        ("TimezoneOffsetFromUTC", "+9900", None),
    ],
)
def test_odd_values_are_made_single_and_finite_and_never_stop_a_report(keyword, raw, kept) -> None:
    clean = normalise(as_read(**{keyword: raw}))
    assert clean.get(keyword) == kept
    file_bytes(build_sr(report_input(answer(), evidence=[clean])))


def test_a_patient_id_is_kept_as_sent_whatever_its_length() -> None:
    assert normalise(as_read(PatientID=b"X" * 80)).PatientID == "X" * 80


@pytest.mark.parametrize("uid", [b"", b"../../etc/passwd", b"1.2.3\\1.2.4", b"1." + b"2" * 70])
def test_a_study_without_a_valid_uid_gets_no_report(uid: bytes) -> None:
    with pytest.raises(NoReport, match="StudyInstanceUID"):
        normalise(as_read(StudyInstanceUID=uid))


def test_a_file_that_is_no_dicom_gets_no_report(tmp_path: Path) -> None:
    path = tmp_path / "page.dcm"
    path.write_text("<html>not a film</html>" * 40)
    with pytest.raises(NoReport):
        read_evidence(path)


def test_every_real_film_gets_a_valid_report(shared: Path, dcmtk: Dcmtk, tmp_path: Path) -> None:
    bad: list[str] = []
    films = sorted((shared / "dicom/cxr").glob("*.dcm")) + sorted((shared / "dicom/charset").rglob("*.dcm"))
    assert len(films) > 60
    unreferable = 0
    for film in films:
        try:
            evidence = read_evidence(film)
        except NoReport:  # character-set samples without a single UID; the receiver refuses them
            unreferable += 1
            continue
        ds = build_sr(report_input(answer(str(evidence.SOPInstanceUID)), evidence=[evidence]))
        path = tmp_path / "sr.dcm"
        path.write_bytes(file_bytes(ds))
        checked = dcmtk.run("dciodvfy", path)
        errors = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]
        bad += [f"{film.name}: {line}" for line in errors]
    assert bad == []
    assert unreferable <= 4
