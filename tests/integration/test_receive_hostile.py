"""Hostile and clumsy peers: each is bounded, answered and noted, and harms nobody else."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.peers import wait_until
from tests.rawpeer import Aborted, Object, RawPeer, Rejected, read_part10, send
from tests.receiving import EXPLICIT_LE, an_object, receiving, refusals_in
from tests.unit.receive.objects import CR, film
from triage.receive.admission import PeerRule
from triage.receive.listener import TlsFiles

CONTEXTS = [(CR, EXPLICIT_LE)]


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def secured(address: tuple[str, int], own: tuple[Path, Path] | None = None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own:
        context.load_cert_chain(*own)
    return context.wrap_socket(socket.create_connection(address, 10))


def test_tls_stores_and_a_silent_handshake_holds_up_nobody(tmp_path):
    pair = certificate(tmp_path)
    with receiving(tmp_path / "room", tls=TlsFiles(*pair), acse_timeout=1.0) as room:
        silent = [socket.create_connection(room.address) for _ in range(5)]
        peer = RawPeer(room.address, CONTEXTS, sock=secured(room.address))
        big = film({"Rows": 1000, "Columns": 500}, pixels=bytes(1_000_000))
        assert peer.store(Object(CR, "1.2.3.4", EXPLICIT_LE, big))[0] == 0
        peer.release()
        wait_until(lambda: any(status == "tls" for _, status, _ in room.refused()), 10)
        for each in silent:
            each.close()


def test_a_look_whether_the_tls_port_is_open_is_no_refusal(tmp_path, caplog):
    pair = certificate(tmp_path)
    with receiving(tmp_path / "room", tls=TlsFiles(*pair), acse_timeout=5.0) as room:
        server = room.listener._servers[0]
        for _ in range(3):
            socket.create_connection(room.address).close()
        # Connections are taken in their order: once this one is, those before it were.
        RawPeer(room.address, CONTEXTS, sock=secured(room.address)).release()
        wait_until(lambda: not server._shaking, 5)
        assert not refusals_in(caplog)
        with socket.create_connection(room.address) as rubbish:
            rubbish.sendall(b"GET / HTTP/1.1\r\n\r\n")
            wait_until(room.refused, 5)
        assert [said[:2] for said in room.refused()] == [("association", "tls")]


def test_mutual_tls_refuses_a_client_without_a_certificate_and_plain_tcp(tmp_path):
    pair = certificate(tmp_path)
    with receiving(tmp_path / "room", tls=TlsFiles(*pair, client_authorities=pair[0])) as room:
        peer = RawPeer(room.address, CONTEXTS, sock=secured(room.address, pair))
        assert peer.store(an_object())[0] == 0
        peer.release()
        with pytest.raises((ssl.SSLError, Aborted, ConnectionResetError, BrokenPipeError)):
            RawPeer(room.address, CONTEXTS, sock=secured(room.address))
        with pytest.raises((Aborted, ConnectionResetError)):
            RawPeer(room.address, CONTEXTS)


def test_a_flood_of_connections_and_associations_leaves_the_listener_as_it_was(tmp_path):
    with receiving(tmp_path, max_associations=5, acse_timeout=1.0) as room:
        idle = [socket.create_connection(room.address) for _ in range(60)]

        def ask(_: int) -> object:
            try:
                RawPeer(room.address, CONTEXTS, timeout=10).release()
            except (Rejected, Aborted, OSError) as error:
                return type(error)
            return None

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(ask, range(100)))
        for each in idle:
            each.close()
        wait_until(lambda: threading.active_count() < 20, 15)
        assert send(room.address, an_object())[0] == 0
        assert room.refused()


def test_a_peer_has_its_own_limits(tmp_path):
    peers = (PeerRule(ae_title="RAWPEER", max_object_bytes=5000, max_rate=10),)
    with receiving(tmp_path, peers=peers) as room:
        peer = RawPeer(room.address, CONTEXTS)
        began = time.monotonic()
        assert [peer.store(an_object(n))[0] for n in range(1, 5)] == [0] * 4
        assert time.monotonic() - began >= 0.3
        large = film({"Rows": 100, "Columns": 100, "SOPInstanceUID": "1.2.3.9"}, pixels=bytes(20_000))
        assert peer.store(Object(CR, "1.2.3.9", EXPLICIT_LE, large))[0] == 0xC000
        peer.release()


def test_control_characters_in_titles_reach_neither_log_nor_page(tmp_path, caplog):
    with receiving(tmp_path, peers=(PeerRule(ae_title="GOOD"),)) as room:
        with pytest.raises((Rejected, Aborted)):
            RawPeer(room.address, CONTEXTS, calling=b"EVIL\n\x1b[31mX")
        wait_until(lambda: room.refused(), 5)
        assert all(text.isprintable() for row in room.refused() for text in row)
        assert "\x1b" not in caplog.text


def test_a_hundred_megabytes_need_no_memory(tmp_path):
    size = 100 << 20
    data = film({"Rows": 10240, "Columns": 5120}, pixels=bytes(size))
    with receiving(tmp_path) as room:
        process = psutil.Process()
        before, peak, ended = process.memory_info().rss, [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.005):
                peak[0] = max(peak[0], process.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        peer = RawPeer(room.address, CONTEXTS)
        assert peer.store(Object(CR, "1.2.3.4", EXPLICIT_LE, data))[0] == 0
        ended.set()
        thread.join()
        peer.release()
        assert peak[0] - before < 40 << 20


def test_every_file_of_the_corpus_is_stored_or_refused_within_seconds(tmp_path, shared):
    """Twice over: the second time nothing new may be kept, and memory may not have grown."""
    objects = []
    for path in sorted((shared / "dicom").rglob("*.dcm")):
        try:
            objects.append(read_part10(path))
        except ValueError:
            continue
    memory = []
    with receiving(tmp_path, quiet=60) as room:
        for _ in range(2):
            for item in objects:
                began = time.monotonic()
                try:
                    status, comment = send(room.address, item)
                except (Rejected, Aborted):
                    pass  # refused while the association was negotiated: noted there
                else:
                    assert status in (0x0000, 0xA900, 0xC000)
                    assert status == 0 or comment
                assert time.monotonic() - began < 30
            memory.append((psutil.Process().memory_info().rss, len(room.instances())))
        assert memory[0][1] == memory[1][1] > 250
        assert memory[1][0] < memory[0][0] * 1.1
        assert sorted(room.files()) == sorted(row.path for row in room.instances())
        assert threading.active_count() < 20


JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
_FRAGMENT = (
    struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\xff\xd8\xff\xd9"
)
_ENCAPSULATED = (
    struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    + _FRAGMENT
    + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
)


@pytest.mark.parametrize("uid", ["../../../../tmp/evil", "/etc/passwd", "1.2.3/../../evil", "..", "1.2.3\n4"])
def test_a_uid_that_is_a_path_is_refused_and_writes_nothing_anywhere(tmp_path, uid):
    item = Object(CR, uid, EXPLICIT_LE, film({"SOPInstanceUID": uid, "SeriesInstanceUID": uid}))
    with receiving(tmp_path / "room") as room:
        assert send(room.address, item)[0] == 0xA900
        assert room.files() == []
        assert send(room.address, an_object())[0] == 0x0000
    assert [path.name for path in tmp_path.iterdir()] == ["room"]


def test_a_header_of_65535_squared_is_refused_or_kept_without_its_memory(tmp_path):
    huge = {"Rows": 65535, "Columns": 65535}
    packed = film({**huge, "SOPInstanceUID": "1.2.3.5"})
    packed = packed[: packed.index(struct.pack("<HH", 0x7FE0, 0x0010))] + _ENCAPSULATED
    with receiving(tmp_path) as room:
        before = psutil.Process().memory_info().rss
        assert send(room.address, Object(CR, "1.2.3.4", EXPLICIT_LE, film(huge)))[0] == 0xC000
        # What a decoder makes of four gigapixels is the next stage's business; the bytes are kept.
        assert send(room.address, Object(CR, "1.2.3.5", JPEG_LOSSLESS, packed))[0] == 0x0000
        assert psutil.Process().memory_info().rss - before < 64 << 20
        assert room.jobs("assess") == 1


def test_one_object_that_the_database_refuses_harms_none_of_those_that_share_its_commit(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        with room.db.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER no BEFORE INSERT ON instance WHEN NEW.study_uid = '1.2.13' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        with ThreadPoolExecutor(8) as pool:
            with room.db.write():
                sent = [
                    pool.submit(send, room.address, an_object(1, study=f"1.2.{n}")) for n in range(10, 18)
                ]
                wait_until(lambda: len(room.intake._commits._queue) == 7, 10)
            assert [each.result()[0] for each in sent] == [0, 0, 0, 0xA700, 0, 0, 0, 0]
        assert len(room.instances()) == len(room.studies()) == 7


def test_one_commit_serves_all_that_wait(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        commits: list[frozenset[str]] = []
        room.db.on_commit(lambda topics: commits.append(topics) if "job:assess" in topics else None)
        with ThreadPoolExecutor(8) as pool:
            with room.db.write():
                sent = [pool.submit(send, room.address, an_object(1, study=f"1.2.{n}")) for n in range(8)]
                wait_until(lambda: len(room.intake._commits._queue) == 7, 10)
            assert [each.result()[0] for each in sent] == [0] * 8
        # The first leads alone and waits for the lock; the other seven go together.
        assert len(commits) == 2
        assert len(room.instances()) == 8
