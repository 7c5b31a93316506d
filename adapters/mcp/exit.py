"""Leaving on time: at the end of input, on a signal and when the parent dies, whatever the threads are doing.

Everything runs from one watching thread, because the main thread may be importing, and a tool may hold a worker thread
for long. The interpreter's own exit would wait for such threads; `os._exit` does not.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

CLOSE_S_MAX = 1.0  # for closing what the tools opened
DRAIN_S_MAX = 0.6  # after the end of input, for answers that are under way
PARENT_POLL_S = 1.0  # where the system cannot tell us of the parent's death

_INPUT_ENDED = 255  # what the wake pipe carries: this, or the number of a signal


class Exit:
    """Ends the process with code 0 within CLOSE_S_MAX + DRAIN_S_MAX of the reason to leave."""

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []
        self._once = threading.Lock()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._signals: set[int] = set()
        self._parent = os.getppid()

    def watch(self) -> None:
        """Take over SIGTERM, SIGINT and SIGHUP and watch the parent. Called from the main thread.

        The numbers arrive through the wakeup descriptor, written by the interpreter's own handler. A Python handler
        would run only once the main thread gets there, and a signal that the system delivers to another thread does
        not wake it from its wait for the event loop.
        """
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if (number := getattr(signal, name, None)) is not None:
                self._signals.add(number)
                signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, name="exit", daemon=True).start()

    def on_leave(self, close: Callable[[], None]) -> None:
        """What to close before leaving, in the order of these calls, in CLOSE_S_MAX altogether."""
        self._closers.append(close)

    def input_ended(self) -> None:
        """The client is gone; leave soon, even if the server has not wound up by then."""
        os.write(self._wake_write, bytes((_INPUT_ENDED,)))

    def leave(self, code: int = 0) -> None:
        """Close, flush, end the process. Does not return."""
        if not self._once.acquire(blocking=False):
            threading.Event().wait()  # another thread is leaving; the process ends under this one
        if self._closers:
            closing = threading.Thread(target=self._close_all, daemon=True)
            closing.start()
            closing.join(CLOSE_S_MAX)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)

    def _close_all(self) -> None:
        for close in self._closers:
            try:
                close()
            except Exception as error:  # noqa: BLE001  whatever it is, it must not keep the process
                print(f"session-mgmt: closing failed: {error!r}", file=sys.stderr)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        parent = self._parent_handle()
        if parent is not None:
            poll.register(parent, select.POLLIN)
        timeout_s = PARENT_POLL_S if parent is None and self._parent > 1 else None
        while True:
            ready = {fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)}
            if self._wake_read in ready:
                why = os.read(self._wake_read, 1)[0]
                if why in self._signals:
                    break
                if why == _INPUT_ENDED:
                    self._wait_for_a_signal(DRAIN_S_MAX)
                    break
            if parent in ready or os.getppid() != self._parent:
                break
        self.leave()

    def _wait_for_a_signal(self, seconds_max: float) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.poll(seconds_max * 1000)

    def _parent_handle(self) -> int | None:
        """A descriptor that becomes readable when the parent ends; None where the system has none."""
        if self._parent <= 1 or not hasattr(os, "pidfd_open"):
            return None
        try:
            handle = os.pidfd_open(self._parent)
        except OSError:
            return None
        return handle if os.getppid() == self._parent else None
