"""The terminal: how wide it is, in colour or not, through a pager or not; and what may be written to it."""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

from rich.console import Console

PIPE_COLUMNS = 1000
_LESS = "FRX"  # what fits on a screen is only printed, colours pass, and it stays there afterwards
# Escape sequences of terminals (ECMA-48): CSI and OSC whole, others by their two characters
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
# Other control characters and those that reorder what is shown: a sign in their place, so that lengths stay
_SIGNS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x7F, 0xA0), *range(0x202A, 0x202F))}
_SIGNS |= {code: "\N{REPLACEMENT CHARACTER}" for code in range(0x2066, 0x206A)}
_SIGNS |= {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}


class _Console(Console):
    """Rich ends the process where a reader left early; whether that is an error is not for it to say."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Output(NamedTuple):
    """Where a command writes what people read."""

    console: Console
    live: bool  # on a terminal; else plain text that depends on neither its width nor the day


def add_pager_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-pager", action="store_true", help="print at once, also where it is longer than the screen"
    )


@contextlib.contextmanager
def output(*, pager: bool = True) -> Iterator[Output]:
    """Stdout as people read it: where it is a terminal through $PAGER or `less -R`, else plain.

    Colours: none where NO_COLOR is set, always where FORCE_COLOR is, else on terminals. A pager that cannot be
    started is done without.
    """
    live = sys.stdout.isatty()
    with contextlib.suppress(AttributeError):  # a stream of tests
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    command = _pager(os.environ) if live and pager else []
    if command:
        sys.stdout.flush()
        environment = {"LESS": _LESS, **os.environ}
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
            )
            assert process.stdin is not None
            with _until_it_is_left(process):
                yield Output(_console(process.stdin, live), live)
            return
    yield Output(_console(sys.stdout, live), live)


@contextlib.contextmanager
def _until_it_is_left(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Wait for the pager; Ctrl-C is its own, and leaving it early is no error."""
    mine = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if mine else None
    try:
        with contextlib.suppress(BrokenPipeError):
            yield
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
    finally:
        process.wait()
        if mine:
            signal.signal(signal.SIGINT, before)


def _pager(environ: Mapping[str, str]) -> list[str]:
    """The command line of the pager; empty for none."""
    if environ.get("TERM", "dumb") == "dumb":
        return []
    chosen = environ.get("PAGER")
    if chosen is None:
        return ["less"] if shutil.which("less") else []
    try:
        words = shlex.split(chosen)
    except ValueError:
        return []
    return [] if words == ["cat"] else words


def _console(file: IO[str], live: bool) -> Console:
    forced = bool(os.environ.get("FORCE_COLOR"))
    coloured = (live or forced) and not os.environ.get("NO_COLOR")
    return _Console(
        file=file,
        highlight=False,
        soft_wrap=not live,
        width=None if live else PIPE_COLUMNS,
        color_system="auto" if coloured else None,
        force_terminal=coloured,
    )


def printable(text: str) -> str:
    """Recorded text without what a terminal would obey instead of show."""
    return shown(_SEQUENCE.sub("", text) if "\x1b" in text else text).replace("\u240d\n", "\n")


def shown(text: str) -> str:
    """The same, each control character as a sign: as long as it was, so that places in it stay where they are."""
    return text if text.isprintable() else text.translate(_SIGNS)
