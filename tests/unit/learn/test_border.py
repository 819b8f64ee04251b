"""What the border of a film tells, and the sets that can't be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import described
from triage.assess.registry import Thresholds
from triage.domain.finding import CLASSES
from triage.learn.evaluate import Evaluation, evaluate


class Undecided:
    def infer(self, batch: np.ndarray) -> np.ndarray:
        return np.zeros((len(batch), len(CLASSES) + 1), np.float32)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[Path], tuple[Evaluation, list[str]]]:
    """Evaluate as the command does where nothing is asked for, and return what was said too."""
    model = described(32, Thresholds(0.5, 0.9), tmp_path)

    def judged(data: Path) -> tuple[Evaluation, list[str]]:
        said: list[str] = []
        return evaluate(model, Undecided(), data, cache=tmp_path / "cache", say=said.append), said

    return judged


def change(data: Path, old: str, new: str) -> Path:
    index = data / "index.csv"
    index.write_text(index.read_text().replace(old, new))
    return data


def test_the_border_is_judged_beside_the_model(make_set, judge):
    made, _ = judge(make_set(each=8))
    border = made.document["border"]
    assert border["any_disease"]["n"] == made.document["any_disease"]["n"]
    assert "gate" not in border


def test_a_set_without_val_has_no_figures_of_the_border_and_says_so(make_set, judge):
    made, said = judge(change(make_set(), ",val,", ",train,"))
    assert "border" not in made.document
    assert made.document["any_disease"]["n"] > 0
    assert any("No figures of the border alone" in line and "split val" in line for line in said)


def test_a_set_that_only_tests_has_no_figures_of_the_border_and_says_so(make_set, judge):
    made, said = judge(change(change(make_set(), ",val,", ",test,"), ",train,", ",test,"))
    assert "border" not in made.document
    assert any("two classes in the split train" in line for line in said)


def test_a_train_of_one_class_has_no_figures_of_the_border(make_set, judge):
    data = make_set(("normal", "covid19"), each=8)
    index = data / "index.csv"
    lines = index.read_text().splitlines()
    kept = [line for line in lines if "covid19" not in line or ",train," not in line]
    index.write_text("\n".join(kept))
    made, said = judge(data)
    assert "border" not in made.document
    assert any("two classes in the split train" in line for line in said)
    # normal films alone have no threshold to give
    made, said = judge(change(data, "covid19,val", "covid19,train"))
    assert any("a disease in the split val" in line for line in said)
