"""STOW-RS: what is answered is on disk, part by part."""

from __future__ import annotations

import zipfile
from io import BytesIO
from xml.etree import ElementTree as ET

import pytest

from tests.rawpeer import Object
from tests.receiving import Room, an_object, receiving
from triage.receive.parse import Claim
from triage.receive.spool import file_meta
from triage.receive.stow import StowRequest

TYPE = 'multipart/related; type="application/dicom"; boundary=frontier'


def a_file(item: Object) -> bytes:
    return file_meta(Claim(item.sop_class, item.sop_instance, item.syntax), "TEST") + item.data


def body(*files: bytes) -> bytes:
    parts = b"".join(
        b"--frontier\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in files
    )
    return parts + b"--frontier--\r\n"


def post(room: Room, raw: bytes, step: int = 1000):
    request = StowRequest(room.intake, TYPE, "pacs", "127.0.0.1")
    for at in range(0, len(raw), step):
        request.feed(raw[at : at + step])
    return request.finish()


@pytest.mark.parametrize("step", [1, 37, 100_000])
def test_whole_files_are_kept_byte_for_byte_however_the_body_is_cut(tmp_path, step):
    items = [an_object(n) for n in (1, 2)]
    with receiving(tmp_path) as room:
        answer = post(room, body(*map(a_file, items)), step)
        assert answer.status == 200
        assert [v["00081155"]["Value"][0] for v in answer.document()["00081199"]["Value"]] == [
            "1.2.3.1",
            "1.2.3.2",
        ]
        for row, item in zip(room.instances(), items, strict=True):
            assert room.spool.path(row.path).read_bytes().endswith(item.data)


def test_some_refused_is_202_and_all_refused_is_409(tmp_path):
    good, cut = a_file(an_object(1)), a_file(an_object(2))[:-30]
    with receiving(tmp_path) as room:
        answer = post(room, body(good, cut))
        assert answer.status == 202
        assert answer.document()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
        tree = ET.fromstring(answer.xml())
        assert [e.get("keyword") for e in tree] == [
            "RetrieveURL",
            "FailedSOPSequence",
            "ReferencedSOPSequence",
        ]
        assert post(room, body(cut, b"<html>no</html>")).status == 409
        assert len(room.files()) == 1


def test_a_zip_bomb_is_no_dicom_file_and_is_not_opened(tmp_path):
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("film.dcm", bytes(64 << 20))
    with receiving(tmp_path) as room:
        answer = post(room, body(packed.getvalue(), a_file(an_object(1))))
        assert answer.status == 202
        assert answer.document()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
        assert len(room.files()) == len(room.instances()) == 1


def test_no_room_is_503(tmp_path):
    with receiving(tmp_path) as room:
        room.spool.low_water_bytes = 1 << 60
        assert post(room, body(a_file(an_object(1)))).status == 503


@pytest.mark.parametrize("raw", [b"", b"no boundary at all", body(a_file(an_object(1)))[:-30]])
def test_a_body_that_is_cut_or_no_multipart_is_400_or_keeps_what_was_whole(tmp_path, raw):
    with receiving(tmp_path) as room:
        answer = post(room, raw)
        assert answer.status == 400
        assert room.files() == []
        assert answer.sentences


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/related", 'multipart/related; type="image/jpeg"; boundary=x']
)
def test_another_content_type_is_told_what_is_due(tmp_path, kind):
    with receiving(tmp_path) as room, pytest.raises(ValueError, match="multipart/related"):
        StowRequest(room.intake, kind, "pacs", "127.0.0.1")


def test_every_file_of_the_corpus_is_kept_or_refused_with_a_reason(tmp_path, shared):
    files = sorted((shared / "dicom").rglob("*.dcm"))
    with receiving(tmp_path) as room:
        for path in files:
            answer = post(room, body(path.read_bytes()), 1 << 16)
            assert answer.status in (200, 409)
            assert answer.status == 200 or answer.sentences[0].endswith(".")
        rows = room.instances()
        assert len(rows) == len(room.files())
        assert len(rows) > 250


def test_an_error_that_nobody_expected_leaves_no_open_file_and_no_part_of_one(tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr("triage.receive.intake.read_header", broken)
    with receiving(tmp_path) as room:
        with pytest.raises(MemoryError):
            post(room, body(a_file(an_object(1))))
        assert (room.files(), len(room.spool.being_written)) == ([], 0)
