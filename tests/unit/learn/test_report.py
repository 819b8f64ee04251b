"""The report of an evaluation, its card and the audit of shortcuts, on made-up films."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models import described
from triage.assess.registry import Model, Thresholds
from triage.domain.finding import CLASSES
from triage.errors import NotWritten
from triage.learn import audit as auditing
from triage.learn.audit import audit
from triage.learn.bars import MARKS
from triage.learn.card import card
from triage.learn.data import read_films
from triage.learn.evaluate import Evaluation, evaluate
from triage.learn.labels import TB
from triage.learn.report import page, write_pictures, write_report
from triage.learn.table import cells, markdown, sections, table


class White:
    """An engine that calls a film diseased for white in its upper corners, and frontal if it is not dark."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        corners = batch[:, 0, 1:3, 2:10].mean(axis=(1, 2))
        logits = np.zeros((len(batch), len(CLASSES) + 1), np.float32)
        logits[:, 0] = 4
        logits[:, 4] = 4 * corners
        logits[:, -1] = 4 * (batch[:, 0, 12:20, 12:20].mean(axis=(1, 2)))
        return logits


class Pooled(torch.nn.Module):
    """A network that sees 8 x 8 means of a film, and answers the same to all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(64, len(CLASSES) + 1)
        torch.nn.init.zeros_(self.fc.weight)

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(films, 8).flatten(1))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return described(32, Thresholds(0.5, 0.9), tmp_path)


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


def test_whatever_was_measured_stands_in_the_table_the_report_and_the_card(made, model):
    document = json.loads(json.dumps(made.document))
    document["audit"] = {"gate": {"as its own negative": {"n": 20, "turned_away": 0.95}}}
    quality = document["quality"]
    wanted = [
        document["any_disease"],
        document["outcome"]["per_source"]["north"],
        document["groups"]["sex"]["unknown"],
        document["gate"]["per_kind"]["south"],
        quality["per_class"]["tuberculosis"],
        quality["trade_offs"]["0.95"],
        quality["predictive_values"]["0.05"],
        quality["calibration"]["any_disease"],
        quality["calibration"]["six_classes"],
    ]
    told = [(name.split("_")[0], value, span) for row in wanted for name, value, span in cells(row)]
    names = {name for name, _, _ in told}
    assert names >= {"auroc", "auprc", "brier", "ece", "slope", "ppv", "npv", "positive", "undetermined"}
    made.document["audit"] = document["audit"]
    pages = {
        "table": table(document),
        "report": page(made),
        "card": card(model, document, made.films, made.films),
    }
    for kind, text in pages.items():
        for name, value, span in told:
            assert name in text, kind
            assert value in text, kind
            assert span in text, kind
        assert re.search("most confused", text, re.IGNORECASE), kind
        assert "turned away 0.950" in text, kind


def test_a_terminal_sees_how_far_the_judging_is(make_set, model, tmp_path, monkeypatch, capsys):
    data = make_set()
    evaluate(model, White(), data, cache=tmp_path / "cache", border=False)
    assert "judging" not in capsys.readouterr().err
    monkeypatch.setenv("FORCE_COLOR", "1")
    evaluate(model, White(), data, cache=tmp_path / "cache", border=False)
    said = capsys.readouterr()
    films = (read_films(data).splits == "test").sum()
    assert f"{films}/{films}" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.err)
    assert not said.out


def test_every_area_and_every_calibration_has_an_interval(made):
    quality = made.document["quality"]
    for row in [
        made.document["any_disease"],
        *quality["per_class"].values(),
        *quality["calibration"].values(),
    ]:
        for key in {"auroc", "auprc", "brier", "ece", "slope"} & row.keys():
            low, high = row[f"{key}_ci"]
            assert low <= high
    assert made.document["six_classes_all"]["confusion"]["classes"] == list(CLASSES)


def test_the_pictures_are_files_too(made, tmp_path):
    write_pictures(made, tmp_path / "out")
    found = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in found] == ["confusion.png", "reliability.png", "roc.png", "worst.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)


def test_a_card_says_of_films_and_weights_only_what_lies_beside_the_model(made, model):
    model = replace(model, folder=model.folder / "chest" / "9")
    text = card(model, made.document, made.films, made.films)
    for ours in ("kermany", "children", "White boxes", "370,000", "plain baseline", "bars", "non-commercial"):
        assert ours not in text
    model.folder.mkdir(parents=True)
    (model.folder.parent / "NOTES.md").write_text("## What deceives it\nThe porter's shoes.\n")
    assert "The porter's shoes." in card(model, made.document, made.films, made.films)


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


def test_the_audit_finds_a_network_that_reads_white_boxes(made, model):
    found = audit(model, White(), Pooled(), made)
    boxes = found["shortcuts"]["white boxes pasted on normal films"]
    assert boxes["mean_after"] > boxes["mean_before"] + 0.1
    # to this network what is dark in the middle is no frontal film
    gate = found["gate"]
    assert gate["as its own negative"]["n"] == found["films"]
    assert gate["as its own negative"]["turned_away"] > gate["upside down"]["turned_away"] + 0.3
    gamma = found["robustness"]["gamma 1.6"]
    # only the order of the grey values counts, so a monotone change is (nearly) no change
    assert gamma["mean_change"] < 0.02
    assert found["robustness"]["turned by 5 degrees"]["n"] == found["films"]


class Tall(White):
    """An engine that calls a film diseased where its first rows are not dark."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        logits = super().infer(batch)
        logits[:, 4] = 8 * batch[:, 0, :2].mean(axis=(1, 2))
        return logits


def test_the_audit_finds_a_network_that_reads_how_far_a_film_reaches(made, model):
    dark = made.pictures.copy()
    dark[:, : dark.shape[1] // 16] = 0
    found = audit(model, Tall(), Pooled(), replace(made, pictures=dark))
    cut = found["shortcuts"]["an eighth of the height cut off normal films"]
    assert cut["mean_after"] > cut["mean_before"] + 0.2
    wide = found["robustness"]["an eighth of the width cut off"]
    assert found["robustness"]["an eighth of the height cut off"]["mean_change"] > wide["mean_change"] + 0.05


def test_the_audit_looks_at_judged_films_only_and_at_all_of_tuberculosis(made, model, monkeypatch):
    """As over DICOM, where the pictures of films that the service refused are black."""
    judged = made.judgement.judged
    kept = np.arange(len(judged.films)) % 2 == 0
    black = made.pictures.copy()
    black[made.indices[~kept]] = 0
    seen = []

    class Watching(White):
        def infer(self, batch):
            seen.extend(batch.std(axis=(1, 2, 3)))
            return super().infer(batch)

    half = replace(
        made,
        judgement=replace(made.judgement, judged=judged.take(kept)),
        indices=made.indices[kept],
        pictures=black,
    )
    monkeypatch.setattr(auditing, "FILMS", 6)
    found = audit(model, Watching(), Pooled(), half)
    assert found["films"] == 6
    tb = found["shortcuts"]["boxes and letters covered in tuberculosis films"]
    assert tb["n"] == ((judged.films.codes == TB) & kept).sum() > 0
    assert min(seen) > 0


def test_the_audit_reads_the_source_from_features_of_which_the_answers_say_nothing(make_set, model, tmp_path):
    made = evaluate(model, White(), make_set(("normal",), each=60), cache=tmp_path / "cache", border=False)
    marked = made.pictures.copy()
    marked[made.films.sources == "south", -56:] = 255
    found = audit(model, White(), Pooled(), replace(made, pictures=marked))["shortcuts"]
    told = found["source read from the features of normal films"]
    assert (told["n"], told["sources"], told["features"]) == (30, ["north", "south"], 64)
    assert told["balanced_accuracy"] > 0.9
    assert told["chance"] == 0.5


@pytest.mark.parametrize("change", ["as MONOCHROME1", "with a narrow window in the header"])
def test_what_the_header_says_of_a_film_hardly_moves_it(made, model, change):
    """The service's chain gives back the film that was written, as large, upright and with its polarity."""
    picture = np.asarray(made.pictures[made.indices[0]])
    again = auditing.ROBUSTNESS[change](picture)
    assert (again.shape, again.dtype) == (picture.shape, picture.dtype)
    assert np.abs(again.astype(int) - picture).max() < 30
    assert np.corrcoef(again.ravel(), picture.ravel())[0, 1] > 0.999
    found = audit(model, White(), Pooled(), made)["robustness"][change]
    assert found["n"] > 0
    assert found["mean_change"] < 0.01
    assert found["flipped"] == 0


def test_an_object_that_the_service_refuses_is_black_to_the_audit():
    blank = np.full((64, 64), 90, np.uint8)
    assert not auditing.ROBUSTNESS["as MONOCHROME1"](blank).any()


def test_what_covers_letters_leaves_no_white():
    picture = np.full((64, 64), 90, np.uint8)
    picture[4:12, 4:30] = 255
    assert auditing._covered(picture).max() < 120


def test_a_figure_below_its_bar_says_by_how_much():
    mark = next(mark for mark in MARKS if mark.row == "any_disease" and mark.figure == "auroc")
    sources = ("kermany", "nih_chestxray14", "rsna_2018", "jsrt", "tb_qatar", "covid_radiography")

    def told(auroc: float, split: str = "test") -> str:
        row = {"n": 10, "auroc": auroc, "per_source": {source: {"n": 2} for source in sources}}
        return "\n".join(markdown(section) for section in sections({"split": split, "any_disease": row}))

    assert f"missed by {mark.bar - 0.9:.3f}" in told(0.9)
    assert "1 of 1 bars are missed" in told(0.9)
    assert "missed by" not in told(0.99)
    assert "bars are missed" not in told(0.9, "val"), "the bars are of the films of `test`"
