"""The sample studies on disk: drawn once, in two processes, and found again the next time."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triage.samples.canvas import Canvas, Map, enlarge
from triage.samples.draw import frontal, patient_of
from triage.samples.elsewhere import SCENES
from triage.samples.plan import STUDIES, Film, StudyPlan
from triage.samples.wrap import uid, wrap

_PROCESSES = 2
_MANIFEST = "samples.json"
#: Drawings are made at half the film's size; only the grain of the detector is finer.
_HALF = 2
_GRAIN = 0.0022


@dataclass(frozen=True)
class Sample:
    """One file of a sample study; `diseased` is None for a study without a frontal chest film."""

    path: Path
    study_instance_uid: str
    #: `frontal`, `lateral`, `hand`, `knee`, `page` or `pattern`.
    scene: str
    #: What the study shows: a `disease.Kind`, or the scene where there is no frontal film.
    kind: str
    diseased: bool | None
    stat: bool


def write(folder: Path, seed: int = 1, progress: Callable[[int, int], None] | None = None) -> list[Sample]:
    """Return the sample studies in `folder` in order of arrival, drawn now unless they are there already.

    The same seed gives the same bytes on the same libraries. `progress` is told how many files of how many
    are there, in the caller's thread.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(plan, number) for plan in STUDIES for number in range(len(plan.films))]
    samples = [_describe(folder, plan, number, seed) for plan, number in wanted]
    known = _known(folder, seed)
    missing = [
        (sample.path, plan, number)
        for sample, (plan, number) in zip(samples, wanted, strict=True)
        if known.get(sample.path.name) != _size(sample.path)
    ]
    present = len(samples) - len(missing)
    if progress and present:
        progress(present, len(samples))
    if missing:
        _draw_all(missing, seed, lambda done: progress(present + done, len(samples)) if progress else None)
        _remember(folder, samples, seed)
    return samples


def _draw_all(missing: list[tuple[Path, StudyPlan, int]], seed: int, drawn: Callable[[int], None]) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_PROCESSES, mp_context=context) as pool:
        jobs = [pool.submit(_write_one, path, plan, number, seed) for path, plan, number in missing]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            drawn(done)


def _describe(folder: Path, plan: StudyPlan, number: int, seed: int) -> Sample:
    name = f"{plan.number:02d}-{plan.label.lower().replace(' ', '-')}-{number + 1}.dcm"
    film = plan.films[number]
    return Sample(
        path=folder / name,
        study_instance_uid=str(uid(seed, plan.number, "study")),
        scene=film.scene,
        kind=str(plan.kind) if plan.build else film.scene,
        diseased=plan.diseased,
        stat=plan.priority == "STAT",
    )


def draw(plan: StudyPlan, number: int, seed: int) -> Map:
    """Return the picture of a film [rows, columns], 0 black to 1 white."""
    film = plan.films[number]
    own = seed * 1000 + plan.number
    rng = np.random.default_rng([own, film.take, 4])
    height, width = film.rows // _HALF, film.columns // _HALF
    if film.scene == "frontal":
        coarse = frontal(patient_of(own, plan.build, plan.kind), plan.kind, own, height, take=film.take)
    else:
        coarse = SCENES[film.scene](Canvas(height, width), rng)
    picture = enlarge(coarse, film.rows, film.columns)
    if film.scene != "page":
        picture += _grain(film, rng)
    return np.clip(picture, 0, 1)


def _grain(film: Film, rng: np.random.Generator) -> Map:
    return rng.standard_normal((film.rows, film.columns), np.float32) * np.float32(_GRAIN)


def _write_one(path: Path, plan: StudyPlan, number: int, seed: int) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(wrap(draw(plan, number, seed), plan, number, seed))
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _made_by() -> str:
    """Return a digest of the code that draws: other code, other pictures."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _known(folder: Path, seed: int) -> dict[str, int]:
    """Return the sizes of the files that this code wrote into the folder from this seed."""
    try:
        stored = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    mine = stored.get("made_by") == _made_by() and stored.get("seed") == seed
    return dict(stored["bytes"]) if mine else {}


def _remember(folder: Path, samples: list[Sample], seed: int) -> None:
    sizes = {sample.path.name: _size(sample.path) for sample in samples}
    part = folder / f"{_MANIFEST}.part"
    part.write_text(
        json.dumps({"made_by": _made_by(), "seed": seed, "bytes": sizes}, indent=1), encoding="utf-8"
    )
    part.replace(folder / _MANIFEST)
