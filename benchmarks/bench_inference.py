"""The network on one prepared film: torch fp32 eager, and the engine that serves, interleaved.

    python -m benchmarks inference [--quick]

The ceiling is measured in the same rounds: the bf16 (and fp32) multiplications per second of a large
matrix product on the same threads, times the multiplications of the network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.models import write_model
from triage.assess import registry
from triage.assess.engine import open_engine, probe_films
from triage.assess.engines.torch_engine import load_network
from triage.assess.network import Mirrored
from triage.errors import ModelRefused

BAR_RATIO, BAR_SHARE = 3.0, 0.70
_EDGE = 2048


def find_model(folder: Path) -> registry.Model:
    """Return the shipped model, or one with random weights where none is there yet."""
    try:
        return registry.find(registry.models_dir(), "chest")
    except ModelRefused:
        write_model(folder, size=224)
        return registry.find(folder, "chest")


def operations(network: torch.nn.Module, size: int) -> float:
    """Return the floating point operations of one pass, multiplications and additions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, size, size))
    return float(counter.get_total_flops())


def matmul(dtype: torch.dtype) -> Callable[[], float]:
    left, right = torch.randn(_EDGE, _EDGE).to(dtype), torch.randn(_EDGE, _EDGE).to(dtype)

    def run() -> float:
        begin = time.perf_counter()
        torch.mm(left, right)
        return 2 * _EDGE**3 / (time.perf_counter() - begin)

    return run


def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options, _ = parser.parse_known_args()
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare(find_model(folder), folder / "engines", threads, 10 if options.quick else 40)


def compare(model: registry.Model, cache: Path, threads: int, rounds: int) -> None:
    reference = Mirrored(load_network(model))
    served = open_engine(model, "auto", cache, threads)
    film = probe_films(model.size, 1)[0][None]
    tensor = torch.from_numpy(film)

    def eager() -> None:
        with torch.inference_mode():
            reference(tensor)

    ceilings = {"fp32": matmul(torch.float32), "bf16": matmul(torch.bfloat16)}
    speeds: dict[str, list[float]] = {kind: [] for kind in ceilings}
    taken: dict[str, list[float]] = {"torch": [], "served": []}
    for _ in range(rounds):
        taken["torch"].append(timed(eager))
        # the two libraries' threads spin for a moment after their work: let them rest before the other's turn
        taken["served"] += [timed(lambda: served.infer(film)) for _ in range(3)]
        for kind, run in ceilings.items():
            speeds[kind].append(run())
    report(model, served.name, taken, speeds, operations(reference, model.size))
    with torch.inference_mode():
        exact = reference(tensor).numpy()
    found = served.infer(film)
    change = max(np.abs(said(exact) - said(found)).max() for said in (model.scale.classes, model.scale.gate))
    print(f"  largest change of a probability {change:.4f}")


def report(
    model: registry.Model,
    name: str,
    taken: dict[str, list[float]],
    speeds: dict[str, list[float]],
    work: float,
) -> None:
    medians = {key: statistics.median(values) for key, values in taken.items()}
    ratio = medians["torch"] / medians["served"]
    kind = "bf16" if "bf16" in name else "fp32"
    peak = statistics.median(speeds[kind])
    floor = work / peak * 1e3
    share, best = floor / medians["served"], work / max(speeds[kind]) * 1e3 / min(taken["served"])
    print(f"{model.label}, {model.architecture}, {model.size} px, batch 1: {work / 1e9:.2f} GFLOP")
    for key, label in (("torch", "torch fp32 eager"), ("served", name)):
        print(f"  {label:20} p50 {medians[key]:7.1f} ms   best {min(taken[key]):7.1f} ms")
    print(f"  ceiling {kind}: {peak / 1e9:.0f} GFLOP/s, so {floor:.1f} ms")
    ok = ratio >= BAR_RATIO and share >= BAR_SHARE
    contender, ours = medians["torch"], medians["served"]
    print(f"  contender {contender:.1f} ms, ours {ours:.1f} ms, ratio {ratio:.1f} (bar {BAR_RATIO})")
    print(
        f"  ceiling {floor:.1f} ms, share of ceiling {share:.0%} (bar {BAR_SHARE:.0%}; best calls {best:.0%})"
    )
    print(f"  {'ok' if ok else 'BELOW THE BAR'}")


if __name__ == "__main__":
    main()
