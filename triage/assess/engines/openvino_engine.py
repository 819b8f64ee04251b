"""The CPU engine: OpenVINO in bf16 where the processor has it, converted once and kept by digest."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from triage.assess.registry import Model

log = logging.getLogger(__name__)

Batch = npt.NDArray[np.float32]


class OpenVinoEngine:
    """The network compiled for this processor; films one by one, since batches gain nothing on a CPU."""

    batches = False

    def __init__(self, model: Model, cache: Path, precision: str = "bf16", threads: int = 0) -> None:
        """Compile from the cache; only the first time on a machine is torch needed, to convert.

        `precision` is "bf16" or "f32"; a processor without bf16 gets f32.
        """
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "f32"
        self.precision = precision
        self.name = f"openvino {precision}"
        cache.mkdir(parents=True, exist_ok=True)
        network = core.read_model(str(_converted(model, cache)))
        self._compiled: Any = core.compile_model(
            network,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "CACHE_DIR": str(cache / "blobs"),
                **({"INFERENCE_NUM_THREADS": str(threads)} if threads else {}),
            },
        )
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()
        self.infer(np.zeros((1, 1, model.size, model.size), np.float32))

    def infer(self, batch: Batch) -> Batch:
        """Return float32 logits [N, 7] of a prepared batch float32 [N, 1, S, S]."""
        rows = []
        with self._lock:
            for picture in batch:
                outputs = self._request.infer([np.ascontiguousarray(picture[None])])
                rows.append(np.array(outputs[0], np.float32))
        return np.concatenate(rows)


def _converted(model: Model, cache: Path) -> Path:
    """Return the network in OpenVINO's form, converting it the first time; never half-written.

    The name holds the weights' digest, so another model or version never meets an old file.
    """
    target = cache / f"{model.sha256[:32]}-{model.size}-mirrored-{openvino.get_version().split('-')[0]}.xml"
    if target.exists() and target.with_suffix(".bin").exists():
        return target
    # only here: a service that finds its converted model never imports torch
    import torch

    from triage.assess.engines.torch_engine import load_network
    from triage.assess.network import Mirrored

    log.info(
        "The model is converted for this machine.", extra={"event": "model_convert", "model": model.label}
    )
    example = torch.zeros(1, 1, model.size, model.size)
    with torch.inference_mode(), warnings.catch_warnings():
        # the converter traces, which torch has begun to call old
        warnings.simplefilter("ignore", DeprecationWarning)
        network = openvino.convert_model(
            Mirrored(load_network(model)), example_input=example, input=[tuple(example.shape)]
        )
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / "model.xml"
        openvino.save_model(network, str(fresh), compress_to_fp16=False)
        fresh.with_suffix(".bin").replace(target.with_suffix(".bin"))
        fresh.replace(target)
    for old in sorted(cache.glob("*.xml"), key=lambda path: path.stat().st_mtime)[:-4]:
        with contextlib.suppress(OSError):
            old.with_suffix(".bin").unlink()
            old.unlink()
    return target
