"""Whatever a peer answers, the sender gets a status or one sentence, within its deadline."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.presentation import build_context

from triage import IMPLEMENTATION_CLASS_UID
from triage.deliver import association as sending
from triage.deliver.association import Association
from triage.errors import PeerUnreachable

SC = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
CONTEXT = (SC, EXPLICIT)
Script = Callable[[socket.socket], None]


def read_pdu(connection: socket.socket) -> bytes:
    head = connection.recv(6, socket.MSG_WAITALL)
    return head + connection.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)


def accept(connection: socket.socket) -> None:
    """Accept the first context that is proposed."""
    request = A_ASSOCIATE_RQ()
    request.decode(read_pdu(connection))
    primitive = request.to_primitive()
    chosen = build_context(*CONTEXT)
    chosen.context_id, chosen.result = 1, 0
    primitive.presentation_context_definition_results_list = [chosen]
    primitive.presentation_context_definition_list = []
    primitive.result = 0
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    connection.sendall(answer.encode())


def answer(status: int, message: int = 1, control: int = 0x03) -> bytes:
    """Return a C-STORE-RSP."""
    elements = b"".join(
        struct.pack("<HHIH", 0, element, 2, value)
        for element, value in ((0x100, 0x8001), (0x120, message), (0x800, 0x0101), (0x900, status))
    )
    command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BBIIBB", 4, 0, len(command) + 6, len(command) + 2, 1, control) + command


@pytest.fixture
def peer() -> Iterator[Callable[[Script], tuple[str, int]]]:
    """Make a peer that follows a script after each connection."""
    servers: list[socket.socket] = []

    def make(script: Script) -> tuple[str, int]:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        script(connection)
                    except (OSError, ValueError, struct.error):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()

    yield make
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def connect(address: tuple[str, int], seconds: float = 2.0) -> Association:
    association = sending.connect(address, "PEER", 1.0)
    association.negotiate(("TRIAGE", "PEER"), [CONTEXT], time.monotonic() + seconds)
    return association


def store(address: tuple[str, int], seconds: float = 2.0) -> int:
    association = connect(address, seconds)
    try:
        if CONTEXT not in association.accepted:
            raise PeerUnreachable("The peer accepted an association without a context.")
        return association.store(CONTEXT, "1.2.3", BytesIO(b"x" * 40_000), time.monotonic() + seconds)
    finally:
        association.close()


def read_object(connection: socket.socket) -> None:
    while True:
        pdu = read_pdu(connection)
        if pdu[11] == 0x02:
            return


def scripted(*after: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        accept(connection)
        read_object(connection)
        for piece in after:
            connection.sendall(piece)
        connection.recv(1)

    return script


def test_an_answer_in_several_pieces_is_one_answer(peer: Any) -> None:
    whole = answer(0xB007)
    assert store(peer(scripted(whole[:3], whole[3:20], whole[20:]))) == 0xB007


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (answer(0, message=7), "another message"),
        (b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00", "aborted"),
        (b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00", "ended the association"),
        (b"\x04\x00\xff\xff\xff\xff", "without end"),
        (answer(0)[:12] + bytes(len(answer(0)) - 12), "can't be read"),
        (answer(0, control=0x01) * 3, "in time"),
        (b"", "in time"),
    ],
)
def test_a_bad_answer_is_one_sentence(peer: Any, said: bytes, sentence: str) -> None:
    started = time.monotonic()
    with pytest.raises(PeerUnreachable, match=sentence):
        store(peer(scripted(said)), 1.0)
    assert time.monotonic() - started < 4


def test_a_peer_that_hangs_up_is_named(peer: Any) -> None:
    with pytest.raises(PeerUnreachable, match=r"PEER@127.0.0.1:.* (closed|broke) the connection"):
        store(peer(accept))


@pytest.fixture
def crowded() -> Iterator[None]:
    """Let the process have so many files open that the next descriptor is 1024 or more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2_000, before[1]), before[1]))
    with ExitStack() as opened:
        while opened.enter_context(Path(os.devnull).open("rb")).fileno() < 1_023:
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("crowded")
def test_a_kept_association_is_known_alive_in_a_process_with_many_files(peer: Any) -> None:
    end = threading.Event()

    def script(connection: socket.socket) -> None:
        accept(connection)
        end.wait(5)

    association = connect(peer(script))
    assert association.is_alive()
    end.set()
    deadline = time.monotonic() + 5
    while association.is_alive() and time.monotonic() < deadline:
        pass
    assert not association.is_open


def test_an_object_that_can_not_be_read_to_its_end_leaves_no_half_of_it_on_a_kept_association(
    peer: Any,
) -> None:
    def script(connection: socket.socket) -> None:
        accept(connection)
        connection.recv(1)

    association = connect(peer(script))
    # The kernel itself answers EIO here.
    with Path("/proc/self/mem").open("rb", buffering=0) as broken, pytest.raises(OSError, match="5"):
        association.store(CONTEXT, "1.2.3", broken, time.monotonic() + 2)
    assert not association.is_alive()


@pytest.mark.parametrize("length", [0, 16_384, 1_000_000, 4_294_967_295])
def test_the_peers_maximum_length_is_kept(length: int) -> None:
    largest: list[int] = []
    received: list[bytes] = []

    def data(event: evt.Event) -> None:
        largest.append(int.from_bytes(event.data[2:6], "big"))

    def stored(event: evt.Event) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0

    ae = AE("PEER")
    ae.maximum_pdu_size = length
    ae.add_supported_context(*CONTEXT)
    handlers = [(evt.EVT_DATA_RECV, data), (evt.EVT_C_STORE, stored)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        association = connect(server.server_address, 10)
        content = bytes(range(256)) * 2_001
        assert association.store(CONTEXT, "1.2.3", BytesIO(content), time.monotonic() + 10) == 0
        # A second object on the same association has a message id of its own.
        assert association.store(CONTEXT, "1.2.4", BytesIO(b"ab"), time.monotonic() + 10) == 0
        association.release(time.monotonic() + 5)
    finally:
        server.shutdown()
    assert received == [content, b"ab"]
    assert max(largest) <= (length or 131_072)


def test_the_peer_sees_who_calls() -> None:
    seen: list[Any] = []
    ae = AE("PEER")
    ae.add_supported_context(*CONTEXT)
    handlers = [(evt.EVT_ACCEPTED, lambda event: seen.append(event.assoc.requestor))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        connect(server.server_address).release(time.monotonic() + 5)
    finally:
        server.shutdown()
    assert (seen[0].ae_title, seen[0].implementation_class_uid) == ("TRIAGE", IMPLEMENTATION_CLASS_UID)
    assert [str(one.abstract_syntax) for one in seen[0].primitive.presentation_context_definition_list] == [
        SC
    ]


def framed(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


NOISE = st.one_of(
    st.binary(max_size=200),
    st.builds(framed, st.integers(0, 8), st.binary(max_size=200)),
    st.builds(
        lambda at, byte: answer(0)[:at] + bytes([byte]) + answer(0)[at + 1 :],
        st.integers(6, 60),
        st.integers(0, 255),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=NOISE, after_accept=st.booleans())
def test_noise_is_one_sentence(peer: Any, noise: bytes, after_accept: bool) -> None:
    def script(connection: socket.socket) -> None:
        if after_accept:
            accept(connection)
            read_object(connection)
        connection.sendall(noise)

    try:
        assert 0 <= store(peer(script), 0.3) <= 0xFFFF
    except PeerUnreachable:
        pass
