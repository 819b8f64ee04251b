"""The report of an evaluation and the audit of shortcuts, on made-up films."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from triage.assess.registry import Model, Thresholds
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.errors import NotWritten
from triage.learn import audit as auditing
from triage.learn.audit import audit
from triage.learn.bars import MARKS, held_against
from triage.learn.cache import cache_dir, pictures
from triage.learn.data import read_films
from triage.learn.evaluate import Evaluation, evaluate
from triage.learn.report import page, write_report


class White:
    """An engine that calls a film diseased for white in its upper corners, and frontal if it is not dark."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        corners = batch[:, 0, 1:3, 2:10].mean(axis=(1, 2))
        logits = np.zeros((len(batch), len(CLASSES) + 1), np.float32)
        logits[:, 0] = 4
        logits[:, 4] = 4 * corners
        logits[:, -1] = 4 * (batch[:, 0, 12:20, 12:20].mean(axis=(1, 2)))
        return logits


@pytest.fixture
def model(tmp_path: Path) -> Model:
    limits = Thresholds(0.5, 0.9)
    return Model(
        folder=tmp_path,
        name="chest",
        version="9",
        architecture="densenet121",
        classes=CLASSES,
        size=32,
        preparation="equalised/1",
        sha256="ab" * 32,
        data_sha256="cd" * 32,
        scale=Scale(),
        gate=0.5,
        any_disease=limits,
        findings=dict.fromkeys(Finding, limits),
    )


@pytest.fixture
def made(make_set, model, tmp_path) -> Evaluation:
    return evaluate(model, White(), make_set(each=10), cache=tmp_path / "cache", border=False)


def test_the_report_needs_no_other_file_and_shows_each_row(made, tmp_path):
    write_report(made, tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "six_classes_all" in text
    assert "any_disease" in text
    assert text.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert not list((tmp_path / "out").glob(".*part"))


def test_what_was_asked_for_beyond_the_rows_is_shown(make_set, model, tmp_path):
    made = evaluate(
        model,
        White(),
        make_set(each=10),
        cache=tmp_path / "cache",
        border=False,
        left_out=["south"],
    )
    made.document["not_evaluated"] = {"not-frontal": 3}
    html = page(made)
    assert "<h2>Sources that were never seen</h2>" in html
    assert "<td>not-frontal</td><td>3</td>" in html


def test_text_from_the_data_cannot_become_markup(made):
    made.document["model"] = "<script>x</script>"
    assert "<script>x" not in page(made)


def test_a_report_that_cannot_be_written_is_a_sentence(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten, match="can't be written"):
        write_report(made, tmp_path / "file" / "report.html")


def test_the_audit_finds_a_network_that_reads_white_boxes(make_set, model, tmp_path):
    films = read_films(make_set(each=10))
    found = audit(model, White(), films, pictures(films, cache_dir(tmp_path / "cache")))
    boxes = found["shortcuts"]["white boxes pasted on normal films"]
    assert boxes["mean_after"] > boxes["mean_before"] + 0.1
    gamma = found["robustness"]["gamma 1.6"]
    # only the order of the grey values counts, so a monotone change is (nearly) no change
    assert gamma["mean_change"] < 0.02
    assert found["robustness"]["turned by 5 degrees"]["n"] == found["films"]


def test_what_covers_letters_leaves_no_white():
    picture = np.full((64, 64), 90, np.uint8)
    picture[4:12, 4:30] = 255
    assert auditing._covered(picture).max() < 120


def test_a_figure_below_its_bar_says_by_how_much():
    mark = next(mark for mark in MARKS if mark.row == "any_disease" and mark.figure == "auroc")
    lines = "\n".join(held_against({"any_disease": {"n": 10, "auroc": 0.9}}))
    assert f"missed by {mark.bar - 0.9:.3f}" in lines
    assert "1 of 1 bars are missed" in lines
    assert "missed" not in "\n".join(held_against({"any_disease": {"n": 10, "auroc": 0.99}}))
