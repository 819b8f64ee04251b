"""Every object of the corpus, and damaged copies of good ones, through the pixel chain: an answer, always."""

from __future__ import annotations

import csv
import random
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.films import Encoding, encode, file_bytes, picture
from triage.assess.decode import DecoderPool, Limits
from triage.assess.errors import PixelError
from triage.assess.pixels import read_film
from triage.domain.finding import NotEvaluated

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

#: Longer than this is a hang.
SLOW = 10.0  # seconds
FILM = picture(64, 56)
SYNTAXES = (
    "explicit",
    "implicit",
    "big-endian",
    "deflated",
    "rle",
    "jpeg-lossless",
    "jpeg-ls",
    "jpeg-2000",
    "htj2k",
)


@pytest.fixture(scope="module")
def pool():
    made = DecoderPool(limits=Limits(seconds=8))
    yield made
    made.close()


def answer(data: bytes | Path, pool: DecoderPool) -> str:
    """Return "film" or the reason; anything but a film or a PixelError is a failure of the test."""
    started = time.monotonic()
    try:
        film = read_film(data, pool)
        assert film.reduced(32).shape == (32, 32)
        said = "film"
    except PixelError as error:
        said = error.reason.value if error.sentence else ""
    assert said
    assert time.monotonic() - started < SLOW
    return said


def test_every_object_of_the_corpus_has_an_answer(shared: Path, pool: DecoderPool) -> None:
    with (shared / "dicom/manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    said = {row["file"]: answer(shared / "dicom" / row["file"], pool) for row in rows}
    films = {row["file"] for row in rows if row["expect"] == "assess"}
    assert {name for name in films if said[name] != "film"} == set()
    assert len(films) > 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jpeg_cut_30pct", NotEvaluated.UNDECODABLE),
        ("jls_cut", NotEvaluated.UNDECODABLE),
        ("jls_bomb_header", NotEvaluated.BAD_GEOMETRY),
        ("rle_bomb", NotEvaluated.UNDECODABLE),
        ("deflate_bomb_64mib", NotEvaluated.UNDECODABLE),
        ("truncated_at_90pct", NotEvaluated.UNDECODABLE),
        ("nested_900", None),
    ],
)
def test_traps(shared: Path, pool: DecoderPool, name: str, reason: NotEvaluated | None) -> None:
    before = psutil.Process().memory_info().rss
    said = answer(shared / f"dicom/torture/{name}.dcm", pool)
    if reason is not None:
        assert said == reason.value
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_memory_does_not_grow_from_round_to_round(shared: Path, pool: DecoderPool) -> None:
    files = sorted((shared / "dicom/torture").glob("*.dcm")) + sorted((shared / "dicom/cxr").glob("*.dcm"))
    sizes = []
    for _ in range(5):
        for file in files:
            answer(file, pool)
        sizes.append(psutil.Process().memory_info().rss)
    assert sizes[-1] < 1.1 * sizes[0]


def _damaged(seed: int, syntax: str, flips: int) -> bytes:
    data = bytearray(file_bytes(encode(FILM, Encoding(syntax=syntax, voi="lut", modality="lut"))))
    rng = random.Random(seed)
    for _ in range(flips):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


DAMAGE = st.tuples(st.integers(0, 2**32), st.sampled_from(SYNTAXES), st.integers(1, 40))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DAMAGE)
def test_flipped_bytes_have_an_answer(pool: DecoderPool, damage: tuple[int, str, int]) -> None:
    answer(_damaged(*damage), pool)


@pytest.mark.nightly
def test_flipped_bytes_for_ten_minutes(pool: DecoderPool, shared: Path) -> None:
    rng = random.Random(time.time_ns())
    files = [
        file.read_bytes() for file in (shared / "dicom").rglob("*.dcm") if 0 < file.stat().st_size < 500_000
    ]
    end = time.monotonic() + 600
    while time.monotonic() < end:
        seed = rng.getrandbits(32)
        dice = random.Random(seed)
        data = bytearray(dice.choice(files))
        for _ in range(dice.randint(1, 60)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            answer(bytes(data), pool)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
