"""The same film gives the same prepared picture, whatever encoding it came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.films import CODECS, NATIVE, Encoding, encode, file_bytes, picture
from triage.assess.pixels import read_film
from triage.assess.prepare import KEPT, prepare, reduce

SIZE = 96
FILM = picture()
EXPECTED = prepare(reduce(FILM.astype(np.float32), KEPT), SIZE)


def rank_error(data: bytes) -> np.ndarray:
    """How far the film's ranks (0..1) are from those of the film that was encoded."""
    return np.abs(prepare(read_film(data).reduced(KEPT), SIZE) - EXPECTED) / np.sqrt(12)


def tolerance(how: Encoding) -> float:
    """Half a grey value, through look-up tables that bend it, times the steepest slope of equalisation."""
    bends = 2 + 2 * (how.voi in ("lut", "falling", "sigmoid")) + 2 * (how.modality == "lut")
    return 0.004 + 6 * bends * 0.5 / (1 << how.bits)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    syntax = draw(st.sampled_from(sorted({**NATIVE, **CODECS})))
    bits = draw(st.integers(8, 16))
    native = syntax in NATIVE or syntax in ("rle", "deflated-frame", "encapsulated")
    signed = draw(st.booleans()) if native else False
    photometric = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    return Encoding(
        bits=bits,
        photometric=photometric,
        shape=draw(st.sampled_from(["IDENTITY", "INVERSE", None])),
        signed=signed,
        sign_extended=draw(st.booleans()),
        high=draw(st.booleans()) if native else False,
        allocated=draw(st.sampled_from([16, 32])) if syntax in NATIVE else 16,
        syntax=syntax,
        modality=draw(st.sampled_from(["none", "slope", "negative", "lut"])),
        voi=draw(
            st.sampled_from(["none", "linear", "exact", "sigmoid", "lut", "falling", "broken", "several"])
        ),
        overlay_bits=draw(st.booleans()) if native else False,
        orientation=draw(st.sampled_from(["L\\F", "R\\F", "L\\H", "R\\H"])),
        surplus=draw(st.sampled_from([0, 0, 700])) if syntax in NATIVE else 0,
    )


def check(how: Encoding) -> None:
    error = rank_error(file_bytes(encode(FILM, how)))
    assert error.max() < tolerance(how), how
    assert error.mean() < 0.25 * tolerance(how), how


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(encodings())
def test_any_encoding_prepares_the_same_picture(how: Encoding) -> None:
    check(how)


@pytest.mark.nightly
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(encodings())
def test_any_encoding_prepares_the_same_picture_at_length(how: Encoding) -> None:
    check(how)


@pytest.mark.parametrize("syntax", sorted(CODECS))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_codec_and_depth(syntax: str, bits: int) -> None:
    check(Encoding(bits=bits, syntax=syntax, photometric="MONOCHROME1", shape="INVERSE"))


def test_a_wrong_polarity_would_be_noticed() -> None:
    inverted = encode(1 - FILM, Encoding())
    assert rank_error(file_bytes(inverted)).mean() > 0.2


def test_a_film_from_a_dataset_is_the_film_from_its_file() -> None:
    ds = encode(FILM, Encoding(voi="lut"))
    assert np.array_equal(read_film(ds).picture, read_film(file_bytes(ds)).picture)
