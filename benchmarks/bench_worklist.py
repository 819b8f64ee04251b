"""The list at 200,000 studies of which 10,000 (and 1,000) wait, on SQLite: the store, REST and open pages."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx

from benchmarks import reading_list
from triage.domain.entry import EntryVerb
from triage.domain.policy import Policy
from triage.store import accounts, entries, migrations, policies, studies
from triage.store.database import Database
from triage.store.tables import FilmAssessmentRow
from triage.web.app import Parts, build_app
from triage.web.server import WebServer
from triage.worklist import history, listing, policy_change
from triage.worklist.scheduler import age_out

WARM = 5
_AT_REST, _MEANWHILE = "first page, forty a second", "the same during the change"
#: Milliseconds; None where growth alone is of interest.
BARS: dict[str, float | None] = {
    "first page, store": None,
    "first page, REST": 20,
    "why with rank, REST": 10,
    "assessment to API": 10,
    "assessment to open page": 300,
    "policy change": 300,
    _AT_REST: None,
    #: At most twice what it takes at rest, which the same run measures.
    _MEANWHILE: None,
    "history of an hour ago": None,
}


def now() -> datetime:
    return datetime.now(UTC)


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)] if len(values) > 1 else values[0]


def timed(count: int, act: Callable[[], object]) -> list[float]:
    for _ in range(min(WARM, count)):
        act()
    spent = []
    for _ in range(count):
        begun = time.perf_counter()
        act()
        spent.append((time.perf_counter() - begun) * 1000)
    return spent


def _read(address: str, headers: dict[str, str], stop: Event, ready: Event, told: Queue[list[float]]) -> None:
    """Read the first page some forty times a second until told to stop; then tell how long each took."""
    spent: list[float] = []
    with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
        client.get("/api/v1/worklist").raise_for_status()
        ready.set()
        while not stop.wait(0.02):  # a reading room of forty that all look once a second
            begun = time.perf_counter()
            client.get("/api/v1/worklist").raise_for_status()
            spent.append((time.perf_counter() - begun) * 1000)
    told.put(spent)


class Bench:
    def __init__(self, folder: Path, total: int, waiting: int) -> None:
        self.db = Database(f"sqlite:///{folder / f'{waiting}.db'}")
        migrations.upgrade(self.db)
        self.total = total
        reading_list.fill(self.db, total, waiting, now())
        with self.db.write() as session:
            self.token = accounts.create_token(session, "benchmark", accounts.Role.ADMINISTRATOR, now())
        app = build_app(Parts(db=self.db, clock=now, metrics=lambda: b""))
        self.server = WebServer(app, "127.0.0.1", 0)
        self.server.start()
        host, port = self.server.address
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=f"http://{host}:{port}", headers=self.headers, timeout=30)
        self.last = reading_list.uid_of(total)
        self.flips = itertools.cycle((0.05, 0.99))

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self.db.close()

    def get(self, path: str) -> httpx.Response:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def page(self) -> None:
        with self.db.read() as session:
            listing.page(session, now())

    def assess(self) -> float:
        """Let the last study's film say something else, commit and return when that was."""
        probability = next(self.flips)
        with self.db.write() as session:
            study = studies.by_uid(session, self.last)
            film = session.get(FilmAssessmentRow, study.id)
            assert film is not None
            film.findings = [
                {**f, "probability": probability} if f["finding"] == "tuberculosis" else f
                for f in film.findings
            ]
            session.flush()
            policy = policies.active(session)
            assert entries.rerank(session, study, policy, now(), verb=EntryVerb.ASSESSED, cause="benchmark")
        return time.perf_counter()

    def visible(self) -> float:
        committed = self.assess()
        shown = self.get(f"/api/v1/studies/{self.last}/why").json()
        assert shown["history"][-1]["verb"] == "assessed"
        return (time.perf_counter() - committed) * 1000

    def on_page(self, count: int) -> list[float]:
        """From the commit to the event at an open page, and the list that the page then fetches."""
        spent: list[float] = []
        with self.client.stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()

            def told() -> None:
                for line in lines:
                    if line == "event: list":
                        return

            told()
            for _ in range(count):
                time.sleep(0.3)  # a page that is at rest, as a reader's is
                committed = self.assess()
                told()
                self.get("/api/v1/worklist")
                spent.append((time.perf_counter() - committed) * 1000)
        return spent

    def settle(self) -> None:
        """Let the scheduler move what has waited too long: a list in use holds nothing else of that kind."""
        changed = 1
        while changed:
            with self.db.write() as session:
                changed = age_out(session, policies.active(session), now())

    def readers(self, act: Callable[[], None]) -> list[float]:
        """Return how long first pages took that another process read over REST while `act` ran.

        Within this process a client would wait for the interpreter too.
        """
        spawn = multiprocessing.get_context("spawn")
        stop, ready, told = spawn.Event(), spawn.Event(), spawn.Queue()
        address = str(self.client.base_url)
        reader = spawn.Process(target=_read, args=(address, self.headers, stop, ready, told))
        reader.start()
        ready.wait(60)
        act()
        stop.set()
        pages = list(told.get(timeout=60))
        reader.join()
        return pages

    def switch(self, count: int) -> list[float]:
        """Switch the policy to and fro, and return what each change took."""
        tight = {name: minutes / 2 for name, minutes in Policy().minutes.items()}
        both = itertools.cycle((Policy(name="tight", minutes=tight), Policy()))
        spent = []
        for _ in range(count):
            begun = time.perf_counter()
            with self.db.write() as session:
                policy_change.switch(session, next(both), now(), "benchmark")
            spent.append((time.perf_counter() - begun) * 1000)
        return spent

    def processor(self) -> dict[str, float]:
        """What the work itself costs, whoever else uses the machine: milliseconds of one core."""
        begun = time.thread_time()
        for _ in range(20):
            self.page()
        page = (time.thread_time() - begun) / 20
        begun = time.thread_time()
        for policy in (Policy(name="one", minutes=dict.fromkeys(Policy().minutes, 30.0)), Policy()):
            with self.db.write() as session:
                policy_change.switch(session, policy, now(), "benchmark")
        return {"page": page * 1000, "switch": (time.thread_time() - begun) * 500}

    def run(self, count: int) -> dict[str, list[float]]:
        first = f"/api/v1/studies/{reading_list.uid_of(self.total - 20)}/why"
        with self.db.read() as session:
            hour_ago = now().replace(minute=0)
            past = timed(3, lambda: history.at(session, hour_ago))
        self.settle()
        at_rest = self.readers(lambda: time.sleep(4))
        switches: list[float] = []
        meanwhile = self.readers(lambda: switches.extend(self.switch(20)))
        return {
            "first page, store": timed(count, self.page),
            "first page, REST": timed(count, lambda: self.get("/api/v1/worklist")),
            "why with rank, REST": timed(count, lambda: self.get(first)),
            "assessment to API": [self.visible() for _ in range(count)],
            "assessment to open page": self.on_page(max(10, count // 10)),
            "policy change": switches,
            _AT_REST: at_rest,
            _MEANWHILE: meanwhile,
            "history of an hour ago": past,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies, fewer rounds")
    quick = parser.parse_args().quick
    total, sizes, count = (20_000, (1_000, 2_000), 40) if quick else (200_000, (1_000, 10_000), 200)
    table: dict[str, dict[int, list[float]]] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for waiting in sizes:
            bench = Bench(Path(folder), total, waiting)
            try:
                for name, values in bench.run(count).items():
                    table.setdefault(name, {})[waiting] = values
                cpu = bench.processor()
            finally:
                bench.close()
    print(f"{total} studies, milliseconds, p50 / p95; load of the machine {os.getloadavg()[0]:.1f}")
    print(
        f"processor time of one first page {cpu['page']:.1f} ms, of one policy change {cpu['switch']:.0f} ms"
    )
    print(f"{'':28}" + "".join(f"{f'{n} waiting':>20}" for n in sizes) + f"{'bar (p95)':>12}")
    failed = False
    for name, by_size in table.items():
        cells = "".join(f"{statistics.median(v):>11.2f} /{p95(v):>7.2f}" for v in by_size.values())
        bar = BARS[name]
        if name == _MEANWHILE:
            bar = round(2 * p95(table[_AT_REST][sizes[-1]]), 2)
        held = bar is None or p95(by_size[sizes[-1]]) <= bar
        failed = failed or not held
        print(f"{name:28}{cells}{'' if bar is None else f'{bar:g}':>12}{'' if held else '  MISSED'}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
