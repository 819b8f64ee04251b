"""What a network keeps of a film before its last layer."""

from __future__ import annotations

import numpy as np
import torch

from triage.assess.network import build
from triage.learn.answers import prepared
from triage.learn.features import common_sources, features, source_read


def test_the_features_of_an_ensemble_are_what_the_last_layers_of_its_networks_see():
    torch.manual_seed(0)
    network = build("densenet121@32+efficientnet-lite0", 7)
    films = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    chosen = np.array([2, 0])
    seen = features(network, films, chosen, 64)
    assert seen.shape == (2, 1024 + 1280)
    dense, efficient = (torch.from_numpy(part) for part in np.split(seen, [1024], axis=1))
    with torch.inference_mode():
        said = network(torch.from_numpy(next(prepared(films, chosen, 64))))
        last = network.networks[0].network.class_layers.out(dense), network.networks[1]._fc(efficient)
    assert torch.allclose(said, sum(last) / 2, atol=1e-5)
    # the network is left as it was
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_features_that_know_no_hospital_are_near_chance():
    sources = np.array(["east", "west"] * 60)
    found = source_read(np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32), sources)
    assert abs(found["balanced_accuracy"] - 0.5) < 0.12


def test_a_source_of_few_films_or_alone_is_not_read():
    sources = np.repeat(["east", "west", "south"], [10, 12, 9])
    assert common_sources(sources).tolist() == [True] * 22 + [False] * 9
    assert not common_sources(sources[10:]).any()
    assert not common_sources(sources[:0]).any()
