"""Run the benchmarks and write RESULTS.md.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/run_all.py [PART …] [--render] [--sizes 1k,10k,100k,1M] [--cache DIR]

Without a part all are run: hours, of which embedding real sessions takes the most. Each part keeps its figures as
results/<part>.json, so that one can be run again alone; `--render` only writes the page from what is there. `data` and
`latency` keep what they know of other sizes: `latency --sizes 100k` measures that size anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import results_page
from report import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def program(name: str, *words: str) -> dict[str, Any]:
    """A benchmark's figures: its last line with --json. Raises CalledProcessError."""
    command = [sys.executable, str(HERE / f"{name}.py"), *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def data(args: argparse.Namespace) -> dict[str, Any]:
    began = machine()
    found = [program("prepared", size) for size in args.sizes]
    return {"machine": began, "sizes": _in_order(found + _kept("data", "sizes", args))}


def latency(args: argparse.Namespace) -> dict[str, Any]:
    began = machine()
    found = [test for size in args.sizes for test in _tests(size)]
    return {"machine": began, "tests": _in_order(found + _kept("latency", "tests", args))}


def _kept(part: str, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What was measured of other sizes than those asked for."""
    file = RESULTS / f"{part}.json"
    found = json.loads(file.read_text())[name] if file.exists() else []
    return [one for one in found if one["size"] not in args.sizes]


def _in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda one: (one.get("test", ""), results_page.SIZES.index(one["size"])))


def _tests(size: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        chosen = [str(HERE / "test_search_latency.py"), "-k", f"{size}]", f"--benchmark-json={answer}"]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-W",
            "default",
            *chosen,
        ]
        subprocess.run(command, cwd=HERE.parent, stdout=sys.stderr, check=True)
        runs = json.loads(answer.read_text())["benchmarks"]
    return [
        {"test": run["name"].removeprefix("test_").partition("[")[0], **run["extra_info"]} for run in runs
    ]


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "data": data,
    "latency": latency,
    "limited_memory": lambda args: program("limited_memory", "--size", args.sizes[-1]),
    "quality": lambda args: program("quality", "--ablations", "--cache", str(args.cache / "quality")),
    "rivals": lambda args: program("rivals", "--cache", str(args.cache)),
    "vector_index": lambda args: program("vector_index"),
    "embedding": lambda args: program("embedding"),
    "service": lambda args: program(
        "service", "--memory-seconds", "600", "--plot", str(RESULTS / "service-memory.svg")
    ),
    "ingest": lambda args: program("import_and_search"),
}


def run(parts: Sequence[str], args: argparse.Namespace) -> int:
    """How many parts failed; each that did not is kept and rendered at once."""
    failed = 0
    RESULTS.mkdir(exist_ok=True)
    for name in parts:
        print(f"== {name}", file=sys.stderr, flush=True)
        try:
            found = PARTS[name](args)
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error}; its last figures stay", file=sys.stderr)
            failed += 1
            continue
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        render()
    return failed


def render() -> None:
    (HERE / "RESULTS.md").write_text(results_page.page(RESULTS))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--render", action="store_true", help="run nothing, write the page")
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=list(results_page.SIZES))
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "session-mgmt-bench",
        help="environments, views, vectors",
    )
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS] + [
        s for s in args.sizes if s not in results_page.SIZES
    ]
    if unknown:
        parser.error(
            f"no part or size {', '.join(unknown)}; there are {', '.join([*PARTS, *results_page.SIZES])}"
        )
    os.environ["SESSION_MGMT_EMBED"] = "off"  # nothing of ours runs behind what is measured
    if args.render:
        render()
        return 0
    return 1 if run(args.parts or list(PARTS), args) else 0


if __name__ == "__main__":
    sys.exit(main())
