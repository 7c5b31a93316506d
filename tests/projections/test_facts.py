"""One fact once, as FORMAT.md section 6 decides it."""

from session_mgmt_mcp.projections.facts import Facts, Known
from session_mgmt_mcp.projections.rows import Row

KIND = "PromptSubmitted"


def row(
    number: int, key: str, source: str = "record", kind: str = KIND, digest: str = "d", **fields: str
) -> Row:
    values = {name: "" for name in Row._fields} | {
        "id": number << 10, "key": key, "session": "s-1", "source": source, "kind": kind, "text_digest": digest,
        "files": (), "is_error": False, "occurred_at": 0, "seq": 0, **fields,
    }  # fmt: skip
    return Row(**values)  # type: ignore[arg-type]


def shown(facts: Facts, rows: list[Row]) -> list[int]:
    completed = [facts.complete(r) for r in rows]
    return [r.position for r in completed if r.id not in facts.hidden]


def test_of_one_key_the_transcript_is_shown_whichever_came_first() -> None:
    assert shown(Facts(), [row(1, "prompt:a", "hook"), row(2, "prompt:a")]) == [2]
    assert shown(Facts(), [row(1, "prompt:a"), row(2, "prompt:a", "hook")]) == [1]


def test_within_a_transcript_the_first_is_shown_and_of_documents_the_last() -> None:
    assert shown(Facts(), [row(1, "prompt:a"), row(2, "prompt:a", digest="e")]) == [1]
    assert shown(Facts(), [row(1, "x:a", "document"), row(2, "x:a", "document", digest="e")]) == [2]


def test_prompts_meet_by_text_and_order_where_one_has_no_id() -> None:
    rows = [row(1, "prompt:s-1:d:", "hook"), row(2, "prompt:s-1:d:", "hook"), row(3, "prompt:id")]
    assert shown(Facts(), rows) == [2, 3]


def test_the_same_text_twice_in_one_source_is_two_facts() -> None:
    facts = Facts()
    rows = [facts.complete(row(n, "prompt:s-1:d:")) for n in (1, 2)]
    assert [r.key for r in rows] == ["prompt:s-1:d:1", "prompt:s-1:d:2"]
    assert [r.seq for r in rows] == [1, 2]
    assert not facts.hidden


def test_results_of_one_text_are_no_twins() -> None:
    rows = [row(1, "return:a", kind="ToolReturned"), row(2, "return:b", "hook", kind="ToolReturned")]
    assert shown(Facts(), rows) == [1, 2]


def test_earlier_rows_are_loaded_when_a_session_is_touched() -> None:
    earlier = Known(1 << 10, "prompt:s-1:d:1", KIND, "hook", "d", "", "")
    facts = Facts(lambda session: [earlier])
    facts.complete(row(2, "prompt:s-1:d:"))
    assert facts.hidden == {1 << 10: 2}


def test_a_result_takes_its_tool_from_the_call() -> None:
    facts = Facts()
    facts.complete(row(1, "call:t", kind="ToolCalled", tool="Bash", tool_use_id="t"))
    assert facts.complete(row(2, "return:t", kind="ToolReturned", tool_use_id="t")).tool == "Bash"


def test_a_forgotten_key_hides_rows_before_and_after() -> None:
    facts = Facts()
    facts.complete(row(1, "call:t", kind="ToolCalled"))
    facts.forget(["call:t"], 2)
    facts.complete(row(3, "call:t", "hook", kind="ToolCalled"))
    assert set(facts.hidden) == {1 << 10, 3 << 10}
