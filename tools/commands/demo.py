"""`session-mgmt-mcp demo`: a bundled session through the whole path, in a folder of its own."""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from session_mgmt_mcp.adapters.claude_code import direct_install, install
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.projections.results import Moment
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json

EXAMPLE = "session-mgmt-mcp demo --keep"
_BUNDLED = Path(install.__file__).parent / "demo"
_RESULTS = 3


class _Question(NamedTuple):
    """A search, and the record of the bundled sessions that must be among its first results."""

    query: str
    record: str
    what: str


_QUESTIONS = (
    _Question(
        "why did the due date test fail at night",
        "f5a11a74-8de0-4de3-a4a8-a449263ad6aa",
        "the prompt that started it",
    ),
    _Question(
        "faketime half past midnight",
        "49609c54-2b69-44d8-8235-389234a5afa0",
        "the command that reproduced it",
    ),
    _Question(
        "invoice dated the day before",
        "e295f31d-2112-4809-84f4-c849819aa4cf",
        "a prompt that hook and transcript reported, once",
    ),
)


class DemoError(SessionMgmtError):
    """The bundled session did not come through. Its message says at which step."""

    kind = "demo"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    parser.add_argument("--keep", action="store_true", help="keep the demo's data folder and say where it is")


def run(args: argparse.Namespace) -> int:
    """0 only if every search found the record it must find."""
    folder = Path(tempfile.mkdtemp(prefix="session-mgmt-demo-"))
    story = _Story(quiet=args.json)
    try:
        searches = _play(story, folder / "data")
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    found = all(search["found"] for search in searches)
    story.say("\nEverything was found." if found else "\nNot everything was found: please report this.")
    story.say(f"The demo's data is in {folder / 'data'}." if args.keep else "The demo's data was removed.")
    if args.keep:
        story.say(f"Look around:  SESSION_MGMT_DATA_DIR={folder / 'data'} session-mgmt-mcp sessions")
    story.say("With your own sessions:  session-mgmt-mcp setup")
    if args.json:
        kept = str(folder / "data") if args.keep else None
        emit_json({"found": found, "data_dir": kept, "steps": story.steps, "searches": searches})
    return 0 if found else 1


class _Story:
    """What happens, step by step, with how long it took."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.steps: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step; what it puts into the yielded `said` is told afterwards."""
        step: dict[str, Any] = {"step": name, "said": ""}
        started = time.perf_counter()
        yield step
        step["ms"] = round((time.perf_counter() - started) * 1000, 1)
        self.steps.append(step)
        self.say(f"{len(self.steps)}. {name}: {step['said']}  [{step['ms']} ms]")


def _play(story: _Story, folder: Path) -> list[dict[str, Any]]:
    story.say("Two sessions in a small web shop: a test that fails at night, and an invoice a week later.\n")
    with App.open(folder, create=True) as app:
        _hooks(story, app, folder)
        with story.step("transcripts") as step:
            report = app.import_claude([_BUNDLED / "projects"])
            step["said"] = (
                f"{report.read} records of {report.files} files, {report.appended} appended to the log"
            )
            if report.errors or report.appended + report.duplicates + report.noise != report.read:
                raise DemoError(f"the transcripts did not come through whole: {report}")
        with story.step("seal and views") as step:
            done = app.maintain()
            step["said"] = f"sealed up to position {done.sealed}, views published"
            if done.sealed != app.log.head().position:
                raise DemoError(f"sealed up to {done.sealed} of {app.log.head().position} events")
        app.views.refresh()
        return [_search(story, app, question) for question in _QUESTIONS]


def _hooks(story: _Story, app: App, folder: Path) -> None:
    """The registered command, as the assistant runs it, once a bundled payload."""
    command = direct_install.hook_command(install.this_installation(folder))
    payloads = (_BUNDLED / "hooks.jsonl").read_bytes().splitlines()
    with story.step("hooks") as step:
        for payload in payloads:
            done = subprocess.run(["sh", "-c", command], input=payload, capture_output=True, check=False)
            if done.returncode or done.stderr:
                raise DemoError(f"the hook failed: {done.stderr.decode(errors='replace').strip()}")
        step["said"] = f"{len(payloads)} events, each durable in the log before the hook returned"
        if app.log.head().position != len(payloads):
            raise DemoError(f"{app.log.head().position} of {len(payloads)} hook events are in the log")


def _search(story: _Story, app: App, question: _Question) -> dict[str, Any]:
    with story.step("search") as step:
        results = app.views.search(question.query, limit=_RESULTS)
        found = question.record in {moment.record for moment in results} and _all_differ(results)
        step["said"] = f"{question.query!r} finds {question.what}: {'yes' if found else 'NO'}"
    for moment in results:
        story.say(f"     {_line(moment)}")
    return {
        "query": question.query,
        "found": found,
        "results": [
            {
                "session": m.session,
                "position": m.position,
                "record": m.record,
                "kind": m.kind,
                "excerpt": m.excerpt,
            }
            for m in results
        ],
    }


def _all_differ(results: list[Moment]) -> bool:
    """What a hook and a transcript report is one fact."""
    return len({(moment.session, moment.kind, moment.excerpt) for moment in results}) == len(results)


def _line(moment: Moment) -> str:
    return f"{moment.session[:8]} @{moment.position} {moment.kind}: {moment.excerpt}"
