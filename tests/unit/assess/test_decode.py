"""Decoding processes: what a hostile stream does to them, and what it must not do to us."""

from __future__ import annotations

import threading
import time

import imagecodecs
import numpy as np
import psutil
import pytest

from triage.assess import decoder_child
from triage.assess.codestream import Geometry, frame_bytes, j2k_geometry, jpeg_geometry
from triage.assess.decode import DecoderPool, Limits
from triage.assess.errors import PixelError
from triage.domain.finding import NotEvaluated

SAMPLES = (np.add.outer(np.arange(64), np.arange(48)) * 30).astype(np.uint16)
GEOMETRY = Geometry(64, 48, 1, 12)


def jpeg_ls(samples: np.ndarray = SAMPLES) -> bytes:
    return imagecodecs.jpegls_encode(samples)


@pytest.fixture(scope="module")
def pool():
    made = DecoderPool(workers=1, limits=Limits(seconds=10))
    yield made
    made.close()


@pytest.fixture
def strict_pool():
    made = DecoderPool(workers=1, limits=Limits(seconds=0.5, memory=512 << 20))
    made.warm()
    yield made
    made.close()


def _worker_process(pool: DecoderPool) -> psutil.Process:
    worker = pool._idle.get()
    pool._idle.put(worker)
    return psutil.Process(worker._process.pid)


def test_samples_come_back_exactly(pool: DecoderPool) -> None:
    assert np.array_equal(pool.decode(jpeg_ls(), "jpegls", GEOMETRY).samples, SAMPLES)


def test_a_process_that_died_while_idle_is_replaced_and_costs_no_film(strict_pool: DecoderPool) -> None:
    victim = _worker_process(strict_pool)
    victim.kill()
    victim.wait(5)
    strict_pool.limits = Limits(seconds=20)
    assert np.array_equal(strict_pool.decode(jpeg_ls(), "jpegls", GEOMETRY).samples, SAMPLES)


def test_a_decoder_that_hangs_is_ended_in_time(strict_pool: DecoderPool) -> None:
    stuck = _worker_process(strict_pool)
    stuck.suspend()
    started = time.monotonic()
    with pytest.raises(PixelError, match=r"longer than 0\.5 s"):
        strict_pool.decode(jpeg_ls(), "jpegls", GEOMETRY)
    assert time.monotonic() - started < 5
    assert not psutil.pid_exists(stuck.pid)


def test_a_stream_that_asks_for_more_memory_than_a_film_is_refused() -> None:
    pool = DecoderPool(workers=1, limits=Limits(seconds=30, memory=64 << 20))
    try:
        large = imagecodecs.jpegls_encode(np.zeros((9000, 9000), np.uint16))
        with pytest.raises(PixelError, match="decoded") as caught:
            pool.decode(large, "jpegls", Geometry(9000, 9000, 1, 16))
        assert caught.value.reason is NotEvaluated.UNDECODABLE
        assert np.array_equal(pool.decode(jpeg_ls(), "jpegls", GEOMETRY).samples, SAMPLES)
    finally:
        pool.close()


def test_one_slow_film_does_not_hold_up_another() -> None:
    pool = DecoderPool(workers=2, limits=Limits(seconds=3))
    try:
        pool.warm()
        _worker_process(pool).suspend()
        failed: list[PixelError] = []

        def stuck() -> None:
            try:
                pool.decode(jpeg_ls(), "jpegls", GEOMETRY)
            except PixelError as error:
                failed.append(error)

        thread = threading.Thread(target=stuck)
        thread.start()
        deadline = time.monotonic() + 10
        while pool._idle.qsize() == 2 and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        assert np.array_equal(pool.decode(jpeg_ls(), "jpegls", GEOMETRY).samples, SAMPLES)
        assert thread.is_alive()
        thread.join(10)
        assert failed
    finally:
        pool.close()


def test_closing_the_pool_ends_its_processes() -> None:
    pool = DecoderPool(workers=2)
    pool.warm()
    process = _worker_process(pool)
    pool.close()
    assert not psutil.pid_exists(process.pid)


def test_a_picture_of_another_size_than_the_header_says_is_never_decoded(pool: DecoderPool) -> None:
    with pytest.raises(PixelError) as caught:
        pool.decode(jpeg_ls(), "jpegls", Geometry(64, 64, 1, 12))
    assert caught.value.reason is NotEvaluated.BAD_GEOMETRY
    assert "64 x 48" in caught.value.sentence


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.95])
@pytest.mark.parametrize("codec", ["jpegls", "jpeg", "j2k"])
def test_a_cut_stream_is_refused(pool: DecoderPool, codec: str, keep: float) -> None:
    encoders = {
        "jpegls": jpeg_ls,
        "jpeg": lambda: imagecodecs.jpeg8_encode(SAMPLES.astype(np.uint8)),
        "j2k": lambda: imagecodecs.jpeg2k_encode(SAMPLES, level=0, reversible=True, codecformat="j2k"),
    }
    whole = encoders[codec]()
    with pytest.raises(PixelError) as caught:
        pool.decode(whole[: int(len(whole) * keep)], codec, GEOMETRY)
    assert caught.value.reason is NotEvaluated.UNDECODABLE


@pytest.mark.parametrize(
    ("codec", "encode", "second"),
    [
        ("jpeg", lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12), imagecodecs.jpegsof3_decode),
        ("jpegls", jpeg_ls, lambda data: __import__("jpeg_ls").decode(np.frombuffer(data, np.uint8))),
        ("htj2k", lambda a: imagecodecs.htj2k_encode(a, reversible=True), imagecodecs.jpeg2k_decode),
        (
            "j2k",
            lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k"),
            lambda data: __import__("openjpeg").decode(data),
        ),
    ],
)
def test_the_pinned_decoder_agrees_with_a_second_library(
    pool: DecoderPool, codec: str, encode, second
) -> None:
    rng = np.random.default_rng(3)
    samples = (SAMPLES + rng.integers(0, 40, SAMPLES.shape)).astype(np.uint16)
    data = encode(samples)
    assert np.array_equal(np.asarray(second(data)).reshape(samples.shape), samples)
    assert np.array_equal(pool.decode(data, codec, GEOMETRY).samples, samples)


def test_the_child_knows_every_codec_that_is_offered() -> None:
    from triage.assess.decode import CODECS

    assert set(CODECS.values()) == set(decoder_child.DECODERS)


def test_headers_are_read_without_a_decoder() -> None:
    assert jpeg_geometry(jpeg_ls()) == Geometry(64, 48, 1, 16)
    stream = imagecodecs.jpeg2k_encode(SAMPLES, level=0, reversible=True, codecformat="jp2", bitspersample=12)
    assert j2k_geometry(stream) == Geometry(64, 48, 1, 12)


def test_a_fragment_that_claims_more_than_is_there_is_refused() -> None:
    payload = bytes.fromhex("feff00e000000000 feff00e0ff000000") + b"short"
    with pytest.raises(PixelError, match="cut short"):
        frame_bytes(memoryview(payload))
