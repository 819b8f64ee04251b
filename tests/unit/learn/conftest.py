"""A tiny set of made-up films: every class is a shape of its own, so that a network can learn it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from triage.learn import validate

CLASSES = ("normal", "bacterial_pneumonia", "viral_pneumonia", "covid19", "tuberculosis", "other")
LABELS = (*CLASSES, "pneumonia_unspecified", "not_frontal")

Row = dict[str, str]
MakeSet = Callable[..., Path]


def film(code: int, seed: int, edge: int = 48) -> np.ndarray:
    """A blob whose place and stripes depend on the class, with grain."""
    rng = np.random.default_rng((code, seed))
    y, x = np.mgrid[-1 : 1 : edge * 1j, -1 : 1 : edge * 1j]
    picture = 90 + 60 * np.exp(-((x - 0.12 * code + 0.4) ** 2 + y**2) * 6) + 25 * np.sin((code + 1) * 5 * y)
    # coarse shapes of its own, so that no film is taken for a copy of another
    own = 260 * cv2.GaussianBlur(rng.normal(0, 1, (edge, edge)), (0, 0), 3)
    return np.clip(picture + own + rng.normal(0, 3, (edge, edge)), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def _beginners_may_collapse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps teach a network nothing: that it gives one answer only counts for tests that ask for it."""
    if "collapse_counts" not in request.fixturenames:
        monkeypatch.setattr(validate, "_COLLAPSE", 1.0)


@pytest.fixture
def collapse_counts() -> None:
    """Let a run that gives one answer fail, as every run does outside these tests."""


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Write `index.csv` and pictures; `labels` says which, `each` how many of one label in train."""

    def make(labels: tuple[str, ...] = LABELS, each: int = 6, name: str = "set") -> Path:
        root = tmp_path / name
        (root / "img").mkdir(parents=True)
        rows: list[Row] = []
        for label in labels:
            for number in range(each * 2):
                split = ("train", "train", "val", "test")[number % 4]
                file = f"img/{label}-{number}.png"
                cv2.imwrite(str(root / file), film(LABELS.index(label), number))
                patient = f"{label}-{number}"
                source = ("north", "south")[number % 3 == 0]
                rows.append(
                    {"file": file, "label": label, "split": split, "patient": patient, "source": source}
                )
        with (root / "index.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return root

    return make


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe of two short stages at 32 px; keyword arguments replace or add top-level lines."""

    def make(name: str = "tiny", extra: str = "", stages: str = "", **lines: object) -> Path:
        top = {"name": f'"{name}"', "about": '"a test"', "batch": 8, "validate_every": 16, "seed": 3}
        # one process: a second one takes seconds to start; the tests of teams ask for two
        top |= {"processes": 1} | lines
        classes = "\n".join(f"{label} = {{ share = 0.12 }}" for label in LABELS)
        steps = stages or "".join(
            f"[[stages]]\nsize = 32\nfilms = {films}\nrate = 0.001\n" for films in (32, 16)
        )
        text = "\n".join(f"{key} = {value}" for key, value in top.items())
        path = tmp_path / f"{name}.toml"
        path.write_text(f"{text}\n{steps}\n[classes]\n{classes}\n{extra}\n")
        return path

    return make
