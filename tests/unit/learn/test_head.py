"""A hidden layer in the head, what is dropped in it, and classes that count more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from triage.errors import ConfigurationError, ModelRefused
from triage.learn import networks
from triage.learn import training as steps
from triage.learn.candidate import candidate
from triage.learn.card import package_with_card
from triage.learn.checkpoint import write_tensors
from triage.learn.labels import CODE_NOT_FRONTAL, CODE_UNSPECIFIED
from triage.learn.loss import loss
from triage.learn.recipe import Loss, Recipe, read_recipe
from triage.learn.train import train
from triage.learn.transfer import freeze, start_from

_SHORT = "[[stages]]\nsize = 32\nfilms = 16\nrate = 0.001\n"


pytestmark = pytest.mark.usefixtures("one_thread")


def _begun(make_recipe, architecture: str, **keys: object) -> torch.nn.Module:
    # weights of ImageNet are not always there
    recipe: Recipe = read_recipe(make_recipe(architecture=f'"{architecture}"', **keys))
    torch.manual_seed(0)
    return networks.begun(recipe, torch.device("cpu"))


@pytest.mark.parametrize("architecture", ["densenet121", "resnet18", "efficientnet-lite0"])
def test_every_network_takes_a_hidden_layer_and_drops_in_its_head_alone(
    make_recipe, architecture, monkeypatch, tmp_path
):
    monkeypatch.setattr(networks, "_begin_from_imagenet", lambda made: None)
    network = _begun(make_recipe, architecture, head_units=16, dropout=0.5)
    freeze(network, "head")
    learning = [tuple(value.shape) for value in network.parameters() if value.requires_grad]
    assert [len(shape) for shape in learning] == [2, 1, 2, 1]
    assert (learning[0][0], learning[2]) == (16, (7, 16))
    films = torch.rand(2, 1, 32, 32)
    network.eval()
    assert torch.equal(network(films), network(films))
    head = dict(network.named_modules())[networks._head(network)[0]]
    head.train()
    assert not torch.equal(network(films), network(films))
    head.eval()
    write_tensors(network.state_dict(), tmp_path / "trained.safetensors")
    trained = networks.finished(architecture, tmp_path / "trained.safetensors")
    torch.testing.assert_close(trained(films), network(films))


def test_what_is_dropped_are_whole_features_behind_the_pooling(make_recipe):
    network = _begun(make_recipe, "densenet121", dropout=0.5)
    out, seen = network.class_layers.out, []
    monitored = torch.nn.Linear(out.in_features, 7)
    out.forward = lambda features: (seen.append(features), monitored(features))[1]
    network.train()
    network(torch.rand(2, 1, 64, 64))
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.5, abs=0.15)


def test_a_network_with_a_hidden_layer_goes_on_is_judged_and_started_from_but_not_packaged(
    make_recipe, make_set, tmp_path, monkeypatch
):
    data, cache = make_set(each=8), tmp_path / "cache"
    keys = {"head_units": 16, "dropout": 0.5}
    recipe = make_recipe(stages=_SHORT, **keys)
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 0.0)
    real, calls = steps.loss, []

    def broken_off(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(steps, "loss", broken_off)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "runs", device="cpu", cache=cache)
    folder = train(recipe, data, tmp_path / "runs", resume=True, device="cpu", cache=cache)
    assert load_file(folder / "weights.safetensors")["class_layers.out.hidden.weight"].shape == (16, 1024)
    judged = candidate(folder, data, cache=cache)
    assert judged.engine.infer(np.zeros((2, 1, 32, 32), np.float32)).shape == (2, 7)
    plain, same = (_begun(make_recipe, "densenet121", **more) for more in ({}, keys))
    new = [name for name in plain.state_dict() if name.startswith("class_layers")]
    assert start_from(plain, folder / "weights.safetensors") == sorted(new)
    assert start_from(same, folder / "weights.safetensors") == []
    for weights in ("weights", "stage-1-32"):
        with pytest.raises(ModelRefused, match=r"has a hidden layer in its head.*without head_units"):
            package_with_card([folder / f"{weights}.safetensors"], tmp_path / "m" / "1", data, cache=cache)


def _loss(logits: torch.Tensor, codes: list[int], **settings: object) -> torch.Tensor:
    return loss(logits, torch.tensor(codes), Loss.model_validate({"gate_weight": 0.0, **settings}))


def test_a_weighted_class_counts_more_in_a_mean_of_the_same_size():
    torch.manual_seed(0)
    logits, codes = torch.randn(5, 7), [0, 1, 0, 4, CODE_NOT_FRONTAL]
    found = _loss(logits, codes, smoothing=0, class_weights={"normal": 3, "tuberculosis": 0.5})
    weights = torch.tensor([3, 1, 1, 1, 0.5, 1])
    wanted = torch.nn.functional.cross_entropy(logits[:4, :6], torch.tensor(codes[:4]), weights)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    everything = dict.fromkeys(("normal", "bacterial_pneumonia", "tuberculosis"), 7)
    assert float(_loss(logits, codes, class_weights=everything)) == pytest.approx(
        float(_loss(logits, codes)), rel=1e-5
    )


def test_pneumonia_of_unknown_kind_has_a_weight_of_its_own():
    logits = torch.zeros(2, 7)
    logits[0, 0] = 8
    plain = float(_loss(logits, [0, CODE_UNSPECIFIED], smoothing=0))
    more = float(
        _loss(logits, [0, CODE_UNSPECIFIED], smoothing=0, class_weights={"pneumonia_unspecified": 3})
    )
    # the first film is known already, the second costs the log of 3
    assert plain == pytest.approx(np.log(3) / 2, abs=0.01)
    assert more == pytest.approx(np.log(3) * 3 / 4, abs=0.01)


def test_a_batch_without_a_frontal_film_costs_the_gate_only():
    logits = torch.zeros(3, 7, requires_grad=True)
    cost = _loss(logits, [CODE_NOT_FRONTAL] * 3, gate_weight=1.0)
    cost.backward()
    assert float(cost.detach()) == pytest.approx(np.log(2), rel=1e-5)
    assert bool(logits.grad.isfinite().all())
    assert not logits.grad[:, :6].any()


@pytest.mark.parametrize("name", ["plague", "not_frontal"])
def test_a_weight_of_an_unknown_class_is_refused_by_name(make_recipe, name):
    path: Path = make_recipe(extra=f"[loss]\nclass_weights = {{ normal = 1.2, {name} = 2 }}")
    with pytest.raises(ConfigurationError, match=f"'{name}' of class_weights is not known; known: normal, "):
        read_recipe(path)
    kept = read_recipe(make_recipe(extra="[loss]\nclass_weights = { normal = 1.2 }"))
    assert kept.loss.class_weights == {"normal": 1.2}
