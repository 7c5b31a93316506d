"""Near copies are one moment with a count; an excerpt shows what matched, and marks it."""

from session_mgmt_mcp.projections.moments import Ranked, folded, listed, moment_of, query_words
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.rows import Row

LOG = "\n".join(f"tests/test_{name}.py passed" for name in "abcdefghijklmnopqrstuvwxyz")


def row(
    text: str, number: int = 1, kind: str = "AssistantReplied", edit: str = "", files: tuple[str, ...] = ()
) -> Row:
    tool = "Edit" if kind == "ToolCalled" else ""
    head = (
        number << 10,
        f"k-{number}",
        f"s-{number}",
        "claude-code",
        0,
        "assistant",
        kind,
        "record",
        f"r-{number}",
    )
    return Row(*head, "/home/u/app", "", "", tool, "", files, False, "", "", "", "", text, edit, number)


def test_what_says_nearly_the_same_is_one_with_a_count() -> None:
    first, second = row(LOG, 1), row(LOG.replace("test_p.py", "test_pp.py"), 2)
    assert folded([Ranked(first, 2.0, 3), Ranked(second, 1.0, 2)]) == [Ranked(first, 2.0, 5)]


def test_what_differs_stays_apart() -> None:
    rows = [
        row(LOG),
        row(LOG[: len(LOG) // 2]),
        row("short text"),
        row("short texts"),
        row(LOG, kind="ToolReturned"),
    ]
    ranked = [Ranked(one, 1.0) for one in rows]
    assert folded(ranked) == ranked


def test_edits_of_one_file_stay_apart() -> None:
    edits = [row("app.py", n, "ToolCalled", f"{LOG} {n} {'x y z ' * n}", ("app.py",)) for n in (1, 2)]
    other = row("app.py", 3, "ToolCalled", "alpha beta gamma delta epsilon zeta eta theta iota", ("app.py",))
    assert [one.copies for one in folded([Ranked(edit, 1.0) for edit in (*edits, other)])] == [2, 1]


def test_matching_words_are_marked_in_the_excerpt() -> None:
    moment = moment_of(
        Ranked(row("x " * 300 + "the caches were stale, CacheKey was not"), 1.0), query_words("stale cache")
    )
    assert [moment.excerpt[a:b] for a, b in moment.marks] == ["caches", "stale", "CacheKey"]
    assert moment.why == "matched: stale, cache · in reply"


def test_what_matched_by_meaning_shows_its_passage() -> None:
    told = row("a " * 600 + "the engine runs " + "b " * 600)
    number = number_of_passage(passages_of(told)[1])
    moment = moment_of(Ranked(told, 1.0, 1, number), query_words("automobile"))
    assert "the engine runs" in passages_of(told)[1]
    assert moment.excerpt.startswith("a a a")
    assert (moment.why, moment.marks) == ("matched: by meaning", ())


def test_what_matched_in_files_says_so() -> None:
    moment = moment_of(
        Ranked(row("ls", kind="ToolCalled", files=("src/cache_key.py",)), 1.0), query_words("cache_key.py")
    )
    assert moment.why == "matched: cache_key.py · in tool and files"


def test_a_patterns_match_is_marked() -> None:
    moment = listed(row("first line\nerror 17 happened"), "", "error 17")
    assert [moment.excerpt[a:b] for a, b in moment.marks] == ["error 17"]
    assert moment.why == "matched: the pattern"
