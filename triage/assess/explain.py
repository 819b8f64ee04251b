"""Where in the film the network looked for a finding: GradCAM++ by MONAI. Off by default in the service.

A heat map is no localisation of a disease: it shows what moved the logit of the film as it is, of which the
answer is one half; the other comes from the mirror image. Of an ensemble it is the mean of its networks'.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from monai.visualize.class_activation_maps import GradCAMpp

from triage.assess.classifier import Judged
from triage.assess.engines.torch_engine import load_network
from triage.assess.network import Ensemble, Reduced
from triage.assess.registry import Model
from triage.domain.finding import CLASSES, Finding, FindingState
from triage.errors import NotWritten

Map = npt.NDArray[np.float32]

#: What global pooling takes the mean of, in MONAI's DenseNets and in its EfficientNet.
_LAYERS = ("class_layers.relu", "_bn1")
_SIDE = 512
#: How much of an overlay is heat map at its hottest.
_OPACITY = 0.45


class Explainer:
    """Heat maps of one model; loads the network by torch, since no other engine has gradients."""

    def __init__(self, model: Model, network: torch.nn.Module | None = None) -> None:
        """Load the model's network, or take another of the same architecture (to see what changes)."""
        whole = network or load_network(model)
        self._cams = [_cam(one) for one in (whole.networks if isinstance(whole, Ensemble) else (whole,))]

    def map(self, prepared: npt.NDArray[np.float32], finding: Finding) -> Map:
        """Return what moved a finding's logit, float32 [S, S] from 0 (nothing) to 1 (most)."""
        picture = torch.from_numpy(np.ascontiguousarray(prepared))[None].float()
        return _spread(np.sum([_heat(cam, picture, finding) for cam in self._cams], axis=0))

    def write(self, judged: Judged, folder: Path, stem: str) -> list[Path]:
        """Write an overlay PNG for each finding that is present or undetermined; return their paths.

        Raises:
            NotWritten: the folder or its disk can't take one.
        """
        if judged.film is None or judged.prepared is None:
            return []
        written = []
        for result in judged.assessment.findings:
            if result.state is FindingState.ABSENT:
                continue
            picture = overlay(judged.film.reduced(_SIDE), self.map(judged.prepared, result.finding))
            path = folder / f"{stem}.{result.finding}.png"
            _save(picture, path)
            written.append(path)
        return written


def _save(picture: npt.NDArray[np.uint8], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        msg = f"The heat map {path} can't be written ({error.strerror}); give another folder, or make room."
        raise NotWritten(msg) from error


def _cam(network: torch.nn.Module) -> GradCAMpp:
    inside = {name for name, _ in network.named_modules()}
    prefix = "network." if isinstance(network, Reduced) else ""
    layer = next(prefix + name for name in _LAYERS if prefix + name in inside)
    return GradCAMpp(nn_module=network, target_layers=layer)


def _heat(cam: GradCAMpp, picture: torch.Tensor, finding: Finding) -> Map:
    heat = cam(x=picture, class_idx=CLASSES.index(finding))[0, 0]
    return _spread(np.asarray(heat.detach().cpu().numpy() if hasattr(heat, "detach") else heat, np.float32))


def _spread(heat: Map) -> Map:
    """Return a map from 0 to 1; one that is the same everywhere tells nothing and is 0."""
    span = float(heat.max() - heat.min())
    return (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)


def overlay(picture: npt.NDArray[np.float32], heat: Map) -> npt.NDArray[np.uint8]:
    """Return the film with its heat map over it, uint8 [H, W, 3] in blue, green, red."""
    rows, columns = picture.shape
    heat = np.asarray(cv2.resize(heat, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    grey = np.repeat((picture * 255)[..., None], 3, axis=2)
    share = (heat * _OPACITY)[..., None]
    return np.asarray(np.clip(grey * (1 - share) + colours * share, 0, 255), np.uint8)
