"""Every filter lets through exactly the rows it names: published, in the tail, and by the index as by the predicate."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tantivy
from action_log import NOON, SECOND, call, prompt, reply, returned
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog

from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.documents import document_of
from session_mgmt_mcp.projections.filters import Filters, every_row
from session_mgmt_mcp.projections.lexical import opened, row_fields, rows_schema, stored_row
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.views import Views

# -- the index against the predicate, over generated rows --------------------------------------------------------------

FILES = [
    "/home/u/Shop/src/app.py",
    "/home/u/shop/src/lib/app.py",
    "src/app.py",
    "C:\\w\\App.py",
    "app.pyc",
    "/a b/x*y",
]
FOLDERS = ["", "/home/u/shop", "/home/u/Shop/src", "/home/u/shopper", "C:\\w\\shop", "/"]
TOOLS = ["", "Bash", "Edit", "mcp__web__fetch", "mcp__a__b__Bash"]
TEXTS = [
    "the cache key is stale",
    "cache  key\nis STALE now",
    "cache_key is stale",
    "key cache",
    "parseConfigFile of src/cache/key.py",
    "キャッシュのkey",
    "to be or not to be",
    "naïve Café — done.",
    "12:30 abc123 x",
]


def _as_recorded(row: Row) -> Row:
    """Only calls and results have tools and files, only calls edits."""
    row = row if row.kind.startswith("Tool") else row._replace(tool="", files=())
    return row if row.kind == "ToolCalled" else row._replace(edit="")


rows = st.builds(
    Row,
    id=st.integers(0, 1 << 11),
    key=st.just("k"),
    session=st.sampled_from(["s-1", "s-2"]),
    assistant=st.sampled_from(["claude-code", "Codex", ""]),
    occurred_at=st.sampled_from([0, 1, NOON, NOON + 1, NOON + SECOND]),
    actor=st.sampled_from(["user", "assistant", "Ann", ""]),
    kind=st.sampled_from(["PromptSubmitted", "ToolCalled", "ToolReturned", "ContextNoted"]),
    source=st.just("record"),
    record=st.just("r"),
    project=st.sampled_from(FOLDERS),
    branch=st.sampled_from(["", "main", "Feature/Login"]),
    parent=st.just(""),
    tool=st.sampled_from(TOOLS),
    tool_use_id=st.just(""),
    files=st.lists(st.sampled_from(FILES), max_size=3).map(tuple),
    is_error=st.just(False),
    origin=st.just(""),
    reason=st.just(""),
    leaf=st.just(""),
    text_digest=st.just("d"),
    text=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(" ".join),
    edit=st.sampled_from(["", "key cache = stale"]),
    seq=st.just(1),
).map(_as_recorded)
VALUES = {
    "session": ["s-1", "s-3"],
    "project": [*FOLDERS[1:], "shop", "u/shop", "/home", "SRC", "hop"],
    "assistant": ["codex", "claude-code", "*", "c*"],
    "kind": ["ToolCalled", "edit"],
    "tool": ["bash", "BASH", "fetch", "mcp__web__fetch", "mcp__*", "b?sh", "ba"],
    "file": [*FILES, "App.py", "src/app.py", "src/", "*.py", "src/*.py", "src/**.py", "/home/u/shop/", "./app.py", "pp.py"],
    "actor": ["USER", "ann", "a*"],
    "branch": ["MAIN", "feature/login", "feature/*", "*"],
    "phrase": ["cache key", "key is", "CACHE KEY IS", "to be", "not", "caf\u00e9", "src/cache", "キャ", "key", "x*y", "ache"],
    "word": ["stale", "keys", "cache", "cache_key", "the", "configs", "src/cache/key.py", "キャ", "abc123", "é"],
}  # fmt: skip
pairs = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])
filters = st.builds(
    Filters,
    any_of=st.lists(
        st.sampled_from(list(VALUES)).flatmap(
            lambda name: st.tuples(
                st.just(name), st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=2).map(tuple)
            )
        ),
        max_size=2,
    ).map(tuple),
    none_of=st.lists(pairs, max_size=2).map(tuple),
    after=st.sampled_from([None, 0, NOON, NOON + 1]),
    before=st.sampled_from([None, NOON, NOON + SECOND]),
    patterns=st.just(()),
    no_patterns=st.just(()),
    ids=st.sampled_from([None, None, frozenset(range(1 << 10))]),
)


def indexed(found: list[Row]) -> tuple[tantivy.Schema, tantivy.Searcher]:
    schema = rows_schema()
    index = opened(schema)
    writer = index.writer(15_000_000, 1)
    special = tantivy.Document()
    special.add_text("special", "watermark")
    writer.add_document(special)
    for row in found:
        writer.add_document(row_fields(row, document_of(row)).document(Counter()))
    writer.commit()
    index.reload()
    return schema, index.searcher()


def matching(schema: tantivy.Schema, searcher: tantivy.Searcher, asked: Filters) -> list[Row]:
    clauses = [every_row(schema), *asked.clauses(schema, rows=True)]
    hits = searcher.search(tantivy.Query.boolean_query([(tantivy.Occur.Must, c) for c in clauses]), 1000).hits
    found = [stored_row(bytes(searcher.doc(address)["stored"][0])) for _, address in hits]
    return [row for row in found if asked.verifies(row)]


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(rows, min_size=1, max_size=12, unique_by=lambda row: row.id),
    st.lists(filters, min_size=1, max_size=8),
)
def test_the_index_and_the_predicate_let_the_same_rows_through(
    corpus: list[Row], questions: list[Filters]
) -> None:
    schema, searcher = indexed(corpus)
    single = [
        Filters(((name, (value,)),)) if wanted else Filters(none_of=((name, value),))
        for name, values in VALUES.items()
        for value in values
        for wanted in (True, False)
    ]
    for asked in [*single, *questions]:
        expected = {row.id for row in corpus if asked.passes(row)}
        assert {row.id for row in matching(schema, searcher, asked)} == expected, asked


def row(**fields: object) -> Row:
    empty = Row(0, "", "s", "claude-code", NOON, "user", "ToolCalled", "record", "r", "", "", "", "", "", (), False,
                "", "", "", "d", "", "", 1)  # fmt: skip
    return empty._replace(**fields)  # type: ignore[arg-type]


def passes(name: str, value: str, **fields: object) -> bool:
    return Filters(((name, (value,)),)).passes(row(**fields))


@pytest.mark.parametrize(
    ("value", "yes", "no"),
    [
        ("app.py", ["/x/app.py", "app.py", "C:\\x\\App.py"], ["/x/myapp.py", "app.pyc", "/app.py/x"]),
        ("src/app.py", ["/x/src/app.py", "src\\app.py"], ["/x/mysrc/app.py", "src/lib/app.py"]),
        ("src/", ["src/a", "/x/src/lib/b.c"], ["/x/src", "/mysrc/a"]),
        ("/x/src/", ["/x/src/a"], ["/y/x/src/a", "x/src/a"]),
        ("*.py", ["a.py", "/x/b.py"], ["a.pyc", "/x.py/b"]),
        ("src/*.py", ["/x/src/a.py"], ["/x/src/lib/a.py"]),
        ("src/**.py", ["/x/src/a.py", "/x/src/lib/a.py"], ["/x/lib/a.py"]),
        ("test_?.py", ["test_a.py"], ["test_.py", "test_ab.py"]),
        ("a+b(1).md", ["/x/a+b(1).md"], ["/x/aab1.md"]),
    ],
)
def test_a_file_is_named_by_its_end_its_folder_or_a_glob(value: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in [*yes, *no] if passes("file", value, files=("other", path))] == yes


@pytest.mark.parametrize(
    ("value", "yes", "no"),
    [
        ("shop", ["/home/u/shop", "/home/u/Shop/src", "C:\\w\\shop"], ["/home/u/shopper", "/home/u/myshop"]),
        ("u/shop", ["/home/u/shop", "/u/shop/a/b"], ["/home/shop", "/u/x/shop"]),
        ("/home/u/shop/", ["/home/u/shop", "/home/u/shop/src"], ["/x/home/u/shop", "/home/u/shop2"]),
        ("/", ["/home"], ["", "/"]),
    ],
)
def test_a_project_is_a_folder_or_its_name_and_all_below(value: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in [*yes, *no] if passes("project", value, project=path)] == yes


@pytest.mark.parametrize(
    ("phrase", "text", "there"),
    [
        ("cache key", "a Cache\n  KEY!", True),
        ("cache key", "my-cache key", True),
        ("cache key", "cache keys", False),
        ("ache key", "cache key", False),
        ("key", "cache_key", True),
        ("it's", "It's so", True),
        ("-> None", "def f() -> None:", True),
        ("キャッシュ", "このキャッシュを", True),
        ("key", "のkeyを", True),
        ("a.b", "a_b", False),
        ("aa a", "aaa aa a", True),
    ],
)
def test_a_phrase_stands_in_the_text_as_it_is_but_for_case_and_white_space(
    phrase: str, text: str, there: bool
) -> None:
    assert passes("phrase", phrase, text=text) is there
    assert passes("phrase", phrase, edit=text) is there


@pytest.mark.parametrize("start", [395, 399, 400, 401, 16_380, 60_000])
def test_a_phrase_is_found_wherever_it_stands_in_a_result(start: int) -> None:
    text = ("lorem ipsum " * 6000)[: start - 1] + " flaky_date tests now " + "dolor " * 300
    corpus = [row(id=1, kind="ToolReturned", text=text)]
    schema, searcher = indexed(corpus)
    assert matching(schema, searcher, Filters((("phrase", ("date tests",)),))) == [corpus[0]._replace(seq=0)]


def test_a_word_is_left_out_in_all_its_forms_and_a_name_as_it_is_written() -> None:
    assert passes("word", "test", text="two tests") and passes("word", "config", text="parseConfigFile")
    assert not passes("word", "test", text="testament")
    assert passes("word", "cache_key", text="x/cache_key.py") and not passes(
        "word", "cache_key", text="cache key"
    )


def test_a_file_deeper_than_paths_are_taken_apart_is_found_by_its_end_and_as_a_whole() -> None:
    path = "/" + "/".join(f"d{i}" for i in range(60)) + "/x.py"
    corpus = [row(id=1, text="x", files=(path,))]
    schema, searcher = indexed(corpus)
    for value, there in ((path, True), ("d59/x.py", True), ("d0/", False), ("d40/", True)):
        asked = Filters((("file", (value,)),))
        assert [r.id for r in matching(schema, searcher, asked)] == [1] * there
        assert asked.passes(corpus[0]) is there


def test_a_pattern_too_long_for_the_index_is_refused() -> None:
    asked = Filters((("file", ("*" + "x" * 1000 + "*",)),))
    with pytest.raises(InputError, match="too long"):
        asked.clauses(rows_schema(), rows=True)


# -- searches against the rows, wherever they are ----------------------------------------------------------------------


def _corpus() -> list[NewEvent]:
    """Sessions of two projects; every text is another, so that none is folded into another."""
    out: list[NewEvent] = []
    for n in range(8):
        session, at = f"s-{n % 3}", 10 * n
        folder = {
            "cwd": ("/home/u/shop", "/home/u/web/shop", "/home/u/shopper")[n % 3],
            "gitBranch": ("main", "Fix-1")[n % 2],
        }
        words = ("login fails", "the cache key is stale", "cache_key stale", "to be or not to be")[n % 4]
        name = ("src/app.py", "src/lib/app.py", "README.md")[n % 3]
        out += [
            prompt(session, f"u-{n}", f"{words} number {n}", at, **folder),
            call(session, f"a-{n}", f"t-{n}", "Edit", {"file_path": f"/home/u/shop/{name}", "old_string": f"old {n}",
                 "new_string": f"new {words}"}, at + 1),
            returned(session, f"r-{n}", f"t-{n}", f"edited: {words} {'x ' * 300} tail{n}", at + 2),
            call(session, f"b-{n}", f"v-{n}", ("Bash", "mcp__web__bash")[n % 2], {"command": f"make {n}"}, at + 3),
            reply(session, f"d-{n}", f"Done {n}: {words}.", at + 4, **folder),
        ]  # fmt: skip
    return out


@pytest.fixture(scope="module", params=["tail", "published", "both"])
def views(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    log, events = MemoryLog(), _corpus()
    cut = {"tail": 0, "published": len(events), "both": len(events) // 2}[request.param]
    log.append(events[:cut])
    log.seal()
    folder = tmp_path_factory.mktemp("views")
    if cut:
        update(log, folder)
    log.append(events[cut:])
    opened = Views(log, folder)
    yield opened
    opened.close()


def text_of(row: Row) -> str:
    return "\n".join((row.text, row.edit, *row.files))


def has(pattern: str) -> Callable[[Row], bool]:
    return lambda row: re.search(pattern, text_of(row), re.IGNORECASE) is not None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("file:app.py", lambda r: any(f.endswith("/app.py") for f in r.files)),
        ("file:src/app.py", lambda r: any(f.endswith("/src/app.py") for f in r.files)),
        ("file:src/", lambda r: any("/src/" in f for f in r.files)),
        ("file:*.md", lambda r: any(f.endswith(".md") for f in r.files)),
        ("-file:app.py", lambda r: not any(f.endswith("/app.py") for f in r.files)),
        ("tool:bash", lambda r: r.tool in ("Bash", "mcp__web__bash")),
        ("tool:mcp__web__bash", lambda r: r.tool == "mcp__web__bash"),
        ("kind:edit", lambda r: r.edit != ""),
        ("kind:prompt kind:reply", lambda r: r.kind in ("PromptSubmitted", "AssistantReplied")),
        ("project:shop", lambda r: r.project in ("/home/u/shop", "/home/u/web/shop")),
        ("project:/home/u/web", lambda r: r.project == "/home/u/web/shop"),
        ("-project:shop", lambda r: r.project not in ("/home/u/shop", "/home/u/web/shop")),
        ("session:s-1", lambda r: r.session == "s-1"),
        ("-session:s-1 -session:s-2", lambda r: r.session == "s-0"),
        ("branch:fix-1", lambda r: r.branch == "Fix-1"),
        ("actor:user", lambda r: r.actor == "user"),
        ("assistant:Claude-Code tool:edit", lambda r: r.tool == "Edit"),
        ("assistant:codex", lambda r: False),
        ("kind:reply -cache", lambda r: r.kind == "AssistantReplied" and not has("cache")(r)),
        ('kind:reply -"cache key"', lambda r: r.kind == "AssistantReplied" and not has("cache key")(r)),
        ('-"to be" -stale -kind:call', lambda r: r.kind != "ToolCalled" and not has(r"\bto be\b|\bstale|_stale")(r)),
        ('"cache key"', has("cache key")),
        ('"Cache  KEY is"', has("cache key is")),
        ('"be or not"', has("be or not")),
        ('"to be"', has("to be")),
        ('"x x tail3"', has(r"x x\s+tail3")),
        ('"key is" -kind:result', lambda r: has("key is")(r) and r.kind != "ToolReturned"),
        ('"shop/src/app.py"', has("shop/src/app.py")),
        ("re:number.[0-3]", has("number.[0-3]")),
        ("re:^Done re:^number", has("^Done|^number")),
        ("-re:[a-z] kind:prompt", lambda r: False),
        ("re:new file:src/lib/", lambda r: has("new")(r) and any("/src/lib/" in f for f in r.files)),
        ("re:Done -login", lambda r: has("Done")(r) and not has("login")(r)),
        ("stale re:stale", has("stale")),
        ('"is stale" re:(?i)KEY', has("key is stale")),
        ("after:2026-02-02T02:40:30Z before:2026-02-02T02:41Z", lambda r: 30 <= (r.occurred_at - NOON) // SECOND < 60),
    ],
)  # fmt: skip
def test_a_search_finds_exactly_the_rows_that_match(
    views: Views, query: str, expected: Callable[[Row], bool]
) -> None:
    with views.reading() as files:
        rows = [row for row in files.shown_rows() if any(document_of(row))]
    wanted = {row.record for row in rows if expected(row)}
    found = views.search(query, limit=1000)
    assert {moment.record for moment in found} == wanted
    assert not found.note


def test_a_search_for_filters_alone_gives_the_newest_first(views: Views) -> None:
    times = [moment.occurred_at for moment in views.search("tool:edit", limit=1000)]
    assert times == sorted(times, reverse=True) and len(times) == 16
    assert [m.occurred_at for m in views.search("tool:edit", limit=3)] == times[:3]


def test_parameters_and_the_language_narrow_together(views: Views) -> None:
    assert {
        m.record for m in views.search("kind:prompt cache", session="s-1", before=NOON + 40 * SECOND)
    } == {"u-1"}
    both = views.search(
        "file:app.py", file=["README.md", "src/lib/app.py"], tool="edit", kind="call", limit=100
    )
    assert {m.record for m in both} == {"a-1", "a-4", "a-7"}
    assert views.search("", regex="number 5")[0].record == "u-5"


def test_a_plain_query_is_words_only(views: Views) -> None:
    assert views.search('fil:x "login kind:nope', plain=True)
    assert {m.session for m in views.search("session:s-1 login", plain=True)} > {"s-1"}


def test_wrong_parameters_are_refused(views: Views) -> None:
    with pytest.raises(InputError, match="no kind 'Nope'; there are prompt"):
        views.search("x", kind="Nope")
    with pytest.raises(InputError, match="missing \\)"):
        views.search("x", regex="(a")
    with pytest.raises(InputError, match=r"no session 'zz'(?s:.*)\^\^\^\^\^\^\^\^\^\^"):
        views.search("x session:zz")


def test_an_index_of_an_older_schema_is_not_used_and_is_built_anew(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append(_corpus()[:10])
    log.seal()
    update(log, tmp_path)
    state = tmp_path / "views" / "lexical" / "state.json"
    now = json.loads(state.read_text())
    state.write_text(json.dumps({**now, "schema_version": now["schema_version"] - 1}))
    views = Views(log, tmp_path)
    assert views.status().lexical_watermark == 0
    assert len(views.search("file:app.py")) == 2
    assert update(log, tmp_path)["indexed"] == 10
    assert views.status().lexical_watermark == 10
    assert len(views.search("file:app.py")) == 2
    views.close()
