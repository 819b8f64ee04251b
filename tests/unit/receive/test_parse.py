"""From bytes to a header: complete, bounded, never fooled."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.receive.objects import claim, element, film, read
from triage.receive.parse import DEFLATED, EXPLICIT_BE, IMPLICIT_LE, is_uid
from triage.receive.verdict import Refused, Status


def refusal(data: bytes, **said: str) -> Refused:
    with pytest.raises(Refused) as caught:
        read(data, claim(**said))
    return caught.value


def test_a_film_is_read_as_sent():
    header = read(
        film({"RequestedProcedurePriority": "STAT", "ViewPosition": "PA", "StudyDescription": "Thorax"})
    )
    assert (header.study_uid, header.series_uid, header.sop_instance_uid) == ("1.2.3", "1.2.3.1", "1.2.3.4")
    assert (header.patient_id, header.patient_name, header.modality) == ("P1", "Doe^Jane", "CR")
    assert (header.requested_priority, header.view_position) == ("STAT", "PA")


def test_the_priority_may_stand_in_an_item_of_the_request():
    item = element(0x00401003, "SH", b"HIGH")
    inner = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    sequence = element(0x00400275, "SQ", inner)
    head, pixels = film()[:-140], film()[-140:]
    assert read(head + sequence + pixels).requested_priority == "HIGH"


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_without_one_of_its_four_uids_an_object_does_not_match(keyword):
    assert refusal(film(drop=(keyword,))).status is Status.MISMATCH
    assert refusal(film({keyword: ""})).status is Status.MISMATCH


@pytest.mark.parametrize(
    "uid", ["../../x", "/etc/passwd", "1.2\0.5", "1.2\n3", ".", "..", "1.2\\3", "1" * 65, "1.2.é"]
)
def test_a_uid_is_digits_and_dots(uid):
    assert refusal(film({"StudyInstanceUID": uid})).status is Status.MISMATCH
    assert not is_uid(uid)


def test_the_data_set_is_what_the_command_said():
    assert refusal(film(), instance="1.2.3.5").status is Status.MISMATCH
    assert refusal(film(), sop_class="1.2.840.10008.5.1.4.1.1.2").status is Status.MISMATCH


@pytest.mark.parametrize("cut", [1, 10, 50, 130, 139, 141, 203])
def test_a_data_set_that_was_cut_is_refused(cut):
    assert refusal(film()[:-cut]).status is Status.UNREADABLE


def test_an_empty_data_set_and_plain_text_are_refused():
    assert refusal(b"").status is Status.UNREADABLE
    assert refusal(b"This is not DICOM, but a letter to the editor. " * 40).status is Status.UNREADABLE


def test_fewer_pixels_than_rows_times_columns_are_refused_and_more_are_not():
    assert refusal(film(pixels=bytes(126))).status is Status.UNREADABLE
    assert read(film(pixels=bytes(512))).study_uid == "1.2.3"


def test_a_film_without_pixels_is_kept_for_the_next_stage_to_say_so():
    assert read(film()[:-140]).study_uid == "1.2.3"


def test_lengths_of_four_gigabytes_are_an_end_too_early():
    assert (
        refusal(film({}, pixels=b"")[:-12] + element(0x7FE00010, "OW", b"abcd", 0xFFFFFFFE)).status
        is Status.UNREADABLE
    )
    assert refusal(element(0x00100020, "UT", b"abcd", 0xFFFFFFFE) + film()).status is Status.UNREADABLE
    assert refusal(element(0x00100020, "UT", b"abcd", 0xFFFFFFFF) + film()).status is Status.UNREADABLE


@pytest.mark.parametrize(("depth", "kept"), [(50, True), (900, False), (5000, False)])
@pytest.mark.parametrize("defined", [True, False])
def test_nesting_is_bounded_before_anybody_recurses(depth, kept, defined):
    inner = b""
    for _ in range(depth):
        if defined:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
            inner = element(0x00400275, "SQ", item)
        else:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
            item += struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            inner = element(0x00400275, "SQ", item, 0xFFFFFFFF)
    data = inner + film()
    started = time.monotonic()
    if kept:
        assert read(data).study_uid == "1.2.3"
    else:
        assert refusal(data).status is Status.UNREADABLE
    assert time.monotonic() - started < 5


def test_an_item_longer_than_its_sequence_is_refused():
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 40) + bytes(8)
    assert refusal(element(0x00400275, "SQ", item) + film()).status is Status.UNREADABLE


def encapsulated(*fragments: bytes, closed: bool = True) -> bytes:
    body = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    for fragment in fragments:
        body += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    if closed:
        body += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return film()[:-140] + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + body


def test_fragments_must_be_closed():
    jpeg = "1.2.840.10008.1.2.4.70"
    assert read(encapsulated(b"abcd"), claim(syntax=jpeg)).study_uid == "1.2.3"
    assert refusal(encapsulated(b"abcd", closed=False), syntax=jpeg).status is Status.UNREADABLE
    assert refusal(encapsulated(b"abcd")).status is Status.UNREADABLE


def an_icon(*fragments: bytes, closed: bool = True) -> bytes:
    """Return an Icon Image Sequence whose item holds pixels in fragments (PS3.5 A.4)."""
    pixels = encapsulated(*fragments, closed=closed)[len(film()) - 140 :]
    return element(0x00880200, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(pixels)) + pixels)


def test_the_icon_of_a_compressed_film_is_compressed_too_and_is_not_its_pixels():
    jpeg = "1.2.840.10008.1.2.4.70"
    whole, head = encapsulated(b"abcd"), film()[:-140]
    pixels = whole[len(head) :]
    assert read(head + an_icon(b"abcd", b"ef") + pixels, claim(syntax=jpeg)).study_uid == "1.2.3"
    assert read(head + an_icon(b"abcd"), claim(syntax=jpeg)).study_uid == "1.2.3"
    # Rubbish is forgiven after the film's pixels, and only there.
    assert read(head + an_icon(b"abcd") + pixels + b"\1\2\3", claim(syntax=jpeg)).study_uid == "1.2.3"
    assert refusal(head + an_icon(b"abcd") + b"\1\2\3", syntax=jpeg).status is Status.UNREADABLE
    assert refusal(head + an_icon(b"abcd", closed=False) + pixels, syntax=jpeg).status is Status.UNREADABLE
    assert refusal(head + an_icon(b"abcd")[:-9], syntax=jpeg).status is Status.UNREADABLE
    assert refusal(head + an_icon(*[b""] * 250_000) + pixels, syntax=jpeg).status is Status.UNREADABLE


def test_padding_after_the_pixels_is_harmless():
    assert read(film() + element(0xFFFCFFFC, "OB", bytes(20))).study_uid == "1.2.3"
    assert read(film() + b"\1\2\3").study_uid == "1.2.3"


def test_a_deflated_object_is_read_and_a_bomb_is_not():
    def deflate(data: bytes) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(data) + packer.flush()

    assert read(deflate(film()), claim(syntax=DEFLATED)).study_uid == "1.2.3"
    assert refusal(deflate(film(pixels=bytes(64 << 20))), syntax=DEFLATED).status is Status.UNREADABLE
    assert refusal(deflate(film())[:-20], syntax=DEFLATED).status is Status.UNREADABLE
    assert refusal(b"garbage that is no stream", syntax=DEFLATED).status is Status.UNREADABLE


@pytest.mark.parametrize(
    ("syntax", "implicit", "little"), [(IMPLICIT_LE, True, True), (EXPLICIT_BE, False, False)]
)
def test_big_endian_and_implicit_objects_are_read(syntax, implicit, little):
    from pydicom import Dataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    def written(pixels: bytes) -> bytes:
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID = claim().sop_class_uid, "1.2.3.4"
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.1"
        made.Rows, made.Columns, made.SamplesPerPixel, made.BitsAllocated = 300, 2, 1, 16
        made.PatientName = "Doe^Jane"
        made.add_new(0x7FE00010, "OW", pixels)
        out = DicomBytesIO()
        out.is_implicit_VR, out.is_little_endian = implicit, little
        write_dataset(out, made)
        return out.getvalue()

    assert read(written(bytes(1200)), claim(syntax=syntax)).patient_name == "Doe^Jane"
    assert "1198 bytes of the 1200" in str(refusal(written(bytes(1198)), syntax=syntax))


@pytest.mark.parametrize(
    ("charset", "raw", "shown"),
    [
        (b"ISO_IR 192", "Иванов^Пётр".encode(), "Иванов^Пётр"),
        (b"ISO_IR 100", b"M\xfcller^J\xf6rg", "Müller^Jörg"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"", "Müller^Jörg".encode(), "Müller^Jörg"),
        (b"ISO_IR 999", b"Plain^Name", "Plain^Name"),
    ],
)
def test_names_are_read_in_their_character_set(charset, raw, shown):
    assert read(film({"SpecificCharacterSet": charset, "PatientName": raw})).patient_name == shown


def test_controls_and_reordering_marks_leave_a_name():
    name = read(
        film({"SpecificCharacterSet": b"ISO_IR 192", "PatientName": "Doe\x07\x1b[31m^\u202eJane\x00"})
    ).patient_name
    assert name.isprintable()
    assert "\u202e" not in name


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"ISO_IR 100", b"ISO 2022 IR 87\\ISO 2022 IR 149", b"GBK", b"\xff"]),
)
@settings(max_examples=300, deadline=None)
def test_no_name_in_any_character_set_raises(raw, charset):
    header = read(film({"SpecificCharacterSet": charset, "PatientName": raw}))
    assert len(header.patient_name) <= 324
    assert not any(ord(c) < 32 for c in header.patient_name)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_read_or_refused(data):
    good = bytearray(film({"StudyDescription": "x" * 40}))
    for _ in range(data.draw(st.integers(1, 12))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except Refused as refused:
        said = refused
    else:
        assert is_uid(header.study_uid)
        return
    assert said.status in (Status.MISMATCH, Status.UNREADABLE)
    assert str(said).endswith(".")
