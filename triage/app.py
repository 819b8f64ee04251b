"""The composition root: who is wired to whom. Everything else takes what it needs as arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from triage import checks, folder, observe
from triage.domain.policy import Policy
from triage.domain.study import CompletedBy
from triage.errors import ConfigurationError
from triage.settings import Settings
from triage.store import migrations, policies
from triage.store.database import Database
from triage.work.embedded import EmbeddedQueue
from triage.work.queue import Stage
from triage.work.worker import Worker

log = logging.getLogger(__name__)


#: Who activates the policy of the configuration.
_CONFIGURATION = "configuration"


class Role(StrEnum):
    """What a process of the service does; one process may do all of it."""

    RECEIVE = "receive"
    ASSESS = "assess"
    REPORT = "report"
    DELIVER = "deliver"
    SCHEDULER = "scheduler"
    WEB = "web"


ALONE = (Role.RECEIVE, Role.DELIVER)  # one process each, for they take up what an earlier one left


def roles_of(names: Sequence[str]) -> frozenset[Role]:
    """Return the roles of `--role`; `all` is every one.

    Raises:
        ConfigurationError: a name that is no role.
    """
    if "all" in names:
        return frozenset(Role)
    try:
        return frozenset(Role(name) for name in names)
    except ValueError:
        msg = f"The role is one of: all, {', '.join(Role)}."
        raise ConfigurationError(msg) from None


def utc_now() -> datetime:
    """Return the present time, aware."""
    return datetime.now(UTC)


class Service:
    """One process of the service: checks everything, then starts its roles, later stops them in reverse.

    Whatever is wrong with configuration, database or model is raised by `start` before anything listens.
    """

    def __init__(
        self, settings: Settings, policy: Policy, *, roles: frozenset[Role], create: bool = False
    ) -> None:
        """`create` brings the schema up by itself, as the demonstration does."""
        self.settings = settings
        self.clock: Callable[[], datetime] = utc_now
        self.db = Database(settings.database_url)
        self.queue = EmbeddedQueue(self.db)
        self._policy = policy
        self._roles = roles
        self._create = create
        self._stops: list[Callable[[], None]] = []
        self._workers: list[Worker] = []
        self._web: Any = None
        self._servers: dict[str, Any] = {}
        self._listener: Any = None
        self._listener_config: Any = None
        self._intake: Any = None
        self._completion: Any = None
        self._classifier: Any = None
        self._pool: Any = None

    def start(self) -> None:
        """Check, then serve: what is wrong is said before another service on the same data notices anything.

        Raises:
            ConfigurationError: anything that would keep the service from doing what it promises.
        """
        try:
            self._check()
            self._open()
            if Role.ASSESS in self._roles:
                self._load_model()
            self._take_over()
            for role, start in self._starters().items():
                if role in self._roles:
                    start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in reverse order: first what takes work in, last what finishes it."""
        for stop in reversed(self._stops):
            stop()
        self._stops.clear()
        self.db.close()

    def _starters(self) -> Mapping[Role, Callable[[], None]]:
        # The web comes before the listener, and both after the workers: a film that is acknowledged
        # finds everything awake.
        return {
            Role.ASSESS: self._start_assess,
            Role.REPORT: self._start_report,
            Role.DELIVER: self._start_deliver,
            Role.SCHEDULER: self._start_scheduler,
            Role.WEB: self._start_web,
            Role.RECEIVE: self._start_receive,
        }

    def _check(self) -> None:
        """Hold the data folder and look at every address; nothing is changed, and nothing listens."""
        from triage import listening

        data, receives = self.settings.data_dir, Role.RECEIVE in self._roles
        folder.make(data)
        for role in ALONE:
            if role in self._roles:
                self._stops.append(folder.hold(data, role))
        if receives:
            self._listener_config = listening.listener_config(self.settings)
        serves_page = Role.WEB in self._roles
        listening.check_free(listening.addresses(self.settings, receives=receives, serves_page=serves_page))

    def _open(self) -> None:
        """Find the database as this version needs it, an empty one made."""
        if self._create or migrations.current(self.db) is None:
            migrations.upgrade(self.db)
        migrations.check(self.db)

    def _take_over(self) -> None:
        """Put the configured policy in force, and take up the jobs of an earlier process."""
        from triage.worklist import policy_change

        with self.db.write() as session:
            # A policy that a person activated stays in force until the configured one is another.
            last = policies.last_by(session, _CONFIGURATION)
            if last is None or last.digest != self._policy.digest:
                policy_change.switch(session, self._policy, self.clock(), _CONFIGURATION)
        if Role.RECEIVE in self._roles:
            self.queue.release_all(self.clock())

    def _decoders(self) -> Any:
        if self._pool is None:
            from triage.assess.decode import DecoderPool

            self._pool = DecoderPool()
            self._pool.warm()
            self._stops.append(self._pool.close)
        return self._pool

    def _work(self, stage: Stage, handler: Callable[[Any], None], threads: int) -> None:
        worker = Worker(self.db, self.queue, stage, handler, self.clock, threads)
        worker.start()
        self._workers.append(worker)
        self._stops.append(worker.stop)

    def _load_model(self) -> None:
        from triage.assess.opening import open_classifier

        self._classifier = open_classifier(
            **dict(self.settings.model),
            cache=self.settings.engines_dir,
            pool=self._decoders(),
            clock=self.clock,
        )

    def _start_assess(self) -> None:
        from triage.assess.stage import AssessStage

        stage = AssessStage(
            self.db,
            self.queue,
            self._classifier,
            spool=self.settings.data_dir / "spool",
            clock=self.clock,
            policy=policies.active,
        )
        self._work(Stage.ASSESS, stage.assess_film, threads=2)
        self._work(Stage.CONCLUDE, stage.conclude_study, threads=1)

    def _start_report(self) -> None:
        from triage.report.stage import ReportStage

        stage = ReportStage(
            self.db,
            self.queue,
            spool=self.settings.data_dir / "spool",
            results=self.settings.data_dir / "results",
            clock=self.clock,
            site=self.settings.site.name,
            ae_title=self.settings.listener.ae_title,
            destinations={item.name: item.results for item in self.settings.destination},
        )
        self._work(Stage.REPORT, stage.report_study, threads=1)

    def _start_deliver(self) -> None:
        from triage.deliver.dicom import DicomDestination
        from triage.deliver.outbox import Outbox

        outbox = Outbox(
            self.db,
            self.queue,
            results=self.settings.data_dir / "results",
            clock=self.clock,
            destinations=[
                DicomDestination(
                    item.name, item.ae_title, item.host, item.port, self.settings.listener.ae_title
                )
                for item in self.settings.destination
            ],
        )
        self._work(Stage.DELIVER, outbox.deliver_result, threads=max(1, len(self.settings.destination)))
        self._stops.append(outbox.close)  # before the worker's stop, which waits for a send that is going on

    def _start_scheduler(self) -> None:
        from triage.list_services import ask_worklists, keep_history
        from triage.worklist.scheduler import Scheduler

        scheduler = Scheduler(
            self.db,
            self.clock,
            every=timedelta(seconds=self.settings.scheduler.rerank_seconds),
            claim_idle=timedelta(minutes=self.settings.scheduler.claim_idle_minutes),
        )
        ask_worklists(scheduler, self.settings, self.db, self.clock)
        keep_history(scheduler, self.settings, self.db, self.clock)
        scheduler.start()
        self._stops.append(scheduler.stop)

    def _receiving(self) -> Any:
        """Return what takes objects in, by whatever channel; made once."""
        if self._intake is None:
            from triage.receive.completion import Completion
            from triage.receive.counting import Counting, sources
            from triage.receive.intake import Intake
            from triage.receive.recovery import recover
            from triage.receive.refusals import RefusalLog
            from triage.receive.retention import Retention
            from triage.receive.spool import Spool

            s = self.settings
            spool = Spool(
                s.data_dir / "spool",
                low_water_bytes=s.spool.low_water_mb << 20,
                max_object_bytes=s.listener.max_object_mb << 20,
            )
            refusals = RefusalLog(self.db, self.clock)
            self._intake = Intake(self.db, self.queue, spool, self.clock, policies.active, refusals)
            self._completion = Completion(
                self.db,
                self.queue,
                self.clock,
                quiet=timedelta(seconds=s.study.quiet_seconds),
                evidence={CompletedBy(name) for name in s.study.complete_on},
            )
            self._intake.on_stored(self._completion.stored)
            recover(self.db, self._intake)
            refusals.start()
            self._stops.append(refusals.stop)
            self._completion.start()
            self._stops.append(self._completion.stop)
            counting = Counting(self.db, self._completion, sources(s.peer, s.listener.ae_title))
            self._intake.on_stored(counting.stored)
            counting.start()
            self._stops.append(counting.stop)
            retention = Retention(self.db, spool, self.clock, timedelta(days=s.spool.keep_days))
            retention.start()
            self._stops.append(retention.stop)
        return self._intake

    def _start_receive(self) -> None:
        from triage.receive.listener import Listener

        intake = self._receiving()
        self._listener = Listener(self._listener_config, intake, self._completion)
        self._listener.start()
        self._stops.append(self._listener.stop)

    def _stow(self, content_type: str, account: str, host: str) -> Any:
        from triage.receive.stow import StowRequest

        return StowRequest(self._receiving(), content_type, account, host)

    def _start_web(self) -> None:
        from triage.list_services import list_servers
        from triage.page_services import page_services
        from triage.web.app import Parts, build_app
        from triage.web.server import WebServer

        web = self.settings.web
        if Role.RECEIVE in self._roles:
            self._receiving()
        application = build_app(
            Parts(
                db=self.db,
                clock=self.clock,
                metrics=observe.metrics(self.db, self.clock, self._live_metrics()),
                **page_services(self.settings.data_dir, self._decoders(), self._classifier, self.queue),
                models=self._models,
                checks=self._checks(),
                site=self.settings.site.name,
                viewer_url=web.viewer_url,
                # Only the process that tidies the spool writes into it.
                stow=self._stow if Role.RECEIVE in self._roles else None,
            )
        )
        self._web = WebServer(application, web.host, web.port)
        self._web.start()
        self._stops.append(self._web.stop)
        for name, server in list_servers(self.settings, self.db, self.clock):
            server.start()
            self._stops.append(server.stop)
            self._servers[name] = server

    def _live_metrics(self) -> dict[str, tuple[str, Callable[[], float]]]:
        return {
            "triage_worker_failures": (
                "Jobs that failed unexpectedly since the start.",
                lambda: float(sum(worker.failures for worker in self._workers)),
            ),
            "triage_open_associations": (
                "Associations that are open at this listener.",
                lambda: float(self._listener.open_associations) if self._listener else 0.0,
            ),
        }

    def _models(self) -> Sequence[Mapping[str, Any]]:
        if self._classifier is None:
            return []
        model = self._classifier.model
        return [
            {
                "name": model.name,
                "version": model.version,
                "active": True,
                "architecture": model.architecture,
                "findings": [finding.value for finding in model.findings],
                "digest": model.sha256,
            }
        ]

    def _checks(self) -> Sequence[Callable[[], tuple[str, bool, str]]]:
        data, mark = self.settings.data_dir, self.settings.spool.low_water_mb
        model = self._classifier.model.label if self._classifier else "of another process"
        asked: dict[str, Callable[[], str]] = {
            "database": lambda: checks.database(self.db),
            "disk": lambda: checks.disk(data, mark),
            "model": lambda: f"The model {model} is loaded.",
        }
        if Role.RECEIVE in self._roles:
            asked["listener"] = lambda: checks.listener(
                self.settings, self._listener and self._listener.address
            )
        asked |= checks.peers(self.settings)

        def answer(name: str, check: Callable[[], str]) -> Callable[[], tuple[str, bool, str]]:
            return lambda: astuple(checks.attempt(name, check))

        return [answer(name, check) for name, check in asked.items()]

    def addresses(self) -> list[str]:
        """Return one line for each address that this process listens on."""
        lines = []
        if self._listener is not None:
            host, port, title = self.dicom_address()
            lines.append(f"DICOM  {title}@{host}:{port}")
        if self._web is not None:
            lines.append(f"Web    {self.web_address()}")
        lines += ["{:6} {}:{}".format(name, *server.address) for name, server in self._servers.items()]
        return lines or ["Working; this process listens nowhere."]

    def dicom_address(self) -> tuple[str, int, str]:
        """Return host, port and AE title of the listener."""
        host, port = self._listener.address
        return host, port, self.settings.listener.ae_title

    def web_address(self) -> str:
        """Return the address of the page."""
        host, port = self._web.address
        return f"http://{host}:{port}"
