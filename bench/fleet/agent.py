"""An agent that measures nothing: its session, book, spool, reporter and link are the real ones.

``python -m bench.fleet.agent HOME``: takes rounds and spools a made-up result for each run as fast
as the disk flushes them. It is meant to be killed.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from assay.agent.home import AgentHome
from assay.agent.plane.health import HealthReader
from assay.agent.plane.identity import Identity
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.report import Reporter
from assay.agent.plane.rounds import AttemptState, HeldRound, RoundBook, seq_of
from assay.agent.plane.session import Session
from assay.agent.plane.spool import Key, Spool
from assay.core import log
from assay.core.cas import ContentStore
from assay.core.channel import dial
from tests.plane import facts, reported, result

_QUOTA_BYTES = 64 << 20
_DONE = (AttemptState.SPOOLED, AttemptState.RECORDED)


def main(home: AgentHome) -> None:
    """Works until it is killed, or until a thread ends by a mistake: then it ends too, as an agent
    does that its service manager starts again."""
    threading.excepthook = _end
    identity, quiet, stop = Identity.load(home), QuietWindow(), threading.Event()
    own = identity.credentials(home)
    spool = Spool(home.spool, _QUOTA_BYTES)
    book = RoundBook(home.rounds, facts().boot_id, [entry.key for entry in spool.entries])
    link = Link(
        lambda: dial(identity.fleet_address, own), lambda: dial(identity.blobs_address, own), quiet
    )
    session = Session(
        link=link,
        book=book,
        spool=spool,
        quiet=quiet,
        identity=identity,
        facts=facts,
        health=HealthReader(Path("/"), home.root, spool).read,
        refuse=lambda _message, why: sys.exit(why),
        on_back=lambda: reporter.wake(),
    )

    def on_recorded() -> None:
        if any(held.recorded for held in book.held):
            session.wake()

    traces = ContentStore(home.traces)
    reporter = Reporter(link, spool, traces, book, quiet, home.rejected, on_recorded=on_recorded)
    for work in (session.run, reporter.run):
        threading.Thread(target=work, args=(stop,), daemon=True).start()
    while (held := book.take(stop)) is not None:
        spool_all(held, book, spool, reporter)
        reporter.drain(60)
        book.release(held.round.round_id)
        session.wake()


def _end(what: threading.ExceptHookArgs) -> None:
    sys.excepthook(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
    os._exit(1)


def spool_all(held: HeldRound, book: RoundBook, spool: Spool, reporter: Reporter) -> None:
    """A result for each run that has none yet."""
    round_ = held.round
    for position, run in enumerate(round_.runs):
        if held.state(run.attempt_id) in _DONE:
            continue
        start = book.start(round_.round_id, run.attempt_id)
        made = result(round_, position, seq=seq_of(round_.fence, start))
        spool.append(Key(run.attempt_id, made.seq), reported(made)[3])
        book.advance(round_.round_id, run.attempt_id, AttemptState.SPOOLED)
        reporter.wake()


if __name__ == "__main__":
    log.configure("info", json_lines=True)
    main(AgentHome(Path(sys.argv[1])))
