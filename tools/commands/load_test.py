"""`load-test`: many clients of the service at once, and whether each finds what it was told is stored."""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from session_mgmt_mcp.core.config_table import is_loopback
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.progress import stages
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp load-test --clients 20 --seconds 60 --plot load.svg"
_PLOT_PARTS, _SPARK_PARTS = 60, 40


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        help="the service's /mcp; notes tagged load-test are stored there for good. Default: a service of its own on an "
        "empty folder that is removed",
    )
    parser.add_argument("--clients", type=int, default=10, help="at once, up to 200 (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="up to 3600 (default: %(default)s)")
    parser.add_argument(
        "--mix",
        default="remember=3,search=6,timeline=1",
        help="shares of the tools; search=1 alone stores nothing (default: %(default)s)",
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="API keys, one a line, handed round")
    parser.add_argument("--ca", metavar="FILE", help="trust this certificate (PEM) for https")
    parser.add_argument("--queries", type=Path, metavar="FILE", help="searches to draw from, one a line")
    parser.add_argument("--health", action="store_true", help="GET /health instead: what bare HTTP costs")
    parser.add_argument(
        "--metrics", metavar="URL", help="where to read the service's memory (default: its /metrics)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw durations, rates and memory over time as SVG"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed asks the same (default: %(default)s)"
    )
    parser.add_argument(
        "--retry-s",
        type=float,
        default=30.0,
        help="how long a call is tried again after a cut or a 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--yes-this-is-mine", action="store_true", help="load another machine than this one: you may do so"
    )


def run(args: argparse.Namespace) -> int:
    """0; 1 where something acknowledged is missing or wrong, or a call was never answered; 130 interrupted."""
    from session_mgmt_mcp.tools.load.report import svg, text
    from session_mgmt_mcp.tools.load.run import LoadTest

    if args.plot is not None and not args.plot.absolute().parent.is_dir():
        raise InputError(f"--plot {args.plot}: there is no such folder; make it first")
    if args.plot is not None and args.plot.is_dir():
        raise InputError(f"--plot {args.plot} is a folder; name a file in it")
    with _service(args) as url, stages() as show:
        test = LoadTest(_plan(args, url), show)
        report = asyncio.run(test.run())
    if args.plot is not None:
        args.plot.write_text(svg(report, test.over_time(report.seconds, _PLOT_PARTS)), "utf-8")
    if args.json:
        import msgspec

        emit_json(msgspec.to_builtins(report))
    else:
        print(printable(text(report, test.over_time(report.seconds, _SPARK_PARTS))))
    if report.interrupted:
        return 130
    return 0 if report.is_good else 1


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[str]:
    """The URL to load: the one that was given, or that of a service of its own."""
    if args.url:
        if not is_loopback(urlsplit(args.url).hostname or "") and not args.yes_this_is_mine:
            raise InputError(
                f"{args.url} is not on this machine's loopback: a load test may stop others from working; "
                "if it is yours, say --yes-this-is-mine"
            )
        if "remember" in args.mix and not args.health:
            note(
                "notes tagged load-test are stored in this service's log for good; --mix search=1 stores nothing"
            )
        yield args.url
        return
    from session_mgmt_mcp.tools.load.own_service import OwnService

    with (
        tempfile.TemporaryDirectory(prefix="session-mgmt-load-") as scratch,
        OwnService(Path(scratch) / "data") as own,
    ):
        yield own.url


def _plan(args: argparse.Namespace, url: str) -> Any:
    from session_mgmt_mcp.tools.load.run import Plan

    keys = _lines(args.key_file, "--key-file") if args.key_file else ()
    metrics = args.metrics if args.metrics is not None else _metrics_of(url)
    return Plan(
        url=url,
        clients=args.clients,
        seconds=args.seconds,
        mix=_mix(args.mix),
        keys=keys,
        ca_file=args.ca,
        queries=_lines(args.queries, "--queries") if args.queries else (),
        metrics=metrics,
        health=args.health,
        seed=args.seed,
        retry_s=args.retry_s,
    )


def _metrics_of(url: str) -> str:
    """The same server's /metrics: one with a port of its own for them answers 404 there, and tells no memory."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "/metrics", "", ""))


def _mix(text: str) -> dict[str, int]:
    mix = {}
    for part in text.split(","):
        tool, _, share = part.partition("=")
        if not share.isdecimal() or len(share) > 4:
            raise InputError(f"--mix {text!a}: give shares such as remember=3,search=6,timeline=1")
        mix[tool.strip()] = int(share)
    return mix


def _lines(path: Path, option: str) -> tuple[str, ...]:
    try:
        found = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {path}: {getattr(error, 'strerror', None) or 'no UTF-8 text'}") from error
    if not found:
        raise InputError(f"{option} {path} is empty; write one a line")
    return found
