"""A run judged like a model, on sources that it never saw too, and beside what it stands for."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from tests.models import described, write_model
from triage.assess.network import Mirrored
from triage.assess.registry import Model, Thresholds
from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError, DataError, ModelRefused
from triage.learn.candidate import candidate
from triage.learn.card import learnt_from, package_with_card
from triage.learn.data import LEFT_OUT, read_films
from triage.learn.evaluate import evaluate
from triage.learn.originals import ORIGINALS, comparison
from triage.learn.recipe import Class, read_recipe, without
from triage.learn.runs import Run
from triage.learn.sampling import asked, chances
from triage.learn.train import train
from triage.learn.validate import NetworkEngine

_SHORT = "[[stages]]\nsize = 32\nfilms = 16\nrate = 0.001\n"


pytestmark = pytest.mark.usefixtures("one_thread")


class Eager:
    """An engine that knows nothing but calls every film frontal, and diseased by its brightest column."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(batch), len(CLASSES) + 1), np.float32)
        logits[:, 5] = batch[:, 0, :, 0].mean(axis=1)
        logits[:, -1] = 3
        return logits


@pytest.fixture
def model(tmp_path) -> Model:
    return described(32, Thresholds(0.1, 0.15), tmp_path)


def test_nothing_is_learnt_or_chosen_of_a_source_that_is_left_out(make_set, make_recipe):
    recipe = without(read_recipe(make_recipe()), ["south"])
    assert (recipe.name, recipe.leave_out) == ("tiny-without-south", ("south",))
    films = read_films(make_set())
    kept = films.without(recipe.leave_out)
    south = films.sources == "south"
    assert south.any()
    assert not chances(kept, recipe.classes)[south].any()
    assert not (asked(kept, recipe.classes) & (kept.splits == "val"))[south].any()
    assert set(films.without(["south"], keep="test").splits[south]) == {"test", LEFT_OUT}
    with pytest.raises(DataError, match="no source 'nowhere' that could be left out; it has: north, south"):
        films.without(["nowhere"])


def test_a_class_that_only_the_left_out_source_has_is_not_asked_for(make_set, make_recipe):
    data = make_set()
    rows = list(csv.DictReader((data / "index.csv").read_text().splitlines()))
    for row in rows:
        row["source"] = "south" if row["label"] == "tuberculosis" else "north"
    with (data / "index.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    films = read_films(data).without(["south"])
    chance = chances(films, read_recipe(make_recipe()).classes)
    assert chance.sum() == pytest.approx(1)
    assert not chance[films.codes == CLASSES.index("tuberculosis")].any()


def test_the_sources_of_a_class_are_drawn_in_the_proportion_that_the_recipe_gives(make_set):
    films = read_films(make_set())
    chance = chances(films, {"normal": Class(share=1, sources={"south": 3, "north": 1})})
    assert chance[films.sources == "south"].sum() == pytest.approx(0.75)
    assert chance[films.sources == "north"].sum() == pytest.approx(0.25)


def test_the_films_of_a_card_are_those_that_the_run_drew_from(make_set, make_recipe, tmp_path):
    data, cache = make_set(), tmp_path / "cache"
    drawn = "[stages.classes]\nnormal = { share = 0.5 }\ncovid19 = { share = 0.5, at_most = 2 }\n"
    recipe = make_recipe(stages=_SHORT + drawn)
    folder = train(recipe, data, tmp_path / "runs", device="cpu", cache=cache, leave_out=["south"])
    films = read_films(data)
    told = learnt_from([folder / "weights.safetensors"], films)
    counts = Counter((row.source, row.label) for row in told.rows)
    assert counts == {("north", "normal"): 4, ("north", "covid19"): 2}
    others = "[stages.classes]\nnormal = { share = 0.5 }\ntuberculosis = { share = 0.5 }\n"
    begun = make_recipe(name="later", stages=_SHORT + others, start_from=f'"{folder}"')
    later = train(begun, data, tmp_path / "runs", device="cpu", cache=cache)
    both = Counter(row.label for row in learnt_from([later / "weights.safetensors"], films).rows)
    assert both == {"normal": 6, "covid19": 2, "tuberculosis": 6}
    elsewhere = learnt_from([tmp_path / "weights.safetensors"], films)
    assert len(elsewhere) == (films.splits == "train").sum()


def test_the_films_of_a_card_are_also_those_of_the_model_that_a_run_began_with(
    make_set, make_recipe, tmp_path
):
    films, model, run = read_films(make_set()), write_model(tmp_path / "models"), Run(tmp_path / "run")
    run.folder.mkdir()
    few = _SHORT + "[stages.classes]\nnormal = { share = 1.0, sources = ['north'] }\n"
    run.begin(read_recipe(make_recipe(stages=few)), films.digest, datetime.now(UTC))
    run.note(start_from={"weights": str(model / "weights.safetensors")}, teachers=[])
    assert {(row.source, row.label) for row in learnt_from([run.weights], films).rows} == {
        ("north", "normal")
    }
    said = model / "model.toml"
    said.write_text(f'data_sha256 = "{films.digest}"\n{said.read_text()}')
    assert len(learnt_from([run.weights], films)) == (films.splits == "train").sum()


def test_a_class_is_learnt_from_no_more_films_than_the_recipe_allows(make_set):
    films = read_films(make_set(each=8))
    few, again = (
        chances(films, {"normal": Class(share=0.75, at_most=5), "covid19": Class(share=0.25)})
        for _ in range(2)
    )
    normal, covid = (films.codes == CLASSES.index(name) for name in ("normal", "covid19"))
    assert (few[normal] > 0).sum() == 5
    assert few[normal].sum() == pytest.approx(0.75)
    assert (few[covid] > 0).sum() == (covid & (films.splits == "train")).sum()
    assert np.array_equal(few, again)


def test_a_run_is_judged_on_the_source_that_it_never_saw(make_set, make_recipe, tmp_path, command):
    data, runs, cache = make_set(each=8), tmp_path / "runs", tmp_path / "cache"
    folder = train(make_recipe(stages=_SHORT), data, runs, device="cpu", cache=cache, leave_out=["south"])
    assert folder.name.startswith("tiny-without-south-")
    arguments = ["evaluate", "--data", data, "--cache", cache, "--run", folder, "--no-border"]
    code, printed, error = command(*arguments, "--audit")
    assert not code, error
    assert "SOURCES THAT WERE NEVER SEEN" in printed
    assert "source read from the features of normal films" in printed
    document = json.loads((folder / "figures-test.json").read_text())
    films = read_films(data)
    strange = (films.sources == "south") & (films.splits == "test") & films.frontal
    assert document["left_out"]["south"]["n"] == strange.sum()
    assert document["any_disease"]["per_source"].keys() == {"north", "south"}
    assert document["model"].startswith("tiny-without-south/")
    found = candidate(folder, data, cache=cache)
    assert found.model.any_disease.high == document["any_disease"]["threshold"]
    kept = (folder / "figures-test.json").read_bytes()
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join((data / "index.csv").read_text().splitlines(keepends=True)[:-1]))
    _, printed, error = command(*arguments, "--json", "--labels", fewer)
    assert json.loads(printed)["gate"]["n"] == document["gate"]["n"] - 1
    assert f"not the films of {folder.name}: the figures are not kept" in error
    assert (folder / "figures-test.json").read_bytes() == kept


def test_a_run_is_not_judged_by_an_engine_that_would_not_count(tmp_path, command):
    code, _, error = command("evaluate", "--data", tmp_path, "--run", tmp_path, "--engine", "openvino")
    assert code == 2
    assert "A run is judged by torch" in error


_BEHIND = """[stages.classes]
normal = { share = 0.5 }
covid19 = { share = 0.5 }
"""


def test_of_two_networks_in_a_row_the_first_is_the_gate_and_the_second_names_the_class(
    make_set, make_recipe, tmp_path
):
    data, runs, cache = make_set(each=8), tmp_path / "runs", tmp_path / "cache"
    first = train(make_recipe(stages=_SHORT), data, runs, device="cpu", cache=cache)
    gate = '{ weights = "tiny", architecture = "densenet121", size = 32 }'
    recipe = make_recipe(name="behind", stages=_SHORT + _BEHIND, gate=gate, extra="[loss]\ngate_weight = 0")
    second = train(recipe, data, runs, device="cpu", cache=cache)
    alone, whole = candidate(first, data, cache=cache), candidate(second, data, cache=cache)
    films = np.random.default_rng(0).normal(0, 1, (3, 1, 32, 32)).astype(np.float32)
    found, named = whole.engine.infer(films), NetworkEngine(Mirrored(whole.network), torch.device("cpu"))
    assert np.allclose(found[:, 6], alone.engine.infer(films)[:, 6], atol=1e-3)
    assert np.allclose(found[:, :6], named.infer(films)[:, :6], atol=1e-3)
    assert not np.allclose(found[:, 6], named.infer(films)[:, 6], atol=1e-3)
    document = evaluate(whole.model, whole.engine, data, cache=cache, border=False).document
    assert document["gate"]["auroc"] is not None
    with pytest.raises(ModelRefused, match="stand behind another network as its gate"):
        package_with_card([second / "weights.safetensors"], tmp_path / "m" / "1", data, cache=cache)
    (first / "weights.safetensors").write_bytes((second / "weights.safetensors").read_bytes())
    with pytest.raises(DataError, match="has changed since it began; train the run anew"):
        candidate(second, data, cache=cache)


def test_a_gate_that_is_not_there_or_sees_larger_films_stops_before_the_films_are_read(
    make_set, make_recipe, tmp_path
):
    recipe = make_recipe(stages=_SHORT, gate='{ weights = "nobody" }')
    with pytest.raises(ConfigurationError, match="gate's films of 160 pixels are larger"):
        read_recipe(recipe)
    recipe = make_recipe(stages=_SHORT, gate='{ weights = "nobody", size = 32 }')
    with pytest.raises(ConfigurationError, match="weights 'nobody' are no file"):
        train(recipe, make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unfinished_run_is_not_judged(make_set, tmp_path):
    (tmp_path / "runs" / "half").mkdir(parents=True)
    with pytest.raises(DataError, match="is no finished run"):
        candidate(tmp_path / "runs" / "half", make_set())


def test_without_val_the_models_own_thresholds_hold(make_set, model, tmp_path):
    data = make_set(each=8)
    index = data / "index.csv"
    index.write_text(index.read_text().replace(",val,", ",test,").replace(",train,", ",test,"))
    document = evaluate(model, Eager(), data, cache=tmp_path / "cache").document
    assert document["any_disease"]["threshold"] == 0.15
    assert "border" not in document


def test_labels_may_lie_elsewhere(make_set, model, tmp_path):
    data = make_set(each=8)
    elsewhere = tmp_path / "labels.csv"
    elsewhere.write_text((data / "index.csv").read_text())
    (data / "index.csv").unlink()
    made = evaluate(model, Eager(), data, labels=elsewhere, cache=tmp_path / "cache", border=False)
    assert made.document["gate"]["n"] == 32
    with pytest.raises(DataError, match=r"none\.csv is not there"):
        read_films(data, tmp_path / "none.csv")


def test_the_table_says_what_was_not_trained_and_subtracts_what_was(tmp_path):
    folder = tmp_path / "runs" / "kermany_binary-1"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").touch()
    facts = {"recipe": "kermany_binary", "state": "finished", "started": "2026-01-01", "data_sha256": "ab"}
    (folder / "run.json").write_text(json.dumps(facts))
    assert "trained, not judged: triage evaluate --run" in comparison(tmp_path / "runs", None)
    figures = {"kermany_pneumonia": {"accuracy": 0.92}, "data_sha256": "cd"}
    (folder / "figures-test.json").write_text(json.dumps(figures))
    assert "trained, not judged: triage evaluate --run" in comparison(tmp_path / "runs", None)
    (folder / "figures-test.json").write_text(json.dumps(figures | {"data_sha256": "ab"}))
    lines = [line.split() for line in comparison(tmp_path / "runs", None).splitlines()]
    assert [
        "kermany_binary",
        "kermany_pneumonia",
        "accuracy",
        "0.903",
        "0.920",
        "+0.017",
        folder.name,
    ] in lines
    assert sum(line[-5:] == ["not", "trained", "to", "its", "end"] for line in lines) == len(
        [one for one in ORIGINALS if one.recipe != "kermany_binary"]
    )
