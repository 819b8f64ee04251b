"""From weights to a model, its figures, its card, and a check that they are its own."""

from __future__ import annotations

import json
import weakref
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import described, write_model
from triage.assess import engine
from triage.assess.engine import open_engine
from triage.assess.film import Film
from triage.assess.network import build
from triage.assess.prepare import prepare
from triage.assess.registry import Model, Thresholds, load, versions
from triage.assess.scale import Scale
from triage.domain.finding import Finding
from triage.errors import ConfigurationError, DataError, ModelRefused
from triage.learn import served
from triage.learn import verify as verifying
from triage.learn.answers import Answers, answers_of
from triage.learn.calibrate import _best_for_f1, calibrate, temperature_of, threshold_for, threshold_of_f1
from triage.learn.card import package_with_card
from triage.learn.data import FilmRow, Films, read_films
from triage.learn.package import _kinds, packaging
from triage.learn.recipe import read_recipe
from triage.learn.runs import Run
from triage.learn.verify import spread, verify


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = build("densenet121", 7).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    return path


def test_a_packaged_model_loads_judges_and_verifies(make_set, weights, tmp_path):
    data, cache, target = make_set(each=8), tmp_path / "cache", tmp_path / "models" / "chest" / "3"
    target.mkdir(parents=True)
    (target / "MODEL_CARD.md").write_text("of other weights")
    (target / "older.txt").touch()
    model = package_with_card(
        [weights], target, data, architecture="densenet121", size=32, cache=cache, engine="torch"
    )
    assert model == load(target)
    files = ["MODEL_CARD.md", "figures.json", "model.toml", "weights.safetensors"]
    assert sorted(file.name for file in target.iterdir()) == files
    assert list(target.parent.iterdir()) == [target]
    assert (model.name, model.version, model.size) == ("chest", "3", 32)
    assert 0 <= model.any_disease.low <= model.any_disease.high <= 1
    figures = json.loads((target / "figures.json").read_text())
    assert figures["gate"]["n"] == 32
    assert figures["any_disease"]["per_source"].keys() == {"north", "south"}
    assert "auroc_ci" in figures["any_disease"]
    assert figures["border"]["any_disease"]["n"] == figures["any_disease"]["n"]
    card = (target / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert f"| gate | {figures['gate']['n']} |" in card
    checks = verify(model, "torch", data, cache=cache)
    assert [check.sentence for check in checks if not check.holds] == []
    (target / "figures.json").write_text(json.dumps({**figures, "gate": {"n": 32, "auroc": 0.123}}))
    assert [
        check.sentence.split(":")[0] for check in verify(model, "torch", data, cache=cache) if not check.holds
    ] == ["gate"]


def test_the_engine_that_serves_is_compared_with_torch_on_films(make_set, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.manual_seed(0)
    weights, cache = tmp_path / "weights.safetensors", tmp_path / "cache"
    save_file(build("efficientnet-lite0", 7).state_dict(), weights)
    data, target = make_set(each=8), tmp_path / "models" / "chest" / "3"
    asked = {"architecture": "efficientnet-lite0", "size": 32, "cache": cache}
    model = package_with_card([weights], target, data, **asked, engine="openvino")
    told = json.loads((target / "figures.json").read_text())["engine"]
    assert told["engine"].startswith("openvino")
    assert told["films"] == 28
    assert 0 < told["mean"] <= told["largest"] <= told["tolerance"] <= 0.04
    card = (target / "MODEL_CARD.md").read_text()
    assert f"| {told['engine']} | 28 | {told['largest']:.4f} |" in card
    checks = verify(model, "openvino", data, cache=cache)
    assert [check.sentence for check in checks if not check.holds] == []
    assert f"at most {told['largest']:.4f} (tolerance {told['tolerance']}) on 28 films of val" in str(checks)


def test_a_model_is_not_packaged_whose_engine_is_like_torch_on_drawn_pictures_alone(
    make_set, weights, tmp_path, monkeypatch
):
    drawn = {film.tobytes() for film in engine.probe_films(32)}

    class Flatterer:
        name, batches = "openvino bf16", False

        def __init__(self, model: Model, *_: object) -> None:
            self._torch = engine.open_engine(model, "torch")

        def infer(self, batch: np.ndarray) -> np.ndarray:
            pushed = 3 * np.eye(7, dtype=np.float32)[0]
            return self._torch.infer(batch) + (batch[0].tobytes() not in drawn) * pushed

    monkeypatch.setattr(engine, "_openvino", Flatterer)
    target, data = tmp_path / "models" / "chest" / "1", make_set(each=8)
    refused = (
        r"On 28 films of val the engine openvino bf16 changes a probability of chest/1 by 0\.\d+, more than"
    )
    with pytest.raises(ModelRefused, match=refused):
        package_with_card([weights], target, data, size=32, cache=tmp_path / "cache", engine="openvino")
    assert not list(target.parent.iterdir())


def test_engines_are_compared_on_frontal_films_of_val_of_every_source(make_set, monkeypatch):
    films = read_films(make_set(each=20))
    chosen = films.take(spread(films))
    assert set(chosen.splits) == {"val"}
    assert chosen.frontal.all()
    monkeypatch.setattr(verifying, "_FILMS", 20)
    few = films.take(spread(films))
    assert np.unique(few.sources, return_counts=True)[1].tolist() == [10, 10]
    assert len(set(few.codes)) > 3
    with pytest.raises(DataError, match="no frontal film in the split 'val'"):
        spread(films.take(films.splits == "test"))


def test_of_several_weights_the_mean_is_packaged(make_set, weights, tmp_path):
    other = tmp_path / "other.safetensors"
    name = "class_layers.out.bias"
    state = load_file(weights)
    save_file({**state, name: state[name] + 1}, other)
    with packaging(
        [weights, other],
        tmp_path / "models" / "chest" / "1",
        make_set(each=8),
        architecture="densenet121",
        size=32,
        cache=tmp_path / "cache",
        engine="torch",
    ) as model:
        assert versions(tmp_path / "models", "chest") == []
        assert torch.allclose(load_file(model.weights)[name].float(), state[name] + 0.5, atol=1e-2)


def test_a_pickle_and_another_architecture_are_refused(make_set, weights, tmp_path):
    pickle = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, pickle)
    target = tmp_path / "models" / "chest" / "1"
    with pytest.raises(ModelRefused, match="pickles are never loaded"):
        package_with_card([pickle], target, make_set(), architecture="densenet121", size=32)
    with pytest.raises(ModelRefused, match="another architecture than densenet169"):
        package_with_card([weights], target, tmp_path / "set", architecture="densenet169", size=32)
    assert not target.exists()


def test_without_films_of_test_the_old_model_stays_as_it_was(make_set, weights, tmp_path):
    folder = write_model(tmp_path / "models", size=32)
    (folder / "MODEL_CARD.md").write_text("its own")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    data = make_set()
    index = data / "index.csv"
    index.write_text(index.read_text().replace(",test,", ",train,"))
    with pytest.raises(DataError, match="no film in the split 'test'"):
        package_with_card([weights], folder, data, size=32, cache=tmp_path / "cache", engine="torch")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list(folder.parent.iterdir()) == [folder]


def test_the_run_tells_what_network_its_weights_are_of(make_recipe, weights, tmp_path):
    stages = "".join(f"[[stages]]\nsize = {edge}\nfilms = 8\nrate = 0.001\n" for edge in (32, 64))
    run = Run(tmp_path / "runs" / "tiny-1")
    run.begin(read_recipe(make_recipe(stages=stages)), "d" * 64, datetime(2026, 1, 1, tzinfo=UTC))
    first, last = run.folder / "stage-1-32.safetensors", run.weights
    assert _kinds([last], None, None) == {"densenet121": (64, [last])}
    assert _kinds([weights, last], None, 64) == {"densenet121": (64, [weights, last])}
    assert _kinds([first], None, 32) == {"densenet121": (32, [first])}
    assert _kinds([weights], None, 64) == {"densenet121": (64, [weights])}
    with pytest.raises(ConfigurationError, match=r"densenet121 for 64 pixels .* not of densenet169 for 64"):
        _kinds([last], "densenet169", None)
    with pytest.raises(ConfigurationError, match=r"are both of densenet121, for 32 and 64 pixels"):
        _kinds([first, last], None, None)
    with pytest.raises(ConfigurationError, match=r"No settings of a run lie beside .*: give --size"):
        _kinds([weights], None, None)


def test_networks_of_several_kinds_are_packaged_as_an_ensemble(make_recipe, make_set, tmp_path):
    torch.manual_seed(0)
    files, networks = [], []
    for name, edge in (("densenet121", 32), ("efficientnet-lite0", 64)):
        run = Run(tmp_path / "runs" / f"{name}-1")
        stages = f"[[stages]]\nsize = {edge}\nfilms = 8\nrate = 0.001\n"
        recipe = read_recipe(make_recipe(stages=stages, architecture=f'"{name}"'))
        run.begin(recipe, "d" * 64, datetime(2026, 1, 1, tzinfo=UTC))
        networks.append(build(name, 7))
        save_file(networks[-1].state_dict(), run.weights)
        files.append(run.weights)
    target, cache = tmp_path / "models" / "both" / "1", tmp_path / "cache"
    with packaging(files, target, make_set(each=8), cache=cache, engine="torch") as model:
        assert (model.architecture, model.size) == ("densenet121@32+efficientnet-lite0", 64)
        film = prepare(np.random.default_rng(0).random((90, 80), np.float32), 64)
        small = film.reshape(1, 32, 2, 32, 2).mean(axis=(2, 4))
        with torch.inference_mode():
            both = [
                network(torch.from_numpy(np.stack([seen, seen[..., ::-1]])).float()).mean(0).numpy()
                for network, seen in zip(networks, (small, film), strict=True)
            ]
        said = open_engine(model, "torch").infer(film[None])[0]
        assert np.allclose(said, np.mean(both, axis=0), atol=2e-2)
        assert np.abs(both[0] - both[1]).max() > 0.1


def test_a_set_without_val_is_refused(make_set, weights, tmp_path):
    data = make_set()
    index = data / "index.csv"
    index.write_text(index.read_text().replace(",val,", ",train,"))
    with pytest.raises(DataError, match="'val'"):
        package_with_card([weights], tmp_path / "m" / "1", data, architecture="densenet121", size=32)


def test_thresholds_keep_the_promised_sensitivity(make_set):
    val = read_films(make_set(each=40))
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (len(val), 7)).astype(np.float32)
    codes = np.minimum(val.codes, 5)
    logits[np.arange(len(val)), codes] += 3
    logits[:, 6] = np.where(val.frontal, 6, -6) + rng.normal(0, 1, len(val))
    scale = Scale(temperature_of(val, logits))
    answers = answers_of(val, logits, scale)
    found = calibrate(answers, scale)
    frontal = answers.take(val.frontal)
    ill = frontal.diseased[frontal.films.codes != 0]
    assert (ill >= found.any_disease.high).mean() >= 0.97
    assert (ill >= found.any_disease.low).mean() >= 0.985
    assert ((answers.gate >= found.gate) == val.frontal).all()
    # in the middle between the two groups, not at the edge of one
    assert 0.05 < found.gate < 0.95


def test_a_finding_that_stands_apart_waits_for_more_than_hardly_any_probability():
    labels = ["tuberculosis"] * 40 + ["normal"] * 40 + ["not_frontal"] * 10
    films = Films(Path(), tuple(FilmRow(f"{n}.png", "a", label, f"{n}") for n, label in enumerate(labels)))
    classes = np.full((90, 6), 1e-7)
    # one film of the disease is as low as 0.02, where nearly all others of `val` are lower still
    classes[:, 4] = np.where(films.codes == 4, np.linspace(0.6, 0.9, 90), 0.001)
    classes[0, 4] = 0.02
    classes[:, 0] = 1 - classes[:, 1:].sum(axis=1)
    limits = calibrate(Answers(films, classes, np.where(films.frontal, 0.9, 0.1)), Scale()).findings[
        Finding.TUBERCULOSIS
    ]
    assert limits.high > 0.5
    assert limits.low < 0.03


@pytest.mark.parametrize("said", [0.29996, 0.99997, 0.00004, 0.3])
def test_no_film_is_lost_to_the_digits_that_a_threshold_is_written_with(said):
    """All diseased and all frontal films say the same, just above where four digits would be rounded to."""
    labels = ["tuberculosis"] * 40 + ["normal"] * 40 + ["not_frontal"] * 10
    films = Films(Path(), tuple(FilmRow(f"{n}.png", "a", label, f"{n}") for n, label in enumerate(labels)))
    classes = np.full((90, 6), 1e-7)
    classes[:, 4] = np.where(films.codes == 4, said, 1e-6)
    classes[:, 0] = 1 - classes[:, 1:].sum(axis=1)
    gate = np.where(films.frontal, said, said - 3e-5)
    found = calibrate(Answers(films, classes, gate), Scale())
    ill = films.codes == 4
    diseased = 1 - classes[ill, 0]
    assert (diseased >= found.any_disease.high).all()
    assert (diseased >= found.any_disease.low).all()
    assert (classes[ill, 4] >= found.findings[Finding.TUBERCULOSIS].low).all()
    assert (classes[ill, 4] >= found.findings[Finding.TUBERCULOSIS].high).all()
    assert (gate[films.frontal] >= found.gate).all()


def test_a_threshold_is_the_highest_that_finds_enough():
    scores = np.arange(100) / 100
    assert threshold_for(scores, 0.97) == pytest.approx(0.03)
    truth, said = np.repeat([False, False, True, True], 20), np.repeat([0.1, 0.2, 0.8, 0.9], 20)
    assert threshold_of_f1(truth, said) == pytest.approx(0.5)


def test_a_threshold_from_few_films_does_better_on_others_than_the_best_for_those_few():
    rng = np.random.default_rng(3)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random(count) < 0.3
        return truth, 1 / (1 + np.exp(-(rng.normal(0, 1.5, count) + 2 * truth - 1)))

    others, said_of_others = drawn(20_000)

    def f1(threshold: float) -> float:
        called = said_of_others >= threshold
        return 2 * (called & others).sum() / (called.sum() + others.sum())

    few = [drawn(60) for _ in range(40)]
    averaged, best = (np.mean([f1(find(*some)) for some in few]) for find in (threshold_of_f1, _best_for_f1))
    assert averaged > best + 0.002


def test_overconfident_answers_are_cooled(make_set):
    films = read_films(make_set(each=40))
    rng = np.random.default_rng(1)
    logits = np.zeros((len(films), 7), np.float32)
    said = np.where(rng.random(len(films)) < 0.6, np.minimum(films.codes, 5), rng.integers(0, 6, len(films)))
    logits[np.arange(len(films)), said] = 12
    assert temperature_of(films, logits) > 2


def test_of_films_that_go_through_the_service_only_what_is_small_is_kept(make_set, tmp_path, monkeypatch):
    films = read_films(make_set())
    model = described(32, Thresholds(0.5, 0.9), tmp_path)

    class Frontal:
        def infer(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 7), 9, np.float32)

    alive: list[weakref.ref[Film]] = []

    def judge(classifier, path, plain=served._judge):
        one = plain(classifier, path)
        alive.append(weakref.ref(one.film))
        return one

    monkeypatch.setattr(served, "_judge", judge)
    most = []
    answered = served.serve(
        model, Frontal(), films, lambda _: most.append(sum(ref() is not None for ref in alive))
    )
    assert max(most) == 1
    assert answered.known.all()
    assert np.allclose(answered.answers.classes.sum(axis=1), 1)
