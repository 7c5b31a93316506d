"""Hooks at work: appends one event after the other and prints what was acknowledged, until stdin ends."""

import json
import os
import sys

from session_mgmt_mcp.adapters.claude_code import capture


def main() -> None:
    folder, name = sys.argv[1:]
    capture.spawn_maintenance = lambda folder: 0
    os.set_blocking(0, False)
    number = 0
    while os.read(0, 1) if _ready() else True:
        said = {
            "session_id": name,
            "hook_event_name": "UserPromptSubmit",
            "cwd": "/p",
            "prompt": f"{name} {number}",
        }
        capture.capture(folder, json.dumps(said).encode())
        print(number, flush=True)
        number += 1


def _ready() -> bool:
    import select

    return bool(select.select([0], [], [], 0)[0])


if __name__ == "__main__":
    main()
