"""Nothing is sent while a block is timed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from assay.agent.plane.quiet import QuietWindow, Stopping

WAIT_S = 5.0


class Call:
    """A call in flight: ends when it is told to, or cancelled."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self.over.set()


def begin(pool: ThreadPoolExecutor, window: QuietWindow, call: Call, *, idle: bool) -> None:
    """Starts a call and returns once it is in flight."""
    begun = threading.Event()

    def body() -> None:
        with window.packet(idle=idle) as packet:
            packet.attach(call.cancel)
            begun.set()
            assert call.over.wait(WAIT_S)

    pool.submit(body)
    assert begun.wait(WAIT_S)


def test_entering_cancels_a_long_poll_at_once() -> None:
    window = QuietWindow(grace_s=WAIT_S)
    call = Call()
    with ThreadPoolExecutor() as pool:
        begin(pool, window, call, idle=True)
        window.enter()
        assert call.cancelled
        window.leave()


def test_entering_waits_for_a_transfer_to_end() -> None:
    window = QuietWindow(grace_s=WAIT_S)
    call = Call()
    with ThreadPoolExecutor() as pool:
        begin(pool, window, call, idle=False)
        entered = pool.submit(window.enter)
        assert not entered.done()
        call.over.set()
        entered.result(WAIT_S)
        assert not call.cancelled
        window.leave()


def test_a_transfer_that_takes_too_long_is_cancelled() -> None:
    window = QuietWindow(grace_s=0.01)
    call = Call()
    with ThreadPoolExecutor() as pool:
        begin(pool, window, call, idle=False)
        window.enter()
        assert call.cancelled
        window.leave()


def test_inside_the_window_nobody_sends_until_it_ends() -> None:
    window = QuietWindow()
    sent = threading.Event()

    def send() -> None:
        with window.packet():
            sent.set()

    window.enter()
    assert window.quiet
    assert not window.wait_open(0)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(send)
        assert not sent.wait(0.05)
        window.leave()
        future.result(WAIT_S)
    assert sent.is_set()
    assert window.wait_open(0)


def test_a_call_cancelled_before_it_began_is_cancelled_when_it_does() -> None:
    window = QuietWindow(grace_s=0.01)
    call = Call()
    with window.packet(idle=True) as packet:
        window.interrupt_idle()
        packet.attach(call.cancel)
        assert call.cancelled
        assert packet.cancelled


def test_interrupting_idle_calls_leaves_transfers_alone() -> None:
    window = QuietWindow()
    poll, transfer = Call(), Call()
    with window.packet(idle=True) as first, window.packet() as second:
        first.attach(poll.cancel)
        second.attach(transfer.cancel)
        window.interrupt_idle()
    assert (poll.cancelled, transfer.cancelled) == (True, False)


def test_stopping_cancels_everything_and_refuses_what_waits() -> None:
    window = QuietWindow()
    call = Call()
    with window.packet() as packet:
        packet.attach(call.cancel)
        window.stop()
    assert call.cancelled
    with pytest.raises(Stopping), window.packet():
        pass


def test_stopping_frees_those_who_wait_for_the_window() -> None:
    window = QuietWindow()
    window.enter()

    def send() -> None:
        with window.packet():
            raise AssertionError("nothing may be sent any more")

    with ThreadPoolExecutor() as pool:
        future = pool.submit(send)
        window.stop()
        with pytest.raises(Stopping):
            future.result(WAIT_S)
