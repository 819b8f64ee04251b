"""Weights from elsewhere, and only a part of the network learning."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from triage.assess.network import build
from triage.errors import ModelRefused
from triage.learn import networks
from triage.learn.transfer import block_of, freeze, groups, start_from


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("densenet121", 7)


def test_torchvision_names_and_colour_input_are_taken_and_the_head_stays_new(network, tmp_path):
    torch.manual_seed(1)
    given = {
        name.replace(".layers.", "."): value.clone()
        for name, value in build("densenet121", 7).state_dict().items()
    }
    given["features.conv0.weight"] = torch.rand(64, 3, 7, 7)
    given = {name.replace("class_layers.out", "classifier"): value for name, value in given.items()}
    given["classifier.weight"], given["classifier.bias"] = torch.rand(1000, 1024), torch.rand(1000)
    save_file(given, tmp_path / "given.safetensors")
    new = start_from(network, tmp_path / "given.safetensors")
    assert new == ["class_layers.out.bias", "class_layers.out.weight"]
    own = network.state_dict()
    assert torch.allclose(own["features.conv0.weight"], given["features.conv0.weight"].sum(1, keepdim=True))
    name = "features.denseblock3.denselayer24.layers.conv2.weight"
    assert torch.equal(own[name], given[name.replace(".layers.", ".")])


@pytest.mark.parametrize(("architecture", "place"), [("densenet121", 0), ("efficientnet-lite0", 1)])
def test_of_an_ensemble_the_network_of_the_same_kind_is_taken(architecture, place, tmp_path):
    torch.manual_seed(1)
    ensemble = build("densenet121@160+efficientnet-lite0", 7)
    save_file(ensemble.state_dict(), tmp_path / "ensemble.safetensors")
    network = build(architecture, 7)
    assert start_from(network, tmp_path / "ensemble.safetensors") == []
    member = list(ensemble.networks[place].state_dict().values())
    assert all(map(torch.equal, network.state_dict().values(), member))


def test_another_body_is_refused(network, tmp_path):
    save_file(build("densenet121", 7).features.denseblock1.state_dict(), tmp_path / "part.safetensors")
    with pytest.raises(ModelRefused, match="another architecture"):
        start_from(network, tmp_path / "part.safetensors")


@pytest.mark.parametrize(
    ("learn", "first"),
    [
        ("head", "class_layers"),
        (1, "features.transition3"),
        (2, "features.transition2"),
        ("all", "features.conv0"),
    ],
)
def test_only_what_is_asked_for_learns(network, learn, first):
    freeze(network, learn)
    learning = [name for name, value in network.named_parameters() if value.requires_grad]
    assert learning[0].startswith(first)
    everything = [name for name, _ in network.named_parameters()]
    assert learning == everything[everything.index(learning[0]) :]


def test_earlier_blocks_learn_slower(network):
    freeze(network, "all")
    found = groups(network, 0.001, 0.5)
    assert [part["share"] for part in found] == [1, 0.5, 0.25, 0.125, 0.0625]
    assert sum(len(part["params"]) for part in found) == len(list(network.parameters()))
    assert found[-1]["lr"] == pytest.approx(6.25e-5)


@pytest.mark.parametrize("architecture", ["densenet121", "resnet18", "efficientnet-lite0"])
def test_every_network_has_a_head_and_four_blocks_and_learns_from_the_head_on(architecture):
    network = networks.build(architecture, pretrained=False)
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert {block_of(name) for name, _ in network.named_parameters()} == {0, 1, 2, 3, 4}
    freeze(network, "head")
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert [len(parameter) for parameter in learning] == [7, 7]


def test_an_unknown_network_is_named():
    with pytest.raises(ModelRefused, match=r"'vgg16' is not known; known: densenet121, .*efficientnet-lite0"):
        networks.build("vgg16")
