"""What one web application owns: its parts, its audit trail, its live stream and its throttle."""

from __future__ import annotations

from dataclasses import dataclass

from triage.web.live import Live
from triage.web.parts import Parts
from triage.web.throttle import Throttle
from triage.web.trail import Trail


@dataclass(frozen=True)
class Web:
    """Made once by `build_app`, found at `request.app.state.web`."""

    parts: Parts
    trail: Trail
    live: Live
    throttle: Throttle
