"""Decoding, window and reduction of a 3,000 x 2,500 film of 12 bits: contenders and ours, interleaved.

    python -m benchmarks pixels [--quick]

Each decoder's answer is compared with the samples that were encoded, each reduction with the exact area
mean. "ceiling" is what the memory allows: one pass that reads every word of the film and adds it up.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import torch
from monai.transforms import Resize

from tests.films import CODECS, Encoding, encode, file_bytes, picture
from triage.assess.codestream import Geometry, frame_bytes
from triage.assess.decode import CODECS as OURS
from triage.assess.decode import DecoderPool
from triage.assess.pixels import read_film
from triage.assess.source import open_source

ROWS, COLUMNS, SIZE = 3000, 2500, 224
BAR_REDUCTION, BAR_DECODE = 5.0, 0.6
#: The syntaxes whose decoding has a bar, then the others.
SYNTAXES = ("jpeg-lossless", "jpeg-ls", "htj2k", "jpeg-2000", "rle")


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each, run in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            begin = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def exact_mean(film: np.ndarray) -> np.ndarray:
    """Return the area mean in double precision, by weights."""

    def weights(length: int) -> np.ndarray:
        edges = np.linspace(0, length, SIZE + 1)
        low, high = np.arange(length), np.arange(1, length + 1)
        return (
            np.clip(np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low), 0, None)
            * SIZE
            / length
        )

    return weights(film.shape[0]) @ film.astype(np.float64) @ weights(film.shape[1]).T


def bench_reduction(path: Path, rounds: int) -> None:
    """Window to 0..1 and reduce to 224 x 224, with and without reading the file."""
    film = read_film(path)
    words = np.asarray(film.words)
    low, high = np.percentile(words[::4, ::4], (0.5, 99.5))
    area = Resize((SIZE, SIZE), mode="area")
    smooth = Resize((SIZE, SIZE), mode="bilinear", anti_aliasing=True)

    def windowed() -> torch.Tensor:
        # MONAI takes no uint16
        return torch.from_numpy(np.clip((words.astype(np.float32) - low) / (high - low), 0, 1)[None])

    answers = {
        "monai area": lambda: area(windowed()),
        "ours": lambda: film.reduced(SIZE),
        "one pass (ceiling)": lambda: np.add.reduce(words, axis=0, dtype=np.uint32),
        "monai bilinear antialias": lambda: smooth(windowed()),
        "ours with reading the file": lambda: read_film(path).reduced(SIZE),
    }
    times = interleaved(answers, rounds)
    exact = exact_mean(film.picture)
    print(f"window and reduce {ROWS} x {COLUMNS} to {SIZE} (median of {rounds} rounds)")
    for name in answers:
        print(f"  {name:32} {times[name]:8.1f} ms")
    ours = float(np.abs(film.reduced(SIZE) - exact).max())
    theirs = float(np.abs(np.asarray(area(windowed()))[0] - exact).max())
    ratio = times["monai area"] / times["ours"]
    print(f"  largest difference from the exact area mean: ours {ours:.1e}, monai area {theirs:.1e}")
    print(
        f"  contender {times['monai area']:.1f} ms, ours {times['ours']:.1f} ms, ratio {ratio:.1f} "
        f"(bar {BAR_REDUCTION}), ceiling {times['one pass (ceiling)']:.1f} ms, "
        f"share of ceiling {times['one pass (ceiling)'] / times['ours']:.0%} "
        f"{'ok' if ratio >= BAR_REDUCTION and ours < 1e-5 else 'BELOW THE BAR'}"
    )


def bench_decoding(film: np.ndarray, rounds: int, folder: Path) -> None:
    """Our pinned decoder in its process beside pydicom's default plugin in this one."""
    pool = DecoderPool(workers=1)
    pool.warm()
    stored = np.rint(film * 4095).astype(np.uint16)
    for name in SYNTAXES:
        path = folder / f"{name}.dcm"
        path.write_bytes(file_bytes(encode(film, Encoding(syntax=name, shape=None))))
        source = open_source(path)
        frame, codec = frame_bytes(source.payload), OURS[CODECS[name][0]]
        geometry = Geometry(ROWS, COLUMNS, 1, 16 if codec == "rle" else 12)
        exact = np.array_equal(pool.decode(frame, codec, geometry).samples, stored)
        times = interleaved(
            {
                "pydicom": lambda path=path: pydicom.dcmread(path).pixel_array,
                "ours": lambda frame=frame, codec=codec, geometry=geometry: pool.decode(
                    frame, codec, geometry
                ),
            },
            rounds,
        )
        ratio = times["ours"] / times["pydicom"]
        barred = name in SYNTAXES[:3]
        said = "" if not barred else f"(bar {BAR_DECODE}) {'ok' if ratio <= BAR_DECODE else 'ABOVE THE BAR'}"
        print(
            f"  {name:14} {len(frame) / 1e6:5.1f} MB  contender {times['pydicom']:7.1f} ms"
            f"  ours {times['ours']:7.1f} ms  {ratio:.2f}x  {'exact' if exact else 'NOT EXACT'}  {said}"
        )
    pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options, _ = parser.parse_known_args()
    rounds = 3 if options.quick else 9
    film = picture(ROWS, COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        native = folder / "native.dcm"
        native.write_bytes(file_bytes(encode(film, Encoding())))
        bench_reduction(native, rounds)
        print("decode, through a process of its own, beside pydicom's default in this process")
        bench_decoding(film, max(3, rounds // 3), folder)


if __name__ == "__main__":
    main()
