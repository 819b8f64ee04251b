"""Letters on a five by seven grid: side markers and pages of text."""

from __future__ import annotations

import numpy as np

from triage.samples.canvas import Canvas, Map

#: Each letter as five columns from left to right; bit 0 is the top row.
_COLUMNS = {
    "A": "7e0909097e", "B": "7f49494936", "C": "3e41414122", "D": "7f4141413e", "E": "7f49494941",
    "F": "7f09090901", "G": "3e41495932", "H": "7f0808087f", "I": "00417f4100", "J": "304040403f",
    "K": "7f08142241", "L": "7f40404040", "M": "7f0204027f", "N": "7f0408107f", "O": "3e4141413e",
    "P": "7f09090906", "Q": "3e4151215e", "R": "7f09192946", "S": "2649494932", "T": "01017f0101",
    "U": "3f4040403f", "V": "1f2040201f", "W": "7f2010207f", "X": "6314081463", "Y": "0304780403",
    "Z": "6151494543", " ": "0000000000", ".": "0000600000", "-": "0008080800",
}  # fmt: skip
#: Columns from one letter to the next, rows of a letter.
ADVANCE, TALL = 6, 7


def stencil(canvas: Canvas, text: str, at: tuple[float, float], dot: float) -> Map:
    """Return 1 where `text` is written, its top left corner `at` from the film's, its dots `dot` wide."""
    bits = np.zeros((TALL, ADVANCE * len(text)), np.float32)
    for place, letter in enumerate(text):
        columns = np.frombuffer(bytes.fromhex(_COLUMNS[letter]), np.uint8)
        bits[:, place * ADVANCE : place * ADVANCE + 5] = (columns[None, :] >> np.arange(TALL)[:, None]) & 1
    column = np.floor((canvas.x + canvas.aspect / 2 - at[0]) / dot).astype(int)
    row = np.floor((canvas.y - at[1]) / dot).astype(int)
    rows = np.flatnonzero((row[:, 0] >= 0) & (row[:, 0] < TALL))
    columns_hit = np.flatnonzero((column[0] >= 0) & (column[0] < bits.shape[1]))
    sheet = canvas.zeros()
    sheet[np.ix_(rows, columns_hit)] = bits[np.ix_(row[rows, 0], column[0, columns_hit])]
    return sheet
