"""Every key of the settings, for the tests of what explains them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def keys(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key with its sections, as `listener.port`, and its field."""
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "__args__", (field.annotation,))[0]
        if hasattr(inner, "model_fields"):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
