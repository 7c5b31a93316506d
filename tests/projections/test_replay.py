"""However the log was cut into updates, the projections hold the same as after a replay from nothing."""

import tempfile
from pathlib import Path

import pytest
from action_log import call, forgotten, hook, hook_prompt, hook_return, prompt, reply, returned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog

from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections import query_base, rows
from session_mgmt_mcp.projections.files import read_json
from session_mgmt_mcp.projections.publish import digest, replay, update
from session_mgmt_mcp.projections.views import Views

TEXTS = ["yes", "fix the cache", "run the tests of cache_key.py"]


@st.composite
def events(draw: st.DrawFn) -> NewEvent:
    session = draw(st.sampled_from(["s-1", "s-2"]))
    text = draw(st.sampled_from(TEXTS))
    number = draw(st.integers(0, 9))
    at = draw(st.integers(0, 50))
    return draw(
        st.sampled_from(
            [
                prompt(session, f"p-{session}-{number}", text, at),
                prompt(session, f"q-{session}-{number}", text, at, promptId=f"id-{number}"),
                reply(session, f"r-{session}-{number}", text, at, message=f"m-{number % 3}"),
                call(session, f"c-{session}-{number}", f"t-{number}", "Bash", {"command": text}, at),
                returned(session, f"o-{session}-{number}", f"t-{number}", text, at),
                hook_prompt(session, text, at),
                hook_return(session, f"t-{number}", "Bash", text, at),
                hook(session, "Stop", at, last_assistant_message=text),
                forgotten((f"call:t-{number}", f"prompt:id-{number}")),
            ]
        )
    )


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(events(), st.booleans()), min_size=1, max_size=8))
def test_some_small_updates_and_a_replay_hold_the_same(stream: list[tuple[NewEvent, bool]]) -> None:
    updates_and_a_replay_agree(stream)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(events(), st.booleans()), min_size=1, max_size=16))
def test_many_small_updates_and_a_replay_hold_the_same(stream: list[tuple[NewEvent, bool]]) -> None:
    updates_and_a_replay_agree(stream)


def updates_and_a_replay_agree(stream: list[tuple[NewEvent, bool]]) -> None:
    log = MemoryLog()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = Views(log, folder)
        for event, cut in stream:
            log.append([event])
            live.refresh()
            if cut:
                log.seal()
                update(log, folder)
        from_tail = live.timeline(limit=1000).turns
        log.seal()
        update(log, folder)
        incremental = digest(folder)
        assert replay(log, folder) == incremental
        assert live.timeline(limit=1000).turns == from_tail
        live.close()


def story() -> MemoryLog:
    log = MemoryLog()
    log.append([hook_prompt("s-1", "make it green")])
    log.append([prompt("s-1", "u-1", "make it green"), reply("s-1", "a-1", "It is green.")])
    log.seal()
    return log


def test_updating_again_changes_no_file(tmp_path: Path) -> None:
    log = story()
    update(log, tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert update(log, tmp_path)["events"] == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


def test_small_deltas_are_folded_into_a_base_and_old_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_base, "DELTAS_MAX", 3)
    log = MemoryLog()
    views = Views(log, tmp_path)
    for i in range(5):
        log.append([hook_prompt("s-1", f"step {i}"), prompt("s-1", f"u-{i}", f"step {i}")])
        log.seal()
        update(log, tmp_path)
        assert [t.text for t in views.timeline(session="s-1").turns] == [f"step {j}" for j in range(i + 1)]
        assert [m.excerpt for m in views.search(f"step {i}", limit=1)] == [f"step {i}"]
    names = {p.name for p in (tmp_path / "views" / "query").iterdir()}
    assert sum(name.startswith("base-") for name in names) == 1
    state = read_json(tmp_path / "views" / "query" / "state.json")
    assert state is not None
    assert names == {state["base"], "state.json", *(f for d in state["deltas"] for f in d.values())}
    before = digest(tmp_path)
    assert replay(log, tmp_path) == before


@pytest.mark.parametrize("name", ["query", "lexical"])
def test_one_projection_is_replayed_alone(tmp_path: Path, name: str) -> None:
    log = story()
    update(log, tmp_path)
    assert replay(log, tmp_path, [name]) == {name: digest(tmp_path)[name]}


def test_an_unknown_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vectors.*query, lexical, vector"):
        replay(story(), tmp_path, ["vectors"])


def _damage(folder: Path, pattern: str) -> None:
    found = [p for p in folder.rglob(pattern) if p.is_file()]
    assert found
    for path in found:
        path.chmod(0o600)
        path.write_bytes(b"\xff" * 64)


@pytest.mark.parametrize(
    "pattern",
    ["state.json", "rows-*.parquet", "hidden-*.parquet", "meta.json", "*.store", "*.term", "*.duckdb"],
)
def test_damaged_files_are_read_around_and_rebuilt(
    tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pattern == "*.duckdb":
        monkeypatch.setattr(query_base, "DELTA_ROWS_FREE", 0)
    log = story()
    update(log, tmp_path)
    expected = digest(tmp_path)
    _damage(tmp_path / "views", pattern)
    views = Views(log, tmp_path)
    assert [t.text for t in views.timeline(session="s-1").turns] == ["make it green", "It is green."]
    assert [m.position for m in views.search("green", kind="PromptSubmitted")] == [2]
    views.close()
    update(log, tmp_path)
    assert digest(tmp_path) == expected


def test_another_log_in_the_folder_starts_from_nothing(tmp_path: Path) -> None:
    update(story(), tmp_path)
    other = MemoryLog("f" * 32)
    other.append([prompt("s-8", "u-8", "something else")])
    other.seal()
    views = Views(other, tmp_path)
    assert [s.session for s in views.sessions()] == ["s-8"]
    update(other, tmp_path)
    assert [s.session for s in views.sessions()] == ["s-8"]
    assert views.status().query_watermark == 1


def test_a_log_that_was_cut_back_and_went_on_otherwise_is_noticed(tmp_path: Path) -> None:
    update(story(), tmp_path)
    forked = MemoryLog()
    forked.append([prompt("s-1", "x-1", "another history")])
    forked.append([prompt("s-1", "x-2", "of the same"), prompt("s-1", "x-3", "length")])
    forked.seal()
    update(forked, tmp_path)
    views = Views(forked, tmp_path)
    assert [t.text for t in views.timeline(session="s-1").turns] == [
        "another history",
        "of the same",
        "length",
    ]
    assert views.search("green") == []


def test_a_new_interpretation_rebuilds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = story()
    update(log, tmp_path)
    monkeypatch.setattr(rows.interpretation, "INTERPRETATION_VERSION", 1_000_000)
    assert update(log, tmp_path) == {"position": 3, "events": 3, "indexed": 2}
    assert update(log, tmp_path) == {"position": 3, "events": 0, "indexed": 0}


def test_an_interrupted_update_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = story()
    with monkeypatch.context() as patch:
        patch.setattr("session_mgmt_mcp.projections.publish.LexicalProjection", None)
        with pytest.raises(TypeError):
            update(log, tmp_path)
    views = Views(log, tmp_path)
    assert (views.status().query_watermark, views.status().lexical_watermark) == (3, 0)
    assert [m.position for m in views.search("green", kind="PromptSubmitted")] == [2]
    assert update(log, tmp_path)["indexed"] == 2
    assert [m.position for m in views.search("green", kind="PromptSubmitted")] == [2]
    assert views.status().lexical_watermark == 3


class _Killed(BaseException):
    """Ends an update where kill -9 would."""


@pytest.mark.parametrize(
    "step",
    [
        "query.write_json",
        "query.remove_others",
        "query.fsync_path",
        "lexical_writer.write_json",
        "lexical.LexicalIndex.commit",
    ],
)
def test_an_update_killed_at_any_step_leaves_the_state_before_or_after(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise _Killed

    log = story()
    if not step.startswith("lexical_writer"):  # which is the first publish's only
        update(log, tmp_path)
    log.append([prompt("s-1", "u-2", "and then blue"), reply("s-1", "a-2", "It is blue.")])
    log.seal()
    with monkeypatch.context() as patch:
        patch.setattr(f"session_mgmt_mcp.projections.{step}", die)
        with pytest.raises(_Killed):
            update(log, tmp_path)
    expected = ["make it green", "It is green.", "and then blue", "It is blue."]
    views = Views(log, tmp_path)
    assert [t.text for t in views.timeline(session="s-1").turns] == expected
    assert [m.record for m in views.search("blue", kind="PromptSubmitted")] == ["u-2"]
    update(log, tmp_path)
    assert [m.record for m in views.search("blue", kind="PromptSubmitted")] == ["u-2"]
    brought_up = digest(tmp_path)
    assert replay(log, tmp_path) == brought_up


def test_a_row_hidden_after_it_was_indexed_leaves_the_index(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append([hook_prompt("s-1", "make it green")])
    log.seal()
    update(log, tmp_path)
    log.append([prompt("s-1", "u-1", "make it green")])
    log.seal()
    update(log, tmp_path)
    before = digest(tmp_path)
    assert replay(log, tmp_path, ["lexical"])["lexical"] == before["lexical"]


def test_a_forgotten_fact_stays_hidden_whatever_reports_it_again(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append([call("s-1", "a-1", "t-1", "Bash", {"command": "echo sesame"}, 1)])
    log.seal()
    update(log, tmp_path)
    views = Views(log, tmp_path)
    log.forget(1)
    log.append([forgotten(("call:t-1",), (1,))])
    assert views.search("sesame") == []
    log.append(
        [
            hook(
                "s-1",
                "PreToolUse",
                2,
                tool_name="Bash",
                tool_use_id="t-1",
                tool_input={"command": "echo sesame"},
            )
        ]
    )
    assert views.search("sesame") == []
    log.seal()
    update(log, tmp_path)
    assert views.search("sesame") == []
    replay(log, tmp_path)
    assert views.search("sesame") == []
    assert views.status().actions == 0
