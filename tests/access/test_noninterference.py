"""Whatever others record, a user with projects gets the same answers, byte for byte.

Two worlds hold the same events of what is seen, at the same positions, and between them events of other projects that
differ in every way an event can: words, sessions, files, kinds, times of day. Goguen and Meseguer, "Security policies
and security models" (1982), call it noninterference.
"""

import random
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from access_kit import BANK, MILL, House, asked_by, principal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from vector_kit import HashEmbedder, embed_all

from session_mgmt_mcp.adapters.mcp.caller import Caller
from session_mgmt_mcp.core.access import Role
from session_mgmt_mcp.core.envelope import EventType

WORDS = [
    "flour",
    "wheel",
    "hopper",
    "stone",
    "sieve",
    "mira",
    "vault.py",
    "login",
    "zanzibar",
    "the",
    "rust-proof",
]
TAG = re.compile(r"recorded-[0-9a-f]{12}")
MIRA = principal(Role.ADMIN)
# (seen, what, session, words): seen or not, in the order of the log
STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["prompt", "edit", "remember", "session", "grant"]),
        st.integers(0, 2),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
    ),
    min_size=3,
    max_size=14,
)
QUERIES = [
    *WORDS,
    "flour wheel",
    "wheel hopper -stone",
    "re:wh|zan",
    '"flour wheel"',
    "file:vault.py stone",
    "kind:edit",
]


# an example takes a second; shrinking one would take minutes
BRIEFLY = settings(
    max_examples=3,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def world(folder: Path, steps: list[tuple[bool, str, int, list[str]]], others: int) -> House:
    """`others`: what the events that are not seen are about."""
    house = House(folder)
    dice = random.Random(others)
    for seen, what, session, words in steps:
        if seen:
            step(house, what, f"mill-{session}", MILL, " ".join(words))
            continue
        kind = dice.choice(["prompt", "edit", "remember", "session", "grant"])
        where = dice.choice([BANK, "/srv/mill2", "/srv", "", "/srv/mill/../bank"])
        said = " ".join(dice.choices(WORDS, k=dice.randint(1, 30)))
        # Some are of a session that is seen: it spans projects then.
        step(house, kind, dice.choice(["bank-1", "mi", f"mill-{session}", f"mill-{session}x"]), where, said)
    return house


def step(house: House, what: str, session: str, project: str, text: str) -> None:
    if what == "prompt":
        house.prompt(session, project, text)
    elif what == "edit":
        house.edit(session, project, f"{project}/{text.split()[0]}", text)
    elif what == "session":
        house.hook(session, project, "SessionStart", source="startup")
    elif what == "remember":
        said = {"text": text, "tags": ["decision"], "project": project, "session": session}
        house.append(EventType.REFLECTION_STORED, f"claude-code/{session}", said)
    else:
        said = {"grant": f"{len(text):08x}", "operation": text, "project": project}
        house.append(EventType.PERMISSION_GRANTED, "session-mgmt/log", said)


def answers(house: House, positions: int) -> list[Any]:
    """Everything the principal can ask that writes nothing."""
    out: list[Any] = []

    def ask(tool: str, **arguments: Any) -> None:
        text, failed = house.ask(MIRA, tool, **arguments)
        out.append((tool, arguments, TAG.sub("tag", text), failed))

    for query in QUERIES:
        ask("search", query=query, limit=50, format="detailed")
    with asked_by(MIRA):
        for query in QUERIES:
            found = house.services.search(query, limit=50)
            out.append([(m.position, m.why, m.copies, round(m.score, 9), m.excerpt) for m in found])
        out += [house.services.complete(Caller(0, ""), what, "") for what in ("session", "project")]
    for session in ("mill-0", "mill-1", "mill-2", "bank-1", "mi", "zebra"):
        ask("timeline", session=session)
        ask("start", session=session)
    for position in range(1, positions + 2):
        ask("timeline", around=position)
        ask("timeline", around=position, format="raw")
    for tool in ("timeline", "status", "start", "audit", "permissions"):
        ask(tool)
    ask("audit", file="vault.py")
    ask("status", format="detailed")
    ask("permissions", action="check", operation="wheel stone")
    return out


def compare(steps: list[tuple[bool, str, int, list[str]]], *, published: bool, meaning: bool = False) -> None:
    told = []
    for others in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            house = world(Path(folder) / "data", steps, others)
            if published:
                house.publish()
                house.prompt("mill-1", MILL, "the wheel after publishing")
                house.prompt("bank-1", BANK, f"the vault after publishing {others}")
            if meaning:
                embed_all(house.app.log, Path(folder) / "data", Hashed())
                house.app.views._embedder = Hashed
            told.append(answers(house, len(steps)))
            house.close()
    first, second = told
    for one, other in zip(first, second, strict=True):
        assert one == other


class Hashed(HashEmbedder):
    """Every query lies somewhere."""

    def embed_query(self, text: str) -> Any:
        return self.vector(text)


def test_answers_to_a_plain_day_do_not_depend_on_what_is_not_seen() -> None:
    kinds = ["prompt", "edit", "remember", "grant"]
    compare(
        [(n % 3 != 1, kinds[n % 4], n % 2, [WORDS[n % 11], WORDS[n * 3 % 11]]) for n in range(9)],
        published=False,
    )


@pytest.mark.slow
@BRIEFLY
@given(STEPS)
def test_answers_do_not_depend_on_what_is_not_seen(steps: list[tuple[bool, str, int, list[str]]]) -> None:
    compare(steps, published=False)


@pytest.mark.slow
@BRIEFLY
@given(STEPS)
def test_nor_where_some_of_it_is_published_and_has_vectors(
    steps: list[tuple[bool, str, int, list[str]]],
) -> None:
    compare(steps, published=True, meaning=True)


def test_the_worlds_do_differ_for_who_sees_everything(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    steps = [(n % 2 == 0, "prompt", 0, ["wheel", "stone"]) for n in range(8)]
    told = []
    for others in (1, 2):
        house = world(tmp_path / str(others), steps, others)
        told.append(
            TAG.sub("tag", house.answer(principal(Role.ADMIN, None), "search", query="wheel", limit=50))
        )
        house.close()
    assert told[0] != told[1]
