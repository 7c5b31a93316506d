"""Put many states to the proof: `python tests/sim/run.py --states 100000 [--seed S]`.

Histories are run by seed, from S on. An interrupted or finished run says with which seed the next one goes on.
Exits with 1 where something was wrong; the seed in each line repeats it.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from sim_history import run_history


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--states", type=int, default=10_000, help="stop after so many states")
    parser.add_argument("--seed", type=int, default=0, help="begin here, or go on from an earlier run")
    given = parser.parse_args()
    seed, states, calls, acknowledged, failed = given.seed, 0, 0, 0, 0
    began = shown = time.monotonic()
    try:
        while states < given.states:
            report = run_history(seed)
            seed += 1
            states += report.states
            calls += report.calls
            acknowledged += report.acknowledged
            failed += bool(report.wrong)
            for what in report.wrong:
                print(what, flush=True)
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                rate = states / (shown - began)
                print(f"{states:,} of {given.states:,} states, {rate:.0f}/s, next seed {seed}", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(
        f"{states:,} states of {seed - given.seed:,} histories: {calls:,} calls, {acknowledged:,} events acknowledged, "
        f"{failed} histories with something wrong, {time.monotonic() - began:.0f} s; go on with --seed {seed}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
