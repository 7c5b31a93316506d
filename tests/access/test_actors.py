"""What a principal writes is in its name; its keys are its own; what is told of access is for admins."""

import json
from collections.abc import Callable

import pytest
from access_kit import BANK, MILL, House, principal

from session_mgmt_mcp.core.access import Principal, Role
from session_mgmt_mcp.core.events import ACCESS_STREAM
from session_mgmt_mcp.tools.access_audit import AccessAudit

MIRA = principal(Role.WRITER, (MILL,), name="mira")
NOA = principal(Role.WRITER, (BANK,), name="noa")
ROOT = principal(Role.ADMIN, None, name="root")
ALL = principal(Role.WRITER, None, name="otto")


@pytest.mark.parametrize("who", [MIRA, ALL], ids=["some", "all"])
def test_what_is_written_carries_the_users_name(house: House, who: Principal) -> None:
    before = house.app.log.head().position
    house.answer(who, "remember", text="left turns only", project=MILL)
    house.answer(who, "checkpoint", session="mill-1", note="a mark")
    granted = house.answer(who, "permissions", action="grant", operation="git push", project=MILL)
    house.answer(who, "permissions", action="revoke", id=id_of(granted))
    house.answer(who, "end", session="mill-1", note="done")
    written = [house.app.log.get([p])[p] for p in range(before + 1, house.app.log.head().position + 1)]
    assert [event.envelope.actor for event in written] == [who.name] * 6
    assert who.name in house.answer(ROOT, "audit", actor=who.name)


def test_who_forgets_is_named(house: House) -> None:
    code = house.answer(ROOT, "forget", positions=[1])
    confirm = next(word.strip("\"'`.,)") for word in code.replace("=", " ").split() if is_code(word))
    assert "1 payload" in house.answer(ROOT, "forget", positions=[1], confirm=confirm, reason="asked to")
    assert "forgot 1 payload" in house.answer(ROOT, "audit", actor="root")


def is_code(word: str) -> bool:
    head, _, digest = word.strip("\"'`.,)").partition("-")
    return head.isdecimal() and len(digest) == 12


def test_a_key_used_by_two_users_stores_both(house: House) -> None:
    for who, text in ((MIRA, "of the mill"), (NOA, "of the bank"), (None, "of the owner")):
        project = BANK if who is NOA else MILL
        assert "Remembered" in house.answer(who, "remember", text=text, key="k", project=project)


def test_the_same_key_again_stores_nothing_and_another_text_is_refused_in_the_users_words(
    house: House,
) -> None:
    first = house.answer(MIRA, "remember", text="once", key="k")
    assert house.answer(MIRA, "remember", text="once", key="k") != first
    text, failed = house.ask(MIRA, "remember", text="twice", key="k")
    assert failed and "'k'" in text and "principal" not in text
    house.answer(MIRA, "checkpoint", session="mill-1", note="one")


def test_a_key_cannot_be_worded_to_meet_anothers(house: House) -> None:
    """Neither the owner's nor another user's, whatever the separators."""
    house.answer(NOA, "remember", text="noa's", key="k")
    for key in ("principal/noa/k", "../noa/k", "noa/k", "/noa/k"):
        assert "Remembered" in house.answer(MIRA, "remember", text="mira's", key=key)


# -- what is told of access ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(shared: House) -> House:
    audit = AccessAudit.of(shared.app.log)
    audit.started("1.0", "127.0.0.1:8000", "keys")
    for who in (MIRA, NOA):
        audit.authenticated(who, "192.0.2.1")
    audit.close()
    return shared


def test_admins_of_all_projects_see_who_came_in(told: House) -> None:
    text = told.answer(ROOT, "audit")
    assert "id-mira used from 192.0.2.1" in text and "id-noa" in text and "service 1.0 started" in text


def test_others_see_what_is_told_of_themselves_alone(told: House) -> None:
    for who in (MIRA, ALL, principal(Role.ADMIN, (MILL,), name="mira")):
        text = told.answer(who, "audit")
        assert ("id-mira" in text) is (who.name == "mira")
        assert "id-noa" not in text and "service 1.0" not in text


def test_a_page_of_the_audit_is_not_used_up_by_what_is_not_shown(told: House) -> None:
    assert "[8]" in told.answer(ALL, "audit", limit=1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda h, w: h.ask(w, "search", query="192.0.2.1"),
        lambda h, w: h.ask(w, "search", query="re:id-"),
        lambda h, w: h.ask(w, "search", query="session:access"),
        lambda h, w: h.ask(w, "search", query="kind:note"),
        lambda h, w: h.ask(w, "timeline", session="access"),
        lambda h, w: h.ask(w, "timeline", session="acc"),
        lambda h, w: h.ask(w, "timeline", around=10),
        lambda h, w: h.ask(w, "timeline", around=10, format="raw"),
        lambda h, w: h.ask(w, "timeline"),
        lambda h, w: h.ask(w, "start", session="access"),
        lambda h, w: h.ask(w, "checkpoint", session="access"),
        lambda h, w: h.ask(w, "end", session="acc"),
        lambda h, w: h.ask(w, "audit", session="access"),
    ],
)
@pytest.mark.parametrize("who", [ALL, NOA], ids=["all", "some"])
def test_no_tool_tells_others_who_came_in(
    told: House, who: Principal, ask: Callable[[House, Principal], tuple[str, bool]]
) -> None:
    events = [told.app.log.get([p])[p] for p in range(1, told.app.log.head().position + 1)]
    at = [event.position for event in events if event.envelope.stream == ACCESS_STREAM]
    assert 10 in at
    text, _ = ask(told, who)
    assert "id-mira" not in text and "service 1.0" not in text


def test_no_event_of_access_holds_a_secret(told: House) -> None:
    for position in range(1, told.app.log.head().position + 1):
        payload = told.app.log.get([position])[position].payload
        assert payload is not None and "sha256" not in json.loads(payload)


def id_of(text: str) -> str:
    """The id of the permission in an answer."""
    return next(word for word in text.split() if len(word) == 8 and set(word) <= set("0123456789abcdef"))
