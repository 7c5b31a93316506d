"""One client of a load test: what it asks, and whether it gets back what it was told is stored."""

import hashlib
import random
import re
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from session_mgmt_mcp.tools.load.calls import Caller, ToolError, Unanswered
from session_mgmt_mcp.tools.load.tally import Tally

TAG: Final = "load-test"
_PROSE: Final = (
    "login test failed because the session cookie was set before the redirect and the cache kept an old page so we "
    "chose a shorter timeout for the database pool and moved the migration behind a flag until the index is built "
    "then the release waits for review of the parser which reads every line twice when the encoding is unknown"
)
WORDS: Final = tuple(_PROSE.split())
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_POSITION: Final = re.compile(r"at position (\d+)")
FINDINGS_MAX: Final = 20


class Note(NamedTuple):
    """A note whose storing was acknowledged."""

    word: str  # that no other note has
    position: int


def own_word(run: str, client: int, number: int) -> str:
    """A pronounceable word for one note of one client of one run: what is found by it can be no other's."""
    digest = hashlib.blake2b(f"{run} {client} {number}".encode(), digest_size=16).digest()
    pairs = zip(digest[::2], digest[1::2], strict=True)
    return "".join(_CONSONANTS[a % len(_CONSONANTS)] + _VOWELS[b % len(_VOWELS)] for a, b in pairs)


class Worker:
    """Client number `client` of the run; the same seed asks the same."""

    def __init__(
        self,
        run: str,
        client: int,
        caller: Caller,
        tally: Tally,
        *,
        mix: Mapping[str, int],
        queries: tuple[str, ...],
        seed: int,
    ) -> None:
        """`mix`: tool -> its share; `queries`: what is searched besides its own notes, () for words of `WORDS`."""
        self.notes: list[Note] = []
        self.findings: list[str] = []
        self.wrong = 0
        self.looked_up = 0
        self._run, self._client = run, client
        self._caller = caller
        self.tally = tally
        self._queries = queries
        self._random = random.Random(f"{seed} {client}")
        self._tools, self._weights = list(mix), list(mix.values())
        self._sent = 0

    async def step(self, began: float) -> None:
        """One call, of a tool by the mix; `began`: when the test began (perf_counter)."""
        tool = self._random.choices(self._tools, self._weights)[0]
        if tool == "remember":
            await self._remember(began)
        elif tool == "timeline" and self.notes:
            await self.read_back(self._random.choice(self.notes), began)
        elif self.notes and self._random.random() < 0.5:
            await self.search_back(self._random.choice(self.notes), began)
        else:
            await self._call("search", {"query": self._query()}, began)

    async def read_back(self, note: Note, began: float) -> None:
        """Read the event at a note's position: it must be the note."""
        text = await self._call("timeline", {"around": note.position, "format": "raw"}, began)
        self._check(text, note, note.word, "read")

    async def search_back(self, note: Note, began: float) -> None:
        """Search a note by its word: it must be found at its position."""
        text = await self._call("search", {"query": f'"{note.word}"'}, began)
        self._check(text, note, f"[{note.position}]", "found")

    async def close(self) -> None:
        await self._caller.close()

    async def _remember(self, began: float) -> None:
        self._sent += 1
        word = own_word(self._run, self._client, self._sent)
        said = " ".join(self._random.choices(WORDS, k=30))
        text = f"Load test {self._run}, client {self._client}, note {self._sent}: {word} {said}."
        key = f"{TAG}-{self._run}-{self._client}-{self._sent}"
        answer = await self._call("remember", {"text": text, "tags": [TAG], "key": key}, began)
        if answer is None:
            return
        found = _POSITION.search(answer)
        if found is None:
            self._wrong(
                f"client {self._client}, note {self._sent}: acknowledged without a position: {answer[:80]!a}"
            )
        else:
            self.notes.append(Note(word, int(found[1])))

    async def _call(self, tool: str, arguments: dict[str, Any], began: float) -> str | None:
        """The answer's text; None where there was none, which is counted."""
        try:
            called = await self._caller.call(tool, arguments)
        except (ToolError, Unanswered) as error:
            self.tally.unanswered += 1
            if len(self.findings) < FINDINGS_MAX:
                self.findings.append(f"client {self._client}: {tool} was not answered: {str(error)[:200]}")
            return None
        at_s = time.perf_counter() - began
        self.tally.answered(tool, at_s, called.seconds, called.waited_s, called.tries)
        return called.text

    def _check(self, text: str | None, note: Note, wanted: str, what: str) -> None:
        if text is None:
            return
        self.looked_up += 1
        if wanted not in text or note.word not in text:
            self._wrong(f"client {self._client}: the note at position {note.position} was not {what}")

    def _wrong(self, finding: str) -> None:
        self.wrong += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)

    def _query(self) -> str:
        if self._queries:
            return self._random.choice(self._queries)
        return " ".join(self._random.sample(WORDS, 3))
