"""A user with one project tries to get at another: every tool, every way in that its arguments leave."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from access_kit import BANK, MILL, WORD, House, asked_by, principal
from vector_kit import HashEmbedder, embed_all

from session_mgmt_mcp.adapters.mcp.services import Choice
from session_mgmt_mcp.core.access import AccessError, Role
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections import views
from session_mgmt_mcp.projections.scoped_views import ScopedViews
from session_mgmt_mcp.projections.timeline import Cursor
from session_mgmt_mcp.tools import permissions

MIRA = principal(Role.WRITER)
VAULT = 8  # position of the edit in the other project


QUERIES = [
    *(WORD, "wheel", f'"{WORD} bullion"', f"re:{WORD}", "re:.*", f"wheel OR {WORD}", f"file:vault-{WORD}.py"),
    *("file:**/vault*", f"project:{BANK}", "project:bank wheel", f"project:{MILL} OR project:{BANK} wheel"),
    *("wheel -flour", "kind:edit", "tool:Edit", "actor:user wheel", f"project:{BANK} project:{MILL} wheel"),
    *("-project:/srv/mill wheel", "after:2020-01-01 number", "bullion vault number wheel"),
]


@pytest.mark.parametrize("query", QUERIES)
def test_no_query_finds_or_counts_what_is_not_seen(shared: House, query: str) -> None:
    text, _ = shared.ask(MIRA, "search", query=query, limit=50, format="detailed")
    echoed = text.replace(query, "")
    assert WORD not in echoed.replace(f"'{WORD}'", "") and "bank-1" not in echoed and BANK not in echoed
    assert all(f"[{position}]" not in text for position in (2, 4, 6, VAULT))


@pytest.mark.parametrize(
    "parameter", [{"project": BANK}, {"session": "mill-1", "project": "bank"}, {"file": "vault*"}]
)
def test_no_parameter_widens_a_search(shared: House, parameter: dict[str, Any]) -> None:
    assert "Nothing recorded matches" in shared.answer(MIRA, "search", query="wheel", **parameter)


def test_copies_are_counted_among_what_is_seen_alone(house: House) -> None:
    for session, project in (("mill-2", MILL), ("bank-2", BANK), ("bank-3", BANK)):
        house.prompt(session, project, "the very same sentence about hoppers")
    with asked_by(principal()):
        (mine,) = house.services.search("hoppers", limit=5)
    with asked_by(principal(Role.READER, None)):
        (every,) = house.services.search("hoppers", limit=5)
    assert (mine.copies, every.copies) == (1, 3)


FOREIGN_AND_UNKNOWN = [
    ("timeline", "session", ["bank-1", "nope-1"], {}),
    ("timeline", "session", ["bank", "nope"], {}),
    ("timeline", "around", [VAULT, 777], {}),
    ("timeline", "around", [VAULT, 777], {"format": "raw"}),
    ("start", "session", ["bank-1", "nope-1"], {}),
    ("checkpoint", "session", ["bank-1", "nope-1"], {}),
    ("end", "session", ["bank-1", "nope-1"], {"note": "over"}),
    ("remember", "session", ["bank-1", "nope-1"], {"text": "x"}),
    ("search", "session", ["bank-1", "nope-1"], {"query": "wheel"}),
    ("search", "query", ["session:bank-1", "session:nope-1"], {}),
    ("search", "project", [BANK, "/srv/nope"], {"query": "wheel"}),
    ("audit", "session", ["bank-1", "nope-1"], {}),
    ("audit", "project", [BANK, "/srv/nope"], {}),
    ("audit", "file", [f"vault-{WORD}.py", "nothing-here.py"], {}),
    ("start", "project", [BANK, "/srv/nope"], {}),
    ("start", "project", ["bank", "nope"], {}),
    ("remember", "project", [BANK, "/srv/nope"], {"text": "x"}),
    ("permissions", "project", [BANK, "/srv/nope"], {"action": "grant", "operation": "git push"}),
    ("permissions", "session", ["bank-1", "nope-1"], {"action": "grant", "operation": "git push"}),
    ("timeline", "project", [BANK, "/srv/nope"], {}),
]


@pytest.mark.parametrize(("tool", "name", "values", "more"), FOREIGN_AND_UNKNOWN)
def test_what_is_foreign_is_answered_as_what_is_not_there(
    shared: House, tool: str, name: str, values: list[Any], more: dict[str, Any]
) -> None:
    before = shared.app.log.head().position
    foreign, unknown = [shared.ask(MIRA, tool, **{name: value}, **more) for value in values]
    words = [str(value).rpartition(":")[2] for value in values]
    assert foreign[0].replace(words[0], "~") == unknown[0].replace(words[1], "~")
    assert foreign[1] is unknown[1]
    assert shared.app.log.head().position == before, "something was written"


def test_what_is_seen_can_be_read_first_of_all(house: House) -> None:
    """Before any other question had the views find out what is granted."""
    with asked_by(MIRA):
        assert house.services.read_event(1) is not None


def test_what_many_users_open_is_closed_though_calls_were_at_work_with_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SCOPES_MAX", 1)

    def scoped(folder: str) -> ScopedViews:
        return house.app.views.scoped((folder,), ScopedViews)

    for number in range(5):
        at_work = scoped(MILL)
        assert scoped(f"/srv/{number}").sessions() == []
        assert [found.session for found in at_work.sessions()] == ["mill-1"]
    assert scoped(MILL).sessions()
    with house.app.views.reading() as files:
        open_now = "SELECT count(DISTINCT schema_name) FROM duckdb_schemas() WHERE schema_name LIKE 'scope%'"
        assert files.fetch(open_now) == [(1,)]


def test_few_users_of_much_stay_ready_and_many_of_little(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scoped(*folders: str) -> ScopedViews:
        found = house.app.views.scoped(folders, ScopedViews)
        found.search("the")
        return found

    mill, both = scoped(MILL), scoped(MILL, BANK)
    assert scoped(MILL) is mill
    assert scoped(BANK, MILL) is both, "the order of a grant says nothing"
    monkeypatch.setattr(views, "SCOPED_ROWS_MAX", -1)
    assert scoped(MILL) is mill, "who asks is never given up"
    assert scoped(MILL, BANK) is not both


def test_what_was_separated_from_a_project_is_seen_no_longer(house: House) -> None:
    def join(old: str, new: str) -> None:
        house.append(EventType.PROJECT_JOINED, "session-mgmt/log", {"old": old, "new": new})

    join(BANK, MILL)
    with asked_by(MIRA):
        assert house.services.read_event(VAULT) is not None
    join(BANK, BANK)
    with asked_by(MIRA):
        assert house.services.read_event(VAULT) is None


def test_a_cursor_of_another_session_is_a_cursor_of_nothing(shared: House) -> None:
    whole = shared.ask(None, "timeline", session="bank-1", limit=1)[0]
    stolen = next(
        w for w in whole.replace('"', " ").replace("=", " ").replace(")", " ").split() if is_cursor(w)
    )
    forged = [
        Cursor("bank-1", 4 << 10, True).encode(),
        Cursor("bank-1", 0, False).encode(),
        Cursor("", 1 << 60, False).encode(),
    ]
    for cursor in (stolen, *forged):
        text, _ = shared.ask(MIRA, "timeline", cursor=cursor)
        assert WORD not in text and "vault" not in text
    bank = shared.ask(MIRA, "timeline", cursor=Cursor("bank-1", 5, True).encode())
    none = shared.ask(MIRA, "timeline", cursor=Cursor("nope-1", 5, True).encode())
    assert bank[1] and none[1] and bank[0].replace("bank-1", "~") == none[0].replace("nope-1", "~")


def is_cursor(word: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
        return len(msgspec.msgpack.decode(raw, type=tuple[str, int, bool])) == 3
    except (ValueError, msgspec.DecodeError):
        return False


def test_lists_completions_and_resources_name_nothing_else(shared: House) -> None:
    with asked_by(MIRA):
        services, caller = shared.services, shared.client.caller
        assert [s.session for s in services.sessions(project=None, limit=50)] == ["mill-1"]
        assert services.complete(caller, "session", "") == ["mill-1"]
        assert (
            services.complete(caller, "session", "bank") == services.complete(caller, "project", "bank") == []
        )
        assert services.complete(caller, "project", "") == [MILL]
        assert services.handoff(caller, None).session == "mill-1"
        with pytest.raises(InputError, match="no session 'bank-1'"):
            services.handoff(caller, "bank-1")


def test_status_counts_what_is_seen(shared: House) -> None:
    text = shared.answer(MIRA, "status", format="detailed")
    said = json.loads(text)
    assert (said["events"], said["views"]["sessions"], said["folder"]) == (5, 1, MILL)
    assert "log_bytes" not in said and "position" not in said


def test_nobody_with_projects_forgets(shared: House) -> None:
    who = principal(Role.ADMIN, (MILL,))
    for choice in ({"positions": [1]}, {"session": "mill-1"}, {"project": BANK}, {"query": "wheel"}):
        text, failed = shared.ask(who, "forget", **choice)
        assert failed and "all projects" in text
        assert shared.ask(who, "forget", **choice, confirm="1-000000000000")[1]
    with asked_by(who), pytest.raises(AccessError):
        shared.services.preview_forgetting(Choice(positions=(1,)))


def test_a_note_for_another_projects_session_is_not_stored_and_opens_nothing(house: House) -> None:
    assert house.ask(MIRA, "remember", text="planted", session="bank-1")[1]
    assert house.ask(MIRA, "timeline", session="bank-1")[1]
    assert "planted" not in house.answer(None, "timeline", session="bank-1")


@pytest.mark.parametrize(
    "project", ["/srv/mill/../bank", "/srv/mill2", "srv/bank", "../bank", "/", "/srv", "~"]
)
def test_no_wording_of_a_folder_writes_elsewhere(shared: House, project: str) -> None:
    text, failed = shared.ask(MIRA, "remember", text="x", project=project)
    assert failed and "none of the projects of mira" in text


def test_what_is_written_lies_in_the_only_project_where_none_is_named(house: House) -> None:
    house.answer(MIRA, "remember", text="hoppers are round")
    assert "hoppers" in house.answer(MIRA, "search", query="hoppers")
    two = principal(Role.WRITER, (MILL, "/srv/barn"))
    text, failed = house.ask(two, "remember", text="x")
    assert failed and "/srv/barn" in text and BANK not in text


def test_a_session_in_two_projects_is_seen_row_by_row(house: House) -> None:
    house.prompt("both-1", MILL, "first the hoppers")
    house.prompt("both-1", BANK, f"then the {WORD}")
    house.prompt("both-1", MILL, "and the hoppers again")
    text = house.answer(MIRA, "timeline", session="both-1")
    assert "first the hoppers" in text and "again" in text and WORD not in text
    assert "2 prompts" in house.answer(MIRA, "timeline")
    for tool in ("checkpoint", "end"):
        assert WORD not in house.answer(MIRA, tool, session="both-1")
    assert WORD not in house.answer(MIRA, "start", session="both-1")


def test_rows_without_a_project_are_for_those_of_all_projects(house: House) -> None:
    house.prompt("loose-1", "", "hoppers of no project")
    assert "Nothing recorded" in house.answer(MIRA, "search", query="hoppers")
    assert "no project" in house.answer(principal(Role.READER, None), "search", query="hoppers")


def test_worktrees_and_joined_projects_are_seen(house: House) -> None:
    seen = {"folder": "/tmp/tree", "root": MILL, "common_dir": f"{MILL}/.git"}
    house.append(EventType.PROJECT_SEEN, "session-mgmt/log", seen)
    house.prompt("tree-1", "/tmp/tree", "hoppers in the tree")
    house.prompt("old-1", "/srv/old-mill", "hoppers of before")
    assert "before" not in house.answer(MIRA, "search", query="hoppers")
    house.append(EventType.PROJECT_JOINED, "session-mgmt/log", {"old": "/srv/old-mill", "new": MILL})
    text = house.answer(MIRA, "search", query="hoppers")
    assert "in the tree" in text and "before" in text
    house.append(
        EventType.PROJECT_JOINED, "session-mgmt/log", {"old": "/srv/old-mill", "new": "/srv/old-mill"}
    )
    assert "before" not in house.answer(MIRA, "search", query="hoppers")


def test_permissions_of_other_projects_are_not_there(house: House) -> None:
    owners = [permissions.Grant(grant="", operation=f"{WORD} push", project=where) for where in (BANK, "")]
    foreign = [permissions.grant(house.app, wanted)[0] for wanted in owners]
    assert WORD not in house.answer(MIRA, "permissions")
    checked = house.answer(MIRA, "permissions", action="check", operation=f"{WORD} push")
    assert "permitted" not in checked.split("'")[0]
    assert BANK not in checked and foreign[0].grant not in checked
    for grant in foreign:
        there = house.ask(MIRA, "permissions", action="revoke", id=grant.grant)
        absent = house.ask(MIRA, "permissions", action="revoke", id="ffffffff")
        assert there[1] and there[0].replace(grant.grant, "~") == absent[0].replace("ffffffff", "~")
    assert {g.grant: g.revoked_at for g in permissions.listed(house.app)} == {g.grant: 0 for g in foreign}


def test_a_revoked_permission_stays_revoked_for_who_sees_it(house: House) -> None:
    mine, _ = permissions.grant(house.app, permissions.Grant(grant="", operation="git push", project=MILL))
    permissions.revoke(house.app, mine.grant)
    assert "revoked" in house.answer(MIRA, "permissions")
    assert "Yes" not in house.answer(MIRA, "permissions", action="check", operation="git push")


# -- what is published -----------------------------------------------------------------------------------------------


def test_what_is_published_is_kept_apart_too(house: House) -> None:
    house.publish()
    for query in QUERIES[:8]:
        test_no_query_finds_or_counts_what_is_not_seen(house, query)
    house.prompt("mill-2", MILL, "the flour after publishing")
    text = house.answer(MIRA, "search", query="flour")
    assert "after publishing" in text and "number 2" in text


def test_a_published_session_in_two_projects_is_found_row_by_row(house: House) -> None:
    house.prompt("both-1", MILL, "first the hoppers")
    house.prompt("both-1", BANK, f"then the {WORD} quince")
    house.edit("both-1", BANK, f"{BANK}/quince.py", f"{WORD} quince")
    for where, operation in ((MILL, "mill push"), (BANK, "quince push"), ("", "quince pull")):
        permissions.grant(house.app, permissions.Grant(grant="", operation=operation, project=where))
    house.publish()
    for query in (*QUERIES, "quince", "re:quince", '"quince"', "kind:note", "push", "session:both-1 then"):
        text, _ = house.ask(MIRA, "search", query=query, limit=50, format="detailed")
        said = text.replace(query, "").replace(f"'{WORD}'", "")
        assert WORD not in said and "quince" not in said, query
    with asked_by(MIRA):
        assert [m.position for m in house.services.search("hoppers quince", limit=9)] == [9]


def test_every_way_to_read_the_views_is_narrowed(house: House) -> None:
    """Rows one by one, in one go, and by a cursor of their own."""
    house.prompt("both-1", MILL, "hoppers")
    house.prompt("both-1", BANK, WORD)
    for _ in range(2):
        views = house.app.views.scoped((MILL,), ScopedViews)
        with views.reading() as files:
            assert {row.project for row in files.shown_rows()} == {MILL}
            assert {name for name, _ in files.all_known()} == {"mill-1", "both-1"}
            assert len(list(files.all_known())) == len(files.fetch("SELECT id FROM all_rows"))
            assert files.fetch("SELECT DISTINCT project FROM shown") == [(MILL,)]
            assert files.sessions() == {"mill-1", "both-1"}
        house.publish()


def test_near_in_meaning_finds_the_nearest_of_what_is_seen(house: House, tmp_path: Path) -> None:
    """However many rows of others are nearer."""
    embedder = Flat()
    for n in range(150):
        house.prompt("bank-2", BANK, f"{WORD} number {n}")
    house.publish()
    embed_all(house.app.log, tmp_path / "data", embedder)
    house.app.views._embedder = lambda: embedder
    with asked_by(MIRA):
        found = house.services.search("unrelated words", limit=50)
    assert {m.session for m in found} == {"mill-1"}


class Flat(HashEmbedder):
    """What the other project says is nearest to every query."""

    def embed_query(self, text: str) -> Any:
        return self.vector(f"{WORD} number 0")
