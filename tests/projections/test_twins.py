"""What forgetting must know of events: their keys, their twins, and the places they keep in the order."""

from pathlib import Path

import pytest
from action_log import call, forgotten, hook, hook_prompt, hook_return, prompt, reply, returned
from memory_log import MemoryLog

from session_mgmt_mcp.core.actions import text_digest
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.projections.facts import KINDS_COUNTED
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.twins import action_keys_of, twins_of
from session_mgmt_mcp.projections.views import Views

YES = text_digest("yes")


def story() -> MemoryLog:
    """1 to 4: "yes" twice, each by hook and record; 5 to 7: a tool call by record and hook, its result."""
    log = MemoryLog()
    log.append([hook_prompt("s-1", "yes", 1), prompt("s-1", "u-1", "yes", 1, promptId="p-1")])
    log.append([hook_prompt("s-1", "yes", 2), prompt("s-1", "u-2", "yes", 2, promptId="p-2")])
    log.append([call("s-1", "a-1", "t-1", "Bash", {"command": "make"}, 3)])
    log.append([hook_return("s-1", "t-1", "Bash", "made", 4), returned("s-1", "u-3", "t-1", "made", 4)])
    log.seal()
    return log


@pytest.mark.parametrize("published", [True, False])
def test_keys_are_complete_whether_or_not_the_events_are_published(tmp_path: Path, published: bool) -> None:
    log = story()
    if published:
        update(log, tmp_path)
    assert action_keys_of(log, tmp_path, [3]) == [f"prompt:s-1:{YES}:2"]
    assert action_keys_of(log, tmp_path, [4]) == ["prompt:p-2", f"prompt:s-1:{YES}:2"]
    assert action_keys_of(log, tmp_path, [5, 7]) == ["call:t-1", "return:t-1"]


def test_twins_meet_by_id_and_by_text(tmp_path: Path) -> None:
    log = story()
    assert twins_of(log, tmp_path, [1]) == [2]
    assert twins_of(log, tmp_path, [4]) == [3]
    assert twins_of(log, tmp_path, [5]) == [6]
    assert twins_of(log, tmp_path, [1, 2, 7]) == [6]
    assert twins_of(log, tmp_path, []) == []


def _forget(log: MemoryLog, folder: Path, positions: list[int]) -> None:
    """As the command does: the keys of what was asked for, and the twins with it."""
    keys = action_keys_of(log, folder, positions)
    gone = sorted({*positions, *twins_of(log, folder, positions)})
    texts = [
        (position, type(action).__name__, action.text_digest)
        for position, event in log.get(gone).items()
        for action in interpret(event)
        if type(action).__name__ in KINDS_COUNTED
    ]
    for position in gone:
        log.forget(position)
    log.append([forgotten(tuple(keys), tuple(gone), tuple(texts))])


def test_a_copy_of_a_forgotten_prompt_keeps_its_key_and_stays_shown(tmp_path: Path) -> None:
    log = story()
    update(log, tmp_path)
    _forget(log, tmp_path, [1])
    log.seal()
    purge(log, tmp_path, [1, 2])
    assert action_keys_of(log, tmp_path, [4]) == ["prompt:p-2", f"prompt:s-1:{YES}:2"]
    views = Views(log, tmp_path)
    assert [(t.position, t.kind) for t in views.timeline(session="s-1").turns][:1] == [(4, "PromptSubmitted")]
    assert twins_of(log, tmp_path, [4]) == [3]


def test_what_is_said_after_forgetting_is_counted_on(tmp_path: Path) -> None:
    log = story()
    _forget(log, tmp_path, [3])
    log.append([hook_prompt("s-1", "yes", 9)])
    log.seal()
    live = Views(log, tmp_path)
    shown = [t.position for t in live.timeline(session="s-1").turns if t.kind == "PromptSubmitted"]
    assert shown == [2, 9]
    update(log, tmp_path)
    assert action_keys_of(log, tmp_path, [9]) == [f"prompt:s-1:{YES}:3"]
    before = digest(tmp_path)
    assert replay(log, tmp_path) == before


def test_a_later_report_of_a_forgotten_prompt_stays_hidden_whatever_its_id(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append([hook_prompt("s-1", "yes"), hook("s-1", "Stop", last_assistant_message="done")])
    log.seal()
    update(log, tmp_path)
    _forget(log, tmp_path, [1, 2])
    log.append([prompt("s-1", "u-1", "yes", promptId="p-1"), reply("s-1", "a-1", "done")])
    log.seal()
    assert Views(log, tmp_path).status().actions == 0
    update(log, tmp_path)
    assert Views(log, tmp_path).status().actions == 0
    before = digest(tmp_path)
    assert replay(log, tmp_path) == before


def test_a_live_reader_hides_forgotten_events_before_the_views_are_published_anew(tmp_path: Path) -> None:
    log = story()
    update(log, tmp_path)
    views = Views(log, tmp_path)
    assert views.status().actions == 4
    log.append([forgotten((), (4, 7))])
    assert [t.position for t in views.timeline(session="s-1").turns] == [2, 5]
    assert views.search("made") == []


def test_an_update_takes_what_was_forgotten_out_of_the_files(tmp_path: Path) -> None:
    log = story()
    update(log, tmp_path)
    _forget(log, tmp_path, [2])
    log.seal()
    assert update(log, tmp_path)["events"] == log.head().position  # built anew
    before = digest(tmp_path)
    assert replay(log, tmp_path) == before
