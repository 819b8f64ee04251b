"""The pixel chain where headers are wrong, odd or hostile."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.films import Encoding, encode, file_bytes, lut_item, picture
from triage.assess.errors import PixelError
from triage.assess.pixels import read_film, read_picture
from triage.assess.polarity import looks_inverted, polarity
from triage.assess.prepare import reduce
from triage.domain.finding import NotEvaluated

FILM = picture()


def changed(how: Encoding | None = None, **attributes: object) -> bytes:
    ds = encode(FILM, how or Encoding())
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return file_bytes(ds)


def refusal(data: bytes) -> PixelError:
    with pytest.raises(PixelError) as caught:
        read_film(data)
    assert caught.value.sentence.endswith(".")
    return caught.value


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"NumberOfFrames": 12}, NotEvaluated.MULTI_FRAME),
        ({"Rows": 0}, NotEvaluated.BAD_GEOMETRY),
        ({"Rows": 65535, "Columns": 65535}, NotEvaluated.BAD_GEOMETRY),
        ({"Rows": 20, "Columns": 20}, NotEvaluated.TOO_SMALL),
        ({"Rows": 301}, NotEvaluated.UNDECODABLE),
        ({"BitsAllocated": 12}, NotEvaluated.BAD_GEOMETRY),
        ({"BitsStored": 0}, NotEvaluated.BAD_GEOMETRY),
        ({"SamplesPerPixel": 2}, NotEvaluated.BAD_GEOMETRY),
        ({"PhotometricInterpretation": "RGB"}, NotEvaluated.BAD_GEOMETRY),
        ({"PixelData": b""}, NotEvaluated.NO_PIXELS),
        ({"PatientOrientation": "A\\F"}, NotEvaluated.NOT_FRONTAL),
        ({"PixelData": b"\1\0" * FILM.size}, NotEvaluated.CLIPPED_EXPOSURE),
    ],
)
def test_what_is_no_film_is_refused_with_its_reason(
    attributes: dict[str, object], reason: NotEvaluated
) -> None:
    assert refusal(changed(**attributes)).reason is reason


@pytest.mark.parametrize("data", [b"", b"\0" * 200, b"GIF89a" + b"x" * 500, b"\0" * 128 + b"DICM"])
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    assert refusal(data).reason is NotEvaluated.UNDECODABLE


def test_every_cut_of_a_file_is_refused() -> None:
    whole = changed()
    for keep in (10, 131, 140, 200, 500, len(whole) // 2, len(whole) - 2):
        refusal(whole[:keep])


def test_monochrome1_is_inverted_once_whatever_the_presentation_shape_says() -> None:
    for shape in ("INVERSE", "IDENTITY", None):
        film = read_film(file_bytes(encode(FILM, Encoding(photometric="MONOCHROME1", shape=shape))))
        assert np.corrcoef(film.picture.ravel(), FILM.ravel())[0, 1] > 0.99
        assert ("photometric-contradiction" in film.quirks) == (shape == "IDENTITY")


def test_padding_is_black_and_leaves_the_contrast_alone() -> None:
    how = Encoding(photometric="MONOCHROME1", shape=None)
    ds = encode(FILM, how)
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(FILM.shape).copy()
    pixels[:, :40] = 0
    ds.PixelData, ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = pixels.tobytes(), 3, 0
    ds["PixelPaddingValue"].VR = ds["PixelPaddingRangeLimit"].VR = "US"
    film = read_film(file_bytes(ds))
    assert (film.picture[:, :40] == 0).all()
    assert "padding" in film.quirks
    assert np.corrcoef(film.picture[:, 40:].ravel(), FILM[:, 40:].ravel())[0, 1] > 0.99


def test_a_wrong_window_does_not_blacken_the_film() -> None:
    film = read_film(changed(WindowCenter=32768, WindowWidth=100))
    assert 0.3 < film.picture.mean() < 0.7


def test_a_lookup_table_that_clips_the_film_away_is_ignored() -> None:
    ds = encode(FILM, Encoding())
    entries = np.zeros(4096)
    entries[4000:] = 65535
    ds.VOILUTSequence = [lut_item(entries, Encoding())]
    film = read_film(file_bytes(ds))
    assert "voi-clips" in film.quirks
    assert np.corrcoef(film.picture.ravel(), FILM.ravel())[0, 1] > 0.99


def test_one_bright_marker_does_not_take_the_contrast() -> None:
    marked = FILM * 0.2
    marked[:8, :8] = 1.0
    film = read_film(file_bytes(encode(marked, Encoding(bits=16))))
    assert film.picture[50:250].std() > 0.15


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"])
def test_colour_objects_of_a_grey_film_are_films(kind: str) -> None:
    film = read_film(file_bytes(colour(kind)))
    assert np.corrcoef(film.picture.ravel(), FILM.ravel())[0, 1] > 0.999


def test_a_colour_photograph_is_no_film() -> None:
    ds = colour("RGB")
    pixels = np.frombuffer(ds.PixelData, np.uint8).reshape(*FILM.shape, 3).copy()
    pixels[..., 2] //= 3
    ds.PixelData = pixels.tobytes()
    assert refusal(file_bytes(ds)).reason is NotEvaluated.NOT_CR_DX


def colour(kind: str) -> Dataset:
    grey = np.rint(FILM * 255).astype(np.uint8)
    ds = encode(FILM, Encoding(bits=8, allocated=8))
    ds.PhotometricInterpretation = kind
    if kind == "PALETTE COLOR":
        order = np.random.default_rng(0).permutation(256).astype(np.uint8)
        table = np.zeros(256, "<u2")
        table[order] = np.arange(256) * 257
        for name in ("Red", "Green", "Blue"):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            ds[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
            setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
        ds.PixelData = order[grey].tobytes()
        return ds
    ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    middle = np.full_like(grey, 128)
    if kind == "RGB":
        ds.PixelData = np.stack([grey] * 3, -1).tobytes()
    elif kind == "YBR_FULL":
        ds.PixelData = np.stack([grey, middle, middle], -1).tobytes()
    else:
        pairs = grey.reshape(FILM.shape[0], -1, 2)
        half = np.full((*pairs.shape[:2], 2), 128, np.uint8)
        ds.PixelData = np.concatenate([pairs, half], -1).tobytes()
    return ds


@pytest.mark.parametrize("size", [64, 96, 224])
@pytest.mark.parametrize("shape", [(300, 260), (1013, 777), (224, 224)])
@pytest.mark.parametrize("voi", ["none", "lut"])
def test_the_fast_reduction_is_the_exact_area_mean(size: int, shape: tuple[int, int], voi: str) -> None:
    film = read_film(file_bytes(encode(picture(*shape), Encoding(voi=voi))))
    exact = _weights(shape[0], size) @ film.picture.astype(np.float64) @ _weights(shape[1], size).T
    assert np.abs(film.reduced(size) - exact).max() < 2e-6
    assert np.abs(reduce(film.picture, size) - exact).max() < 2e-6


def _weights(length: int, size: int) -> np.ndarray:
    edges = np.linspace(0, length, size + 1)
    low, high = np.arange(length), np.arange(1, length + 1)
    overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    return np.clip(overlap, 0, None) * size / length


def test_a_small_picture_is_enlarged() -> None:
    film = read_film(file_bytes(encode(picture(50, 60), Encoding())))
    assert film.reduced(96).shape == (96, 96)


def test_polarity_of_a_negative_is_the_opposite() -> None:
    shown = FILM.astype(np.float32)
    assert polarity(shown) == pytest.approx(-polarity(1 - shown), abs=1e-3)
    assert looks_inverted(1 - shown)
    assert not looks_inverted(shown)


def test_a_picture_file_is_a_film(tmp_path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "film.png"), np.rint(FILM * 65535).astype(np.uint16))
    film = read_picture(tmp_path / "film.png")
    assert np.corrcoef(film.picture.ravel(), FILM.ravel())[0, 1] > 0.999
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PixelError, match="neither"):
        read_picture(tmp_path / "text.png")


def test_a_broad_border_is_not_part_of_the_film() -> None:
    framed = np.zeros((600, 700))
    framed[150:450, 220:480] = FILM
    film = read_film(file_bytes(encode(framed, Encoding())))
    assert "border" in film.quirks
    assert film.picture.shape == (600, 700)
    alone = read_film(file_bytes(encode(FILM, Encoding())))
    assert np.corrcoef(film.reduced(64).ravel(), alone.reduced(64).ravel())[0, 1] > 0.95


def test_a_narrow_border_stays() -> None:
    framed = np.zeros((330, 280))
    framed[15:315, 10:270] = FILM
    film = read_film(file_bytes(encode(framed, Encoding())))
    assert film.quirks == ()
    assert film.reduced(66)[0].max() == 0


def test_a_turned_film_is_the_film_turned() -> None:
    film = read_film(file_bytes(encode(FILM, Encoding())))
    assert np.array_equal(film.turned(1).picture, np.rot90(film.picture))
    assert film.turned(1).quirks == ("turned",)


def test_a_film_is_shown_with_square_pixels_and_never_larger_than_it_is() -> None:
    # Vertical before horizontal: the pixels are twice as high as they are wide.
    film = read_film(changed(PixelAspectRatio=["2", "1"]))
    rows, columns = film.shape
    assert film.shown(film.picture, 10_000).shape == (rows, round(columns * film.pixel_aspect))
    assert film.pixel_aspect == 0.5
    assert max(film.shown(film.picture, 100).shape) == 100
