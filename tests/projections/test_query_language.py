"""Queries are taken apart as people mean them; what cannot be meant is refused with the place and the mend."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.kinds import KINDS, kinds_of
from session_mgmt_mcp.projections.query_language import NAMES, QueryError, parse
from session_mgmt_mcp.projections.query_times import parse_time

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 30, 15, 45, tzinfo=BERLIN)  # a Monday, the day after the clocks went forward
VALUES = {"kind": "prompt", "after": "today", "before": "today"}


def filters(query: str) -> object:
    return parse(query, NOW).filters


@pytest.mark.parametrize(
    "text",
    [
        "why does the login test fail",
        "see http://localhost:8080/a?b=c and file:///home/me/x",
        "std::vector<int> file::path",
        "Error: foo",
        "at 12:30 on C:\\temp\\x",
        "KeyError:token localhost:5432 node:fs",
        "rm -rf --force ./x | grep -v y",
        "a -> b - c -1",
        'a 5" disk and it"s',
        '"',
        "tool: bash said no",
        "PROJECT:shop File:line",
        "don't",
    ],
)
def test_text_without_operators_stays_text(text: str) -> None:
    found = parse(text, NOW)
    assert found.text.split() == text.split()
    assert found.filters == parse("", NOW).filters


@given(st.text())
def test_parsing_raises_nothing_but_a_query_error(text: str) -> None:
    try:
        parse(text, NOW)
    except QueryError as error:
        assert "^" in str(error)


_PIECES = st.sampled_from(
    ['"', "-", "re:", "after:", "file:", "kind:", "fil:", "\\", " ", "a", "last week", ":", "*", "\n"]
)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_operators_in_any_order_raise_nothing_but_a_query_error(text: str) -> None:
    try:
        found = parse(text, NOW)
    except QueryError as error:
        lines = str(error).split("\n")
        assert set(lines[-1]) <= {" ", "^"} and len(lines[-1]) <= len(lines[-2]) + 1
    else:
        assert found.text == found.text.strip()


@given(st.text(st.characters(exclude_characters='":-', exclude_categories=["Cs"]), max_size=80))
def test_text_that_has_no_operator_character_is_only_text(text: str) -> None:
    found = parse(text, NOW)
    assert found.text.split() == text.replace("\0", "\ufffd").split()
    assert found.filters == parse("", NOW).filters


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
def test_any_text_in_quotes_is_a_phrase(text: str) -> None:
    text = text.replace("\\", "/")
    quoted = '"' + text.replace('"', '\\"') + '"'
    if text[0].isspace():
        return  # a quotation mark before a space opens nothing
    found = parse(quoted, NOW)
    assert found.text == " ".join(text.split())
    assert found.filters.phrases == (found.text,)


def test_words_phrases_and_filters_are_told_apart() -> None:
    found = parse('stale "cache key" file:"my app.py" tool:bash -flaky -"it is" -kind:result x', NOW)
    assert found.text == "stale cache key x"
    assert found.filters.any_of == (("phrase", ("cache key",)), ("file", ("my app.py",)), ("tool", ("bash",)))
    assert found.filters.none_of == (("word", "flaky"), ("phrase", "it is"), ("kind", "ToolReturned"))


def test_filters_of_one_name_are_alternatives_and_of_different_names_conditions() -> None:
    asked = parse("file:a.py kind:prompt file:b.py file:a.py", NOW).filters
    assert asked.any_of == (("file", ("a.py", "b.py")), ("kind", ("PromptSubmitted",)))


def test_every_filter_of_the_language_is_understood_with_and_without_quotes() -> None:
    for name in NAMES:
        value = VALUES.get(name, "x")
        assert filters(f"{name}:{value}") == filters(f'{name}:"{value}"') != filters("")


def test_what_the_readme_shows_is_understood() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## The query language")[2].partition("\n## ")[0]
    shown = [
        code
        for line in section.split("\n")
        if line.startswith("| `")
        for code in re.findall("`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(shown) > 15
    for query in (*shown, section.partition("search '")[2].partition("'\n")[0]):
        assert parse(query, NOW).filters != parse("", NOW).filters, query
    assert {name for name in NAMES if not any(f"{name}:" in query for query in shown)} == set()


def test_a_home_folder_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    asked = parse("project:~/shop file:~/x/ file:a~b", NOW).filters
    assert asked.values("project") == ("/home/u/shop",) and asked.values("file") == ("/home/u/x/", "a~b")


def test_patterns_are_kept_as_written() -> None:
    asked = parse(r're:a\d+:// -re:"b \"c\" \w"', NOW).filters
    assert asked.patterns == ((r"a\d+://",),)
    assert asked.no_patterns == (r'b "c" \w',)


def test_a_beginning_of_a_session_becomes_its_id_and_an_unknown_one_is_shown_in_the_query() -> None:
    assert parse("x session:s-1", NOW, resolve=lambda s: f"{s}-whole").filters.one_session

    def unknown(name: str) -> str:
        raise InputError(f"no session {name!r}; the latest are s-1, s-2")

    with pytest.raises(QueryError) as refused:
        parse("x session:zz y", NOW, resolve=unknown)
    assert str(refused.value) == "no session 'zz'; the latest are s-1, s-2\n  x session:zz y\n    ^^^^^^^^^^"


@pytest.mark.parametrize(
    ("query", "place", "mend"),
    [
        ("a fil:x.py b", "fil:", "did you mean file:"),
        ("projcet:shop", "projcet:", "did you mean project:"),
        ("-tools:x", "tools:", "did you mean tool:"),
        ("since:yesterday", "since:", "did you mean after:"),
        ("path:src/app.py", "path:", "did you mean file:"),
        ('find "this', '"this', "close it or leave it out"),
        ('file:"a b', '"a b', "close it"),
        ('a "" b', '""', "nothing between"),
        ("kind:nope", "kind:nope", ", ".join(KINDS)),
        ('x after:"last fortnight"', 'after:"last fortnight"', '"last week"'),
        ("before:2026-13-01", "before:2026-13-01", "2026-03-01"),
        ("-after:today", "-after:today", "before:today"),
        ("after:today after:monday", "after:monday", "leave one out"),
        ("project:./ x", "project:./", "project:shop"),
        ("file:/ x", "file:/", "file:app.py"),
    ],
)
def test_a_malformed_query_is_refused_with_the_place_and_the_mend(query: str, place: str, mend: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse(query, NOW)
    message, line, marks = str(refused.value).rsplit("\n", 2)
    assert mend in message
    assert line[marks.index("^") : len(marks)] == place


def test_in_a_long_query_of_several_lines_only_the_place_is_shown() -> None:
    with pytest.raises(QueryError) as refused:
        parse("first line\n" + "word " * 50 + "kind:nope" + " word" * 50 + "\nlast", NOW)
    _, line, marks = str(refused.value).rsplit("\n", 2)
    assert line[marks.index("^") : len(marks)] == "kind:nope" and len(line) < 80


def test_kinds_are_known_by_tag_and_by_short_name_in_any_case() -> None:
    for name in ("prompt", "Prompts", "PromptSubmitted", "promptsubmitted"):
        assert kinds_of(name) == ("PromptSubmitted",)
    assert kinds_of("edit") == ("edit",)


def test_notes_are_reflections_and_what_others_noted() -> None:
    assert parse("kind:note").filters.any_of == (("kind", ("ReflectionRemembered", "ContextNoted")),)
    assert len(parse("-kind:note").filters.none_of) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", "2026-03-01T00:00+01:00"),
        ("2026-03-01T14:30", "2026-03-01T14:30+01:00"),
        ("2026-03-01 14:30Z", "2026-03-01T14:30+00:00"),
        ("2026-03", "2026-03-01T00:00+01:00"),
        ("2026", "2026-01-01T00:00+01:00"),
        ("now", "2026-03-30T15:45+02:00"),
        ("Today", "2026-03-30T00:00+02:00"),
        ("yesterday", "2026-03-29T00:00+01:00"),
        ("3 days ago", "2026-03-27T00:00+01:00"),
        ("2 weeks ago", "2026-03-16T00:00+01:00"),
        ("a month ago", "2026-02-28T00:00+01:00"),
        ("1 year ago", "2025-03-30T00:00+01:00"),
        ("2h", "2026-03-30T13:45+02:00"),
        ("10 minutes ago", "2026-03-30T15:35+02:00"),
        ("this week", "2026-03-30T00:00+02:00"),
        ("last week", "2026-03-23T00:00+01:00"),
        ("last month", "2026-02-01T00:00+01:00"),
        ("this year", "2026-01-01T00:00+01:00"),
        ("monday", "2026-03-23T00:00+01:00"),
        ("last  Sunday", "2026-03-29T00:00+01:00"),
        ("tue", "2026-03-24T00:00+01:00"),
        ("march", "2026-03-01T00:00+01:00"),
        ("April", "2025-04-01T00:00+02:00"),
        ("dec 2024", "2024-12-01T00:00+01:00"),
    ],
)
def test_times_are_read_as_people_write_them_in_the_local_zone(text: str, expected: str) -> None:
    moment = datetime.fromisoformat(expected)
    assert parse_time(text, NOW) == int(moment.timestamp()) * 1_000_000


@given(st.text(max_size=30))
def test_a_time_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_time(text, NOW), int)
    except InputError as error:
        assert "last week" in str(error)


def test_without_a_zone_times_are_of_the_machines_own() -> None:
    local = datetime.now().astimezone()
    assert parse_time(local.replace(tzinfo=None).isoformat()) == parse_time(local.astimezone(UTC).isoformat())


def test_a_span_lies_between_its_ends() -> None:
    asked = parse('after:"last week" before:"this week"', NOW).filters
    assert asked.after == parse_time("2026-03-23", NOW) and asked.before == parse_time("2026-03-30", NOW)


@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31", "999999 years ago", "999999 days ago", "99999-01-01"]
)
def test_the_ends_of_time_are_read_or_refused(text: str) -> None:
    try:
        assert abs(parse_time(text, NOW)) < 1 << 62
    except InputError as error:
        assert text in str(error)
