"""A training from recipe to weights: what it leaves, how it goes on, and how it refuses."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from triage.errors import ConfigurationError, DataError, ModelRefused, NotWritten, TrainingFailed
from triage.learn import checkpoint, runs, validate
from triage.learn import train as training
from triage.learn import training as steps
from triage.learn.checkpoint import read_place, read_tensors, write_tensors
from triage.learn.data import read_films
from triage.learn.recipe import find_recipe, read_recipe
from triage.learn.register import lines, trial_table
from triage.learn.runs import Run, new_run
from triage.learn.validate import NetworkEngine

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_leaves_weights_metrics_curves_and_a_line_in_the_register(make_set, make_recipe, tmp_path):
    runs = tmp_path / "runs"
    folder = training.train(make_recipe(), make_set(), runs, device="cpu", cache=tmp_path / "cache")
    weights = load_file(folder / "weights.safetensors")
    assert weights["class_layers.out.weight"].shape == (7, 1024)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["seen"] for line in metrics] == [16, 32, 48]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "settings.json").read_text())["batch"] == 8
    first, second = lines(runs)
    assert (first["run"], first["state"], first["films"]) == (folder.name, "finished", 48)
    assert (first["drawn"], first["epochs"], second["drawn"]) == (32, 0.67, 16)
    assert second["minutes"] >= 0
    figures = ("loss", "val_loss", "any_disease", "macro_f1", "accuracy", "precision")
    assert all(isinstance(line[name], float) for line in (first, second) for name in figures)


_VICTIM = """
    import os, signal, sys, torch
    from pathlib import Path
    from triage.learn import checkpoint, train, training
    torch.set_num_threads(1)
    training.CHECKPOINT_EVERY = 0.0
    saves = []
    def save(*given, _old=checkpoint.save):
        _old(*given)
        saves.append(1)
        if len(saves) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoint.save = save
    recipe, data, runs, cache = map(Path, sys.argv[1:])
    train.train(recipe, data, runs, device="cpu", cache=cache)
"""


# two processes are what a recipe asks for; one is what a GPU or a single core gets
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_a_run_killed_in_mid_stage_ends_with_the_weights_of_one_that_was_not(
    make_set, make_recipe, tmp_path, processes, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    stages = "[[stages]]\nsize = 32\nfilms = 24\nrate = 0.001\ntwins = { share = 0.5 }\n"
    recipe = make_recipe(processes=processes, stages=stages, validate_every=24)
    data, cache = make_set(), tmp_path / "cache"
    whole = training.train(recipe, data, tmp_path / "whole", device="cpu", cache=cache)
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_VICTIM), recipe, data, tmp_path / "killed", cache],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").iterdir()
    place = read_place(folder / "checkpoint.safetensors")
    assert (place.step, place.processes) == (2, processes)
    again = training.train(recipe, data, tmp_path / "killed", resume=True, device="cpu", cache=cache)
    assert again == folder
    ours, theirs = load_file(again / "weights.safetensors"), load_file(whole / "weights.safetensors")
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-5) for name in theirs)


def test_patience_ends_a_stage_and_the_best_weights_of_the_last_one_are_kept(
    make_set, make_recipe, tmp_path, monkeypatch
):
    stages = "".join(f"[[stages]]\nsize = {size}\nfilms = 48\nrate = 0.001\n" for size in (32, 48))
    scores, seen = iter([0.9, 0.8, 0.7, 0.5, 0.6, 0.4, 0.3]), []

    def look(engine, *given, plain=validate.look):
        figures, answers = plain(engine, *given)
        seen.append(engine.network.state_dict()["class_layers.out.bias"].clone())
        return figures | {"any_disease": next(scores), "macro_f1": 0.0}, answers

    monkeypatch.setattr(validate, "look", look)
    recipe = make_recipe(stages=stages, validate_every=8, patience=2)
    folder = training.train(recipe, make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in metrics] == [1, 1, 1, 2, 2, 2, 2]
    assert torch.equal(load_file(folder / "weights.safetensors")["class_layers.out.bias"], seen[4])


def test_a_run_of_two_processes_does_not_go_on_on_a_gpu(make_set, make_recipe, tmp_path, monkeypatch):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    folder = training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    kept = folder / "checkpoint.safetensors"
    place = asdict(read_place(kept)) | {"processes": 2}
    write_tensors(read_tensors(kept), kept, {"place": json.dumps(place)})
    monkeypatch.setattr("triage.learn.train.choose_device", lambda _: torch.device("cuda"))
    with pytest.raises(ConfigurationError, match="2 processes on a processor; go on with --device cpu"):
        training.train(_short(make_recipe), data, runs, resume=True, device="cuda", cache=cache)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_learns_on_a_gpu(make_set, make_recipe, tmp_path):
    folder = training.train(
        _short(make_recipe), make_set(), tmp_path / "runs", device="cuda", cache=tmp_path / "cache"
    )
    assert load_file(folder / "weights.safetensors")["class_layers.out.weight"].isfinite().all()


def test_resume_without_a_run_says_so(make_set, make_recipe, tmp_path):
    with pytest.raises(DataError, match="No run of the recipe 'tiny'"):
        training.train(make_recipe(), make_set(), tmp_path / "runs", resume=True, cache=tmp_path / "cache")


def test_an_older_run_does_not_go_on_in_place_of_the_newest(make_set, make_recipe, tmp_path):
    recipe, root = read_recipe(make_recipe()), tmp_path / "runs"
    for day, kept in ((1, True), (2, False)):
        run = new_run(root, recipe, datetime(2026, 1, day, tzinfo=UTC))
        run.begin(recipe, "", datetime(2026, 1, day, tzinfo=UTC))
        if kept:
            run.checkpoint.touch()
    with pytest.raises(DataError, match=r"tiny-20260102-000000 has no checkpoint yet.*tiny-20260101-000000"):
        training.train(make_recipe(), make_set(), root, resume=True, cache=tmp_path / "cache")


def test_a_run_that_another_process_trains_is_left_to_it(make_set, make_recipe, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    folder = training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    before = (folder / "run.json").read_bytes()
    with (
        Run(folder).alone(),
        pytest.raises(TrainingFailed, match="is being trained by another"),
    ):
        training.train(_short(make_recipe), data, runs, resume=True, device="cpu", cache=cache)
    assert (folder / "run.json").read_bytes() == before
    assert training.train(_short(make_recipe), data, runs, resume=True, device="cpu", cache=cache) == folder


def _short(make_recipe, **lines) -> Path:
    return make_recipe(stages="[[stages]]\nsize = 32\nfilms = 16\nrate = 0.001\n", **lines)


def test_a_checkpoint_of_another_architecture_is_named(make_set, make_recipe, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    other = _short(make_recipe, architecture='"densenet169"')
    with pytest.raises(ModelRefused, match="another architecture than densenet169"):
        training.train(other, data, runs, resume=True, device="cpu", cache=cache)


def test_a_changed_recipe_does_not_go_on(make_set, make_recipe, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    with pytest.raises(TrainingFailed, match="recipe has changed"):
        training.train(_short(make_recipe, weight_decay=0.3), data, runs, resume=True, cache=cache)
    assert "finished" in trial_table(runs)


def test_a_run_that_an_earlier_version_began_goes_on_where_new_keys_have_their_defaults(
    make_set, make_recipe, tmp_path
):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    folder = training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    settings = json.loads((folder / "settings.json").read_text())
    del settings["head_units"], settings["loss"]["class_weights"]
    (folder / "settings.json").write_text(json.dumps(settings))
    kept = folder / "checkpoint.safetensors"
    place = asdict(read_place(kept)) | {"recipe": "digest of fewer keys"}
    write_tensors(read_tensors(kept), kept, {"place": json.dumps(place)})
    again = training.train(_short(make_recipe), data, runs, resume=True, device="cpu", cache=cache)
    assert again == folder


def test_a_run_does_not_go_on_with_other_films(make_set, make_recipe, tmp_path):
    data, root = make_set(), tmp_path / "runs"
    run = new_run(root, read_recipe(make_recipe()), datetime(2026, 1, 1, tzinfo=UTC))
    run.begin(read_recipe(make_recipe()), read_films(data).digest, datetime(2026, 1, 1, tzinfo=UTC))
    run.checkpoint.touch()
    index = data / "index.csv"
    index.write_text(index.read_text().replace(",val,", ",train,", 1))
    with pytest.raises(DataError, match="has not the films that tiny-20260101-000000 began with"):
        training.train(make_recipe(), data, root, resume=True, device="cpu", cache=tmp_path / "cache")


def test_a_pickle_is_refused_where_safetensors_belong(make_set, make_recipe, tmp_path):
    pickle = tmp_path / "start.safetensors"
    torch.save({"features.conv0.weight": torch.zeros(1)}, pickle)
    recipe = _short(make_recipe, start_from='"start.safetensors"')
    with pytest.raises(ModelRefused, match=r"start\.safetensors is no safetensors file .* pickles are never"):
        training.train(recipe, make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")


def _spoil_the_second_step(monkeypatch, added):
    """Add something made of the logits to the second step's loss; a checkpoint is kept of every step."""
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 0.0)
    real, calls = steps.loss, []

    def spoilt(logits, codes, settings):
        calls.append(1)
        return real(logits, codes, settings) + (added(logits) if len(calls) == 2 else 0)

    monkeypatch.setattr(steps, "loss", spoilt)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(
    make_set, make_recipe, tmp_path, monkeypatch
):
    _spoil_the_second_step(monkeypatch, lambda _: float("nan"))
    with pytest.raises(TrainingFailed, match="The loss is nan at step 2 of stage 1"):
        training.train(make_recipe(), make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_place(folder / "checkpoint.safetensors").step == 1
    assert "failed" in trial_table(tmp_path / "runs")


def test_a_gradient_that_is_no_number_stops_the_run_before_its_step(
    make_set, make_recipe, tmp_path, monkeypatch
):
    # of a root the value at 0 is a number, the slope is not
    _spoil_the_second_step(monkeypatch, lambda logits: torch.sqrt(0 * logits.sum()))
    with pytest.raises(
        TrainingFailed, match="The gradient is nan at step 2 of stage 1; lower the stage's rate"
    ):
        training.train(make_recipe(), make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_place(folder / "checkpoint.safetensors").step == 1
    kept = read_tensors(folder / "checkpoint.safetensors")
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_a_class_without_films_is_named(make_set, make_recipe, tmp_path):
    data = make_set(labels=("normal", "covid19", "not_frontal"))
    with pytest.raises(DataError, match="class 'bacterial_pneumonia' of the recipe has no film"):
        training.train(make_recipe(), data, tmp_path / "runs", cache=tmp_path / "cache")


@pytest.mark.parametrize("sources", ['["north", "sout"]', "{ north = 1, sout = 2 }"])
def test_a_source_that_the_films_do_not_have_is_named(make_set, make_recipe, tmp_path, sources):
    recipe = make_recipe()
    of_some = f"normal = {{ share = 0.12, sources = {sources} }}"
    recipe.write_text(recipe.read_text().replace("normal = { share = 0.12 }", of_some, 1))
    with pytest.raises(DataError, match=r"'normal' of the recipe names the source 'sout'.* north, south\."):
        training.train(recipe, make_set(), tmp_path / "runs", cache=tmp_path / "cache")


def test_an_unreadable_picture_is_named(make_set, make_recipe, tmp_path):
    data = make_set()
    (data / "img" / "covid19-0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"covid19-0\.png"):
        training.train(make_recipe(), data, tmp_path / "runs", cache=tmp_path / "cache")
    assert not (tmp_path / "runs").exists()
    assert not list((tmp_path / "cache").glob("*"))


def test_an_unknown_label_is_named(make_set, make_recipe, tmp_path):
    data = make_set()
    index = data / "index.csv"
    index.write_text(index.read_text().replace(",covid19,", ",plague,", 1))
    with pytest.raises(DataError, match="'plague'"):
        training.train(make_recipe(), data, tmp_path / "runs", cache=tmp_path / "cache")


@pytest.mark.usefixtures("collapse_counts")
def test_answers_of_one_class_fail_the_run(make_set, make_recipe, tmp_path, monkeypatch):
    real = NetworkEngine.infer

    def one_class(self, batch):
        logits = real(self, batch)
        logits[:, 0] += 50
        return logits

    monkeypatch.setattr(NetworkEngine, "infer", one_class)
    # far fewer films than a beginner may be collapsed for: the end is looked at whenever it comes
    with pytest.raises(TrainingFailed, match=r"answers 'normal' to 100% .* collapsed"):
        training.train(make_recipe(), make_set(), tmp_path / "runs", cache=tmp_path / "cache")
    (folder,) = (tmp_path / "runs").iterdir()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    with pytest.raises(TrainingFailed, match="collapsed"):
        training.train(
            _short(make_recipe, collapse_after=8, validate_every=8),
            make_set(name="again"),
            tmp_path / "early",
            cache=tmp_path / "cache",
        )
    (folder,) = (tmp_path / "early").iterdir()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.usefixtures("collapse_counts")
def test_films_that_are_all_called_diseased_by_several_names_are_a_collapse_too(
    make_set, make_recipe, tmp_path, monkeypatch
):
    real = NetworkEngine.infer

    def pneumonia(self, batch):
        logits = real(self, batch)
        logits[:, 1:3] += 50
        logits[::2, 1] += 20
        logits[1::2, 2] += 20
        return logits

    monkeypatch.setattr(NetworkEngine, "infer", pneumonia)
    with pytest.raises(TrainingFailed, match=r"answers 'diseased' to 100% .* collapsed"):
        training.train(_short(make_recipe), make_set(), tmp_path / "runs", cache=tmp_path / "cache")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    target = tmp_path / "kept.safetensors"
    write_tensors({"a": torch.ones(3)}, target)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # a file may not grow beyond this: the nearest to a full disk that a test can have
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(NotWritten, match="free some room"):
            write_tensors({"a": torch.zeros(9999)}, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_tensors(target)["a"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [target]


def test_a_run_that_is_interrupted_says_so_and_goes_on(make_set, make_recipe, tmp_path, monkeypatch, request):
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 0.0)
    # a suite that was started in the background ignores SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    real, calls, said = steps.loss, [], []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(steps, "loss", interrupted)
    given = (_short(make_recipe), make_set(), tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        training.train(*given, device="cpu", cache=tmp_path / "cache", say=said.append)
    (folder,) = (tmp_path / "runs").iterdir()
    assert "interrupted" in trial_table(tmp_path / "runs")
    assert said[-1] == f"{folder.name} was interrupted; go on with --resume."
    assert read_place(folder / "checkpoint.safetensors").step == 1
    assert training.train(*given, resume=True, device="cpu", cache=tmp_path / "cache") == folder
    assert "finished" in trial_table(tmp_path / "runs")


def test_runs_that_are_to_lie_in_a_file_are_refused_before_anything_is_decoded(
    make_recipe, make_set, tmp_path
):
    (tmp_path / "runs").write_text("")
    for resume in (False, True):
        with pytest.raises(DataError, match=r"runs is a file.*--runs"):
            training.train(make_recipe(), make_set(name=str(resume)), tmp_path / "runs", resume=resume)
    with pytest.raises(DataError, match="is a file"):
        trial_table(tmp_path / "runs")


def test_curves_that_do_not_fit_on_the_disk_fail_the_run(make_set, make_recipe, tmp_path, monkeypatch):
    limits, real = resource.getrlimit(resource.RLIMIT_FSIZE), runs.curves

    def curves(metrics, path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        real(metrics, path)

    monkeypatch.setattr(runs, "curves", curves)
    try:
        with pytest.raises(NotWritten, match=r"curves\.png can't be written .* free some room"):
            training.train(_short(make_recipe), make_set(), tmp_path / "runs", cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    assert not [file for file in folder.iterdir() if file.name.startswith(".") or file.name == "curves.png"]


def test_a_disk_that_fills_up_stops_the_run_and_keeps_the_last_checkpoint(
    make_set, make_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 0.0)
    limits, real, saved = resource.getrlimit(resource.RLIMIT_FSIZE), checkpoint.save, []

    def save(*given):
        if saved:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        saved.append(1)
        real(*given)

    monkeypatch.setattr(checkpoint, "save", save)
    try:
        with pytest.raises(NotWritten, match=r"checkpoint\.safetensors can't be written .* free some room"):
            training.train(
                make_recipe(), make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_place(folder / "checkpoint.safetensors").step == 1
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"


def test_a_pickle_in_the_place_of_the_checkpoint_is_refused(make_set, make_recipe, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    folder = training.train(_short(make_recipe), data, runs, device="cpu", cache=cache)
    torch.save({"place": "{}"}, folder / "checkpoint.safetensors")
    with pytest.raises(ModelRefused, match=r"checkpoint\.safetensors is no checkpoint of a training"):
        training.train(_short(make_recipe), data, runs, resume=True, device="cpu", cache=cache)


def test_a_pickle_as_teacher_is_refused(make_set, make_recipe, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "teacher.pt")
    recipe = _short(
        make_recipe,
        extra='[distil]\nteachers = [{ weights = "teacher.pt", architecture = "densenet121", size = 32 }]',
    )
    with pytest.raises(ModelRefused, match=r"teacher\.pt is no safetensors file .* pickles are never"):
        training.train(recipe, make_set(), tmp_path / "runs", device="cpu", cache=tmp_path / "cache")


def test_a_device_that_is_not_there_is_named_before_anything_is_decoded(make_recipe, make_set, tmp_path):
    with pytest.raises(ConfigurationError, match="'tpu'"):
        training.train(make_recipe(), make_set(), tmp_path / "runs", device="tpu", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unknown_device_is_a_sentence():
    with pytest.raises(ConfigurationError, match="'tpu'"):
        training.choose_device("tpu")


def test_a_wrong_recipe_names_the_key(tmp_path, make_recipe):
    path = make_recipe(batch=0)
    with pytest.raises(ConfigurationError, match="wrong at 'batch'"):
        read_recipe(path)
    with pytest.raises(ConfigurationError, match="no recipe 'nowhere'"):
        find_recipe("nowhere")


@pytest.mark.parametrize(
    "path", sorted(find_recipe("chest").parent.glob("*.toml")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_can_be_read_and_what_it_begins_with_is_there(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    others = [
        recipe.start_from,
        *(teacher.weights for teacher in (recipe.distil.teachers if recipe.distil else ())),
    ]
    for given in filter(None, others):
        assert Path(given).is_file() or find_recipe(given)
