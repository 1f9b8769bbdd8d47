"""The agent as one process: its parts, its threads, and its end."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.agent import runtimes
from assay.agent.clock import Clock
from assay.agent.config import AgentConfig
from assay.agent.measuring.affinity import CpuChooser, pin_threads
from assay.agent.measuring.measure import Measured, measure
from assay.agent.measuring.observe import RunPaths
from assay.agent.measuring.outcome import refused_results
from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.drain import Drain
from assay.agent.plane.encoded import EncodedFetcher
from assay.agent.plane.ending import Ending, end_by_exception
from assay.agent.plane.facts import FactsSource
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.footprint import give_back
from assay.agent.plane.health import HealthReader
from assay.agent.plane.identity import Identity
from assay.agent.plane.jobs import RoundExecutor
from assay.agent.plane.knock import Knock, cut_off
from assay.agent.plane.link import Link
from assay.agent.plane.pulse import Pulse, longest_wait_s
from assay.agent.plane.putoff import PutOff
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.renewal import Renewal, ask_by_child
from assay.agent.plane.report import Reporter
from assay.agent.plane.rounds import RoundBook, seq_of
from assay.agent.plane.session import Session
from assay.agent.plane.signatures import unsigned
from assay.agent.plane.spool import Key, Spool
from assay.agent.plane.traffic import WAITS, Traffic
from assay.agent.platform import require_supported
from assay.core import log
from assay.core.cas import ContentStore
from assay.core.channel import dial
from assay.core.model import DeviceFacts, RunSpec
from assay.core.systemd import Notifier
from assay.v1 import job_pb2

if TYPE_CHECKING:
    import grpc

    from assay.agent.plane.exporter import Exporter

_LOG = log.get(__name__)
_JOIN_S = 15.0


def serve(config: AgentConfig, *, once: bool = False) -> int:
    """Syncs, measures and reports until SIGTERM or SIGINT; returns the exit code.

    ``once``: until there is nothing left to do. Ends with nothing left running and nothing lost:
    what was going on is run again after the next start. Raises what cannot be mended by waiting
    (a certificate that is refused, no common protocol version).
    """
    require_supported()
    notifier = Notifier.from_environment()
    with config.paths.lock():
        identity = Identity.load(config.paths)
        chooser = CpuChooser(config)
        # A run that a crash cut off leaves its folder.
        shutil.rmtree(_scratch(config), ignore_errors=True)
        with end_by_exception():
            source = FactsSource.probe(
                config.sysroot, config.labels, config.runtimes or runtimes.names()
            )
        # Before any other thread is there: all of them inherit it.
        pin_threads(chooser.plan(source.current().cpu, 1).housekeeping_cpus)
        with Agent(config, identity, chooser, source, notifier) as agent:
            return agent.run(once=once)


class Agent:
    """Everything an enrolled agent is made of; a context manager that closes it."""

    def __init__(
        self,
        config: AgentConfig,
        identity: Identity,
        chooser: CpuChooser,
        source: FactsSource,
        notifier: Notifier,
    ) -> None:
        home = config.paths
        self._config = config
        self._identity = identity
        self._credentials = identity.credentials(home)
        self._chooser = chooser
        self._source = source
        self._stop = threading.Event()
        self._clock = Clock()
        self._quiet = QuietWindow()
        self._spool = Spool(home.spool, config.spool_quota_bytes)
        spooled = [entry.key for entry in self._spool.entries]
        self._book = RoundBook(home.rounds, source.current().boot_id, spooled)
        self._traffic = Traffic(
            home.traffic, config.daily_bytes, source.current().boot_id, self._clock.boottime_ns
        )
        self._put_off = PutOff(self._traffic)
        self._knock = Knock(lambda: self._quiet.quiet or self._stop.is_set())
        self._link = Link(
            lambda: self._dial(self._identity.fleet_address),
            lambda: self._dial(self._identity.blobs_address),
            self._quiet,
            self._traffic.count,
            lambda: cut_off(self._identity.fleet_address),
        )
        self._pulse = Pulse(notifier, self._book, identity.fleet_address)
        ask = functools.partial(ask_by_child, home, self._quiet)
        self._renewal = Renewal(home, identity, self._dial_as, ask, self._clock)
        self._health = health = HealthReader(config.sysroot, config.home, self._spool)
        self._session = Session(
            link=self._link,
            book=self._book,
            spool=self._spool,
            quiet=self._quiet,
            identity=identity,
            facts=lambda: self._with_notes(source.current()),
            health=health.read,
            refuse=self._refuse,
            draining=lambda: Drain(home).marked,
            may_take=self._put_off.may_take,
            put_off=self._put_off.grants,
            on_back=lambda: self._reporter.wake(),
            pulse=self._after_step,
            wait_s=longest_wait_s(notifier.watchdog_s),
            clock=self._clock,
        )
        traces = ContentStore(home.traces)
        self._reporter = Reporter(
            link=self._link,
            spool=self._spool,
            traces=traces,
            book=self._book,
            quiet=self._quiet,
            rejected=home.rejected,
            late=ContentStore(home.late_traces) if config.daily_bytes is not None else None,
            late_quota_bytes=config.spool_quota_bytes,
            reserve=self._traffic.reserved,
            on_recorded=self._on_recorded,
        )
        self._exporter: Exporter | None = None
        self._page = ""
        if config.metrics_port is not None:
            self._start_exporter(config.metrics_host, config.metrics_port, health)
        self._executor = self._make_executor(traces)

    def _after_step(self, answered: bool | None) -> None:
        self._pulse.beat(answered)
        self._renewal.after_step(answered)

    def _dial(self, address: str) -> grpc.Channel:
        return dial(self._knock(address), self._credentials)

    def _dial_as(self, identity: Identity) -> None:
        """From now on; calls under way on the old channels end and are made again."""
        self._identity = identity
        self._session.start_over(identity)
        self._credentials = identity.credentials(self._config.paths)
        self._link.close()

    def _with_notes(self, facts: DeviceFacts) -> DeviceFacts:
        """The facts, with where this agent's own page is if it has one, and what it waits for."""
        notes = [self._page] if self._page else []
        if self._traffic.waits:
            notes.append(WAITS)
        return replace(facts, capabilities=(*facts.capabilities, *notes)) if notes else facts

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._exporter is not None:
            self._exporter.close()
        self._link.close()
        self._traffic.close()
        self._spool.close()

    def run(self, *, once: bool = False) -> int:
        """Runs its threads to their end; returns the exit code."""
        with Ending() as ending:
            self._pulse.start()
            self._renewal.start()
            threads = [
                ending.thread("executor", lambda: self._executor.run(self._stop)),
                ending.thread("reporter", lambda: self._reporter.run(self._stop)),
                ending.thread("session", lambda: self._session.run(self._stop, once=once)),
            ]
            if self._exporter is not None:
                _LOG.info(
                    "metrics served", host=self._config.metrics_host, port=self._exporter.port
                )
            give_back()
            _LOG.info("agent started", device=self._identity.name, home=str(self._config.home))
            ending.wait()
            self._pulse.end()
            self._end(threads)
            _LOG.info("agent ended", device=self._identity.name)
            return ending.exit_code()

    def _end(self, threads: list[threading.Thread]) -> None:
        self._stop.set()
        self._book.cancel_all("the agent is ending")
        self._quiet.stop()
        self._session.wake()
        self._reporter.wake()
        self._book.wake()
        for thread in threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                _LOG.error("thread did not end", thread=thread.name, after_s=_JOIN_S)

    def _make_executor(self, traces: ContentStore) -> RoundExecutor:
        config = self._config
        artifacts = ContentStore(config.paths.artifacts)
        cache = ArtifactCache(artifacts, config.cache_quota_bytes, config.spool_quota_bytes)
        return RoundExecutor(
            book=self._book,
            spool=self._spool,
            fetcher=Fetcher(
                cache,
                self._link.read,
                encoded=EncodedFetcher(
                    cache,
                    self._link.offer,
                    self._link.read,
                    self._health.spare_bytes,
                    self._traffic.reserved,
                ),
                reserve=self._traffic.reserved,
            ),
            traces=traces,
            quiet=self._quiet,
            measure=self._measure,
            facts=self._source.refresh,
            device_name=self._identity.name,
            work_dir=_scratch(config),
            announce=self._session.announce,
            drain=self._reporter.drain,
            on_released=self._on_released,
            scrapes=lambda: self._exporter.scrapes if self._exporter is not None else 0,
            refused=unsigned(config.trusted_publishers, self._link.signatures),
            put_off=self._put_off.add,
            waits=lambda: self._traffic.waits,
            clock=self._clock,
        )

    def _start_exporter(self, host: str, port: int, health: HealthReader) -> None:
        # An HTTP server is 2 MB that most agents do without.
        from assay.agent.plane.exporter import Exporter, Sources, page_capability

        sources = Sources(
            self._identity.name, health.read, self._book, self._quiet, traffic=self._traffic.now
        )
        self._exporter = Exporter(host, port, sources)
        self._page = page_capability(host, self._exporter.port, self._identity.fleet_address)

    def _measure(
        self,
        run: RunSpec,
        files: RunPaths,
        device: DeviceFacts,
        directory: Path,
        on_state: Callable[[str], None],
        cancel: threading.Event,
    ) -> Measured:
        plan = self._chooser.plan(device.cpu, run.runtime.threads)
        pin_threads(plan.housekeeping_cpus)
        return measure(
            run,
            files,
            device,
            self._identity.name,
            plan,
            self._config.sysroot,
            directory,
            on_state,
            cancel,
            sampler_hz=self._config.sampler_hz,
            start_limit_c=self._config.start_temperature_c,
            native_dir=self._config.paths.native,
            calibration_dir=self._config.paths.root,
        )

    def _refuse(self, message: job_pb2.Round, why: str) -> None:
        seq = seq_of(message.fence, 0)
        device = self._source.current()
        unix_ns = self._clock.unix_ns()
        for result in refused_results(message, seq, why, device, self._identity.name, unix_ns):
            body = result.SerializeToString(deterministic=True)
            self._spool.append(Key(result.attempt_id, seq), body)
        self._reporter.wake()

    def _on_released(self) -> None:
        give_back()
        self._session.wake()

    def _on_recorded(self) -> None:
        # A round that is over makes room for the next one.
        if any(held.recorded for held in self._book.held):
            self._session.wake()


def _scratch(config: AgentConfig) -> Path:
    return config.paths.work / "run"
