"""Put many states to the proof: `python tests/sim/run.py --states 100000 [--seed S] [--jobs 2] [--state FILE]`.

Histories are run by seed, from S on. With FILE each finished history is kept as a line of JSON: an interrupted or killed
run goes on from there when it is started again, and the totals are over all runs. Exits with 0, with 1 where something was
wrong (the seed in each line repeats it: `--seed N --states 1`), 2 for a wrong request, 130 when interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from sim_runs import Results, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--states", type=int, default=10_000, help="stop after so many states, earlier runs included"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first history")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="keep what was found here, and go on from it"
    )
    given = parser.parse_args()
    try:
        results = Results(given.state)
    except (ValueError, KeyError, OSError) as error:
        print(f"{given.state} cannot be gone on from: {error}; give another file", file=sys.stderr)
        return 2
    interrupted = False
    try:
        run(results, given.states, given.seed, given.jobs, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted" + (", go on with the same command" if given.state else ""), flush=True)
    for seed in sorted(results.wrong):
        print("\n".join(results.wrong[seed]))
    print(results.summary())
    return 130 if interrupted else 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
