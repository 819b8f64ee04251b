"""What speaks to other systems about the list, as the settings ask, and what is kept of its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

from triage.settings import Settings
from triage.store.database import Database
from triage.worklist import history, messages, mwl
from triage.worklist.mllp import MllpServer
from triage.worklist.scheduler import Scheduler
from triage.worklist.ups_service import UpsService


def ask_worklists(
    scheduler: Scheduler, settings: Settings, db: Database, clock: Callable[[], datetime]
) -> None:
    """Let the scheduler poll each modality worklist of the settings."""
    wanted = settings.orders
    every = timedelta(seconds=wanted.mwl_seconds)
    for item in wanted.mwl:
        calling = settings.listener.ae_title
        peer = mwl.WorklistPeer(item.ae_title, item.host, item.port, calling, item.modalities)
        scheduler.also(item.ae_title, partial(mwl.poll, db, peer, clock), every)


def keep_history(
    scheduler: Scheduler, settings: Settings, db: Database, clock: Callable[[], datetime]
) -> None:
    """Let the scheduler forget what the settings do not keep, and messages that nobody repeats any more."""
    every = timedelta(hours=1)
    scheduler.also("messages", partial(messages.forget, db, clock), every)
    days = settings.scheduler.history_days
    if days:
        scheduler.also("history", partial(history.forget, db, clock, timedelta(days=days)), every)


def list_servers(
    settings: Settings, db: Database, clock: Callable[[], datetime]
) -> Iterator[tuple[str, MllpServer | UpsService]]:
    """Yield what the settings ask to be served, by the name that start-up prints; nothing listens yet."""
    orders, ups = settings.orders, settings.ups
    if orders.hl7_port is not None:
        yield "HL7", MllpServer(db, clock, orders.hl7_host, orders.hl7_port)
    if ups.port is not None:
        title, clients = settings.listener.ae_title, frozenset(ups.clients)
        yield "UPS", UpsService(db, clock, ae_title=title, host=ups.host, port=ups.port, clients=clients)
