"""From settings to a classifier that may serve: the verified model, a proved engine, a decoder pool."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from triage.assess.batching import BatchedEngine
from triage.assess.classifier import Classifier
from triage.assess.decode import DecoderPool
from triage.assess.engine import open_engine
from triage.assess.registry import find, models_dir


def utc_now() -> datetime:
    """Return the present time, aware."""
    return datetime.now(UTC)


def open_classifier(
    *,
    name: str = "chest",
    version: str = "latest",
    folder: Path | None = None,
    engine: str = "auto",
    threads: int = 0,
    max_batch: int = 8,
    max_wait_ms: float = 0,
    minimum_age_years: float = 0,
    cache: Path | None = None,
    pool: DecoderPool | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Classifier:
    """Return a classifier ready to judge; `cache` keeps the converted network between starts.

    The other arguments are the settings of `[model]`.

    Raises:
        ModelRefused: the model's files do not match, or the wanted engine can't serve it.
    """
    model = find(models_dir(folder), name, version)
    opened = open_engine(model, engine, cache, threads)
    if opened.batches and max_batch > 1:
        opened = BatchedEngine(opened, max_batch, max_wait_ms / 1000)
    return Classifier(model, opened, pool=pool, minimum_age=minimum_age_years, clock=clock)
