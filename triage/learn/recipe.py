"""A recipe: everything that decides a training, as a small TOML file in `config/recipes`."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from triage.assess.prepare import KEPT
from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError
from triage.learn.labels import CODE_NOT_FRONTAL, LABELS, UNLABELLED

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=1)]
Edge = Annotated[int, Field(ge=32, le=KEPT)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(StrEnum):
    """How the rate of learning moves within a stage."""

    #: Up from little to the stage's rate, then down along a cosine.
    ONE_CYCLE = "one_cycle"
    #: The stage's rate, divided by ten whenever validation has stopped to improve.
    PLATEAU = "plateau"


class Class(_Section):
    """What share of the drawn films has a label, and from which sources; none named means all."""

    share: Share
    #: Names, or names with numbers: then the sources are drawn in that proportion.
    sources: tuple[str, ...] | dict[str, Positive] = ()
    #: Without numbers a source counts as its number of films to this power: 1 as they are, 0 all alike.
    source_power: Share = 0.6
    #: Learn from no more films of the label than this, the same each time; 0: from all.
    at_most: Annotated[int, Field(ge=0)] = 0


class Loss(_Section):
    """The loss of the classes plus `gate_weight` times that of the gate."""

    smoothing: Share = 0.05
    gate_smoothing: Share = 0.01
    gate_weight: Annotated[float, Field(ge=0)] = 0.7
    #: How much a film of a label counts in the mean over the frontal films; 1 where none is given.
    class_weights: dict[str, Positive] = {}

    @model_validator(mode="after")
    def _known_classes(self) -> Loss:
        known = LABELS[:CODE_NOT_FRONTAL]
        for name in self.class_weights:
            if name not in known:
                msg = f"the class '{name}' of class_weights is not known; known: {', '.join(known)}"
                raise ValueError(msg)
        return self


class MadeNegatives(_Section):
    """Frontal films turned into what the gate has to reject, as shares of the frontal films drawn."""

    rotated: Share = 0.034
    inverted: Share = 0.034
    #: A small part of a film, enlarged.
    cropped: Share = 0.005
    blank: Share = 0.002
    #: Share of the pictures that are not frontal films which are shown as their negatives.
    others_inverted: Share = 0.05


class Augment(_Section):
    """How films are changed while learning; shares are probabilities, all 0 switches augmentation off."""

    #: Degrees to each side.
    rotation: float = 12.0
    #: Natural logarithm of the largest change of width or height.
    scale: float = 0.16
    #: Natural logarithm of the largest change of the ratio of width to height: films are stretched to a
    #: square, and the shape that they had may tell what is on them.
    aspect: float = 0.0
    shear: float = 0.06
    #: Share of the edge.
    shift: float = 0.07
    flip: Share = 0.5
    #: Grey values are multiplied by up to this share more or less, and clipped; what is not clipped is undone
    #: by the equalisation.
    brightness: Share = 0.0
    blur: Share = 0.25
    rescale: Share = 0.15
    sharpen: Share = 0.15
    #: Uneven exposure: a smooth field of grey, to each side of this share of the range.
    uneven: Share = 0.35
    uneven_strength: float = 0.18
    #: Soft parts lost below or above the window.
    clip: Share = 0.3
    noise: Share = 0.25
    #: Local equalisation, as some publishers do it.
    local_contrast: Share = 0.3
    frame: Share = 0.4
    boxes: Share = 0.35
    letters: Share = 0.35

    @property
    def on(self) -> bool:
        """Return whether anything is changed."""
        return any(value for name, value in self if name != "uneven_strength")


class Finished(_Section):
    """A finished network that teaches another, or stands before it."""

    #: A weights file or a run's folder, relative to the recipe, or a recipe: its newest finished run.
    weights: Annotated[str, Field(min_length=1)]
    architecture: str = "efficientnet-lite0"
    #: The edge of the films that it sees: those of the learner, reduced from the largest edge among them.
    size: Edge = 160


class Distil(_Section):
    """Finished networks whose answers are learnt beside the labels."""

    #: Their logits are averaged.
    teachers: Annotated[tuple[Finished, ...], Field(min_length=1)]
    #: How much of the cost is the distance to the teachers; the rest is that of the labels.
    share: Share = 0.5
    #: What both answers are divided by, so that small probabilities count too.
    temperature: Positive = 2.0


class Twins(_Section):
    """Drawn films once more, as a lossy file would give them, half of them mirrored: one film, one answer."""

    #: How many of the films have one.
    share: Share = 0.0
    #: How many of the twins have letters on them, and how many a patch or two in a corner.
    marked: Share = 0.0
    #: How many of the twins are higher or wider, cut at the edges or smaller.
    stretched: Share = 0.0
    #: How much the distance between the two answers adds to the cost.
    weight: Annotated[float, Field(ge=0)] = 0.5


class Stage(_Section):
    """Some films at one size; stages follow each other and hand their weights on."""

    size: Edge
    #: How many films are drawn, with replacement, in the whole stage.
    films: Whole
    rate: Positive
    warm_up: Share = 0.08
    schedule: Schedule = Schedule.ONE_CYCLE
    #: "all", "head", or how many dense blocks before the head learn; the rest is frozen.
    learn: Literal["all", "head"] | Annotated[int, Field(ge=1, le=4)] = "all"
    #: Earlier blocks learn slower: the rate of a block is this share of the block's after it.
    block_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    #: How much of the cost is the distance to the recipe's teachers here; 0: they do not teach.
    #: Left out, the share in `Distil` holds.
    teacher_share: Share | None = None
    #: Begin from the averaged weights of the stage before, and average anew.
    anew: bool = False
    twins: Twins = Twins()
    #: What differs from the recipe in this stage; left out, the recipe's own holds.
    classes: dict[str, Class] | None = None
    augment: Augment | None = None
    made_negatives: MadeNegatives | None = None
    loss: Loss | None = None


class Recipe(_Section):
    """All of a training but the films."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    about: str
    #: A network that serves, of which "efficientnet-lite0" begins with weights of ImageNet, or "resnet18",
    #: "resnet34", "resnet50" or "resnet101", which do not serve.
    architecture: str = "densenet121"
    seed: Annotated[int, Field(ge=0)] = 7
    #: Films of a step, over all processes.
    batch: Annotated[int, Field(ge=2, le=1024)] = 24
    #: On a processor: processes of one share of the batch each, as far as there are cores. What is learnt
    #: depends on it, since each normalises its own share.
    processes: Annotated[int, Field(ge=1, le=16)] = 2
    #: Sources of which nothing is learnt or chosen, so that their films of `test` are those of a stranger.
    leave_out: tuple[str, ...] = ()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    classes: dict[str, Class]
    loss: Loss = Loss()
    made_negatives: MadeNegatives = MadeNegatives()
    augment: Augment = Augment()
    distil: Distil | None = None
    #: Units of a hidden layer between the pooled features and the outputs; 0: there is none, as in all
    #: networks that serve.
    head_units: Annotated[int, Field(ge=0, le=4096)] = 0
    #: Share of what goes into each of the head's layers that is dropped at random.
    dropout: Share = 0.0
    optimiser: Literal["adamw", "adam"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    #: Largest norm of a step's gradient.
    clip_gradient: Positive = 2.0
    #: How much of the moving average of the weights stays at each step; 0 keeps none.
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    #: Films between two looks at `val`.
    validate_every: Whole = 12_000
    #: From so many films on, and at the last look, one answer to all films fails the run; a beginner may
    #: give one.
    collapse_after: Annotated[int, Field(ge=0)] = 6_000
    #: Stop after so many looks without a better one, and keep the best weights; 0 never.
    patience: Annotated[int, Field(ge=0)] = 0
    #: Weights to start from: safetensors with our or torchvision's names or a run's folder, relative to the
    #: recipe, or a recipe: its newest finished run.
    start_from: str = ""
    #: A network that stands before this one, two in a row: when the run is judged, that one alone says what
    #: is a frontal chest film, and this one what is on it.
    gate: Finished | None = None

    @model_validator(mode="after")
    def _known_classes(self) -> Recipe:
        known = [label for label in LABELS if label != UNLABELLED]
        named = set(self.classes).union(*(stage.classes or () for stage in self.stages))
        for name in sorted(named - set(known)):
            msg = f"the class '{name}' is not known; known: {', '.join(known)}"
            raise ValueError(msg)
        if not any(self.classes[name].share for name in CLASSES if name in self.classes):
            msg = "no class has a share"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.batch % self.processes:
            msg = f"a batch of {self.batch} can't be shared by {self.processes} processes"
            raise ValueError(msg)
        if self.gate is not None and self.gate.size > self.stages[-1].size:
            msg = f"the gate's films of {self.gate.size} pixels are larger than those of the last stage"
            raise ValueError(msg)
        return self

    def classes_of(self, stage: Stage) -> dict[str, Class]:
        """Return what is drawn in a stage."""
        return stage.classes or self.classes

    def loss_of(self, stage: Stage) -> Loss:
        """Return what counts in a stage."""
        return stage.loss or self.loss

    def augment_of(self, stage: Stage) -> Augment:
        """Return how films are changed in a stage."""
        return stage.augment or self.augment

    def made_negatives_of(self, stage: Stage) -> MadeNegatives:
        """Return how many films become negatives in a stage."""
        return stage.made_negatives or self.made_negatives

    def distil_of(self, stage: Stage) -> Distil | None:
        """Return what teaches in a stage, with the share that it has there."""
        share = stage.teacher_share
        if self.distil is None or share == 0:
            return None
        return self.distil if share is None else self.distil.model_copy(update={"share": share})

    @property
    def digest(self) -> str:
        """Return what tells whether a run may go on with this recipe."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def recipes_dir() -> Path:
    """Return the folder of the recipes that came with triage."""
    return Path(__file__).resolve().parents[2] / "config" / "recipes"


def find_recipe(given: str) -> Path:
    """Return the file of a recipe, given as a path or by name.

    Raises:
        ConfigurationError: there is none.
    """
    for path in (Path(given), recipes_dir() / f"{given}.toml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in recipes_dir().glob("*.toml")))
    msg = f"There is no recipe '{given}'; give a file or one of: {known or 'none'}."
    raise ConfigurationError(msg)


def read_recipe(path: Path) -> Recipe:
    """Return a recipe from its file.

    Raises:
        ConfigurationError: the file can't be read, or says something that can't be.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(raw)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"The recipe {path} can't be read: {error}."
        raise ConfigurationError(msg) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        msg = f"The recipe {path} is wrong at '{where}': {first['msg']}."
        raise ConfigurationError(msg) from None
    return _beside(recipe, path.parent)


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with the files that it names relative to itself by their whole paths."""
    changed: dict[str, Any] = {}
    if recipe.start_from:
        changed["start_from"] = _whole_path(recipe.start_from, folder)
    if recipe.distil:
        teachers = tuple(_named_whole(teacher, folder) for teacher in recipe.distil.teachers)
        changed["distil"] = recipe.distil.model_copy(update={"teachers": teachers})
    if recipe.gate:
        changed["gate"] = _named_whole(recipe.gate, folder)
    return recipe.model_copy(update=changed)


def _named_whole(other: Finished, folder: Path) -> Finished:
    return other.model_copy(update={"weights": _whole_path(other.weights, folder)})


def _whole_path(given: str, folder: Path) -> str:
    """Return the whole path of weights, or of a folder that has some; what is neither stays a name."""
    path = folder / given
    return str(path.resolve()) if path.is_file() or any(path.glob("*.safetensors")) else given


def without(recipe: Recipe, sources: Sequence[str]) -> Recipe:
    """Return a recipe that learns nothing of some sources, under a name of its own."""
    if not sources:
        return recipe
    left = tuple(dict.fromkeys((*recipe.leave_out, *sorted(sources))))
    return recipe.model_copy(update={"name": name_without(recipe.name, sources), "leave_out": left})


def name_without(name: str, sources: Sequence[str]) -> str:
    """Return the name that a recipe has when it learns nothing of some sources, in whatever order."""
    plain = "-".join(re.sub(r"[^a-z0-9_]+", "_", source.lower()) for source in sorted(set(sources)))
    return f"{name}-without-{plain}"[:61] if sources else name
