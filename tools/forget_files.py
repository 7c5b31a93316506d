"""What lies in a data folder beside the log and its views: found and cleaned of what is forgotten.

Quarantined and unreadable spooled bytes were never acknowledged; the state of live transcripts is made anew. Such a file is
removed whole. In a file of another kind only the text itself is overwritten.
"""

import contextlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.tools.folder_files import FILES
from session_mgmt_mcp.tools.forget_match import MASK, Matcher

UNFINISHED_AGE_S = 60  # a hook that is alive renames what it spools long before
PIECE_BYTES = 32
TEXT_BYTES_MIN = 8  # shorter texts stand everywhere
EVENTS_MAX = 5_000  # whose texts are looked for; beyond, ids of sessions have to do
# Cleaned by others: rewritten, made anew, or removed whatever they hold (forget_finish)
_PROJECTIONS = (
    *("segments", "journal", "manifest"),
    *("views/query", "views/lexical", "views/vector", "views/briefs", "views/live"),
)
_REMOVED = ("quarantine/", "spool/", "views/")


class Traces(NamedTuple):
    """What tells that a file holds something of the events to forget."""

    matcher: Matcher
    ids: tuple[bytes, ...]  # of the events, as the log's own bytes have them
    sessions: re.Pattern[bytes] | None  # their names, in an envelope or in JSON
    pieces: frozenset[bytes]  # of their texts, as they are and in JSON escapes, PIECE_BYTES each
    texts: tuple[bytes, ...]  # whole texts, the longest first

    def in_bytes(self, raw: bytes) -> bool:
        """Whether the bytes hold any of it; half a text is enough, since a torn write may have no more."""
        if self.sessions is not None and self.sessions.search(raw):
            return True
        if any(event_id in raw for event_id in self.ids) or self._has_piece(raw):
            return True
        short = (text for text in self.texts if len(text) < PIECE_BYTES)
        return any(text in raw for text in short) or bool(self.matcher and self.matcher.matches(raw))

    def _has_piece(self, raw: bytes) -> bool:
        pieces = self.pieces
        last = len(raw) - PIECE_BYTES
        return bool(pieces) and any(raw[k : k + PIECE_BYTES] in pieces for k in range(last + 1))

    def without(self, raw: bytes) -> bytes:
        """The bytes with the texts, and what the pattern matches, masked."""
        for text in self.texts:
            raw = raw.replace(text, MASK.encode())
        return self.matcher.mask(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


class Cleaned(NamedTuple):
    """Names of files relative to the data folder."""

    removed: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()  # still hold it: another form of the text, or a file that cannot be written


def traces_of(matcher: Matcher, events: Iterable[Event], sessions: Collection[str]) -> Traces:
    """`sessions`: ids of sessions that are forgotten whole."""
    ids: list[bytes] = []
    texts: dict[bytes, None] = {}
    for count, event in enumerate(events):
        if count >= EVENTS_MAX:
            break
        ids.append(event.event_id)
        for text in _texts(event):
            texts.update(dict.fromkeys(_forms(text)))
    named = [re.escape(name.encode()) for name in sessions]
    return Traces(
        matcher,
        tuple(ids),
        re.compile(rb'[/"](?:%s)(?![\w.-])' % b"|".join(named)) if named else None,
        frozenset(piece for text in texts for piece in _pieces(text)),
        tuple(sorted(texts, key=len, reverse=True)),
    )


def _texts(event: Event) -> Iterator[str]:
    for action in interpret(event):
        for text in (action.text, getattr(action, "edit_text", ""), getattr(action, "command", "")):
            if len(text.strip()) >= TEXT_BYTES_MIN:
                yield text.strip()


def _forms(text: str) -> Iterator[bytes]:
    """As UTF-8, and as the inside of a JSON string, written both ways."""
    yield text.encode("utf-8", "surrogatepass")
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")


def _pieces(text: bytes) -> Iterator[bytes]:
    """Stretches of a long text, one of which stands in whatever holds twice as much of it."""
    for at in range(0, len(text) - PIECE_BYTES + 1, PIECE_BYTES):
        piece = text[at : at + PIECE_BYTES]
        if len(set(piece)) > PIECE_BYTES // 4:  # not a line of dashes
            yield piece


def holding(folder: str, traces: Traces) -> list[str]:
    """Names of the files beside log and views that hold any of it."""
    return [name for name in _others(folder) if _holds(folder, name, traces)]


def clean(folder: str, traces: Traces) -> Cleaned:
    """Remove or mask what holds any of it. Doing it again changes nothing."""
    removed: list[str] = []
    masked: list[str] = []
    left: list[str] = []
    for name in holding(folder, traces):
        path = f"{folder}/{name}"
        try:
            if name.startswith(_REMOVED):
                if _is_being_written(path):
                    left.append(name)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                removed.append(name)
            else:
                _mask(path, traces)
                (left if _holds(folder, name, traces) else masked).append(name)
        except OSError:
            left.append(name)
    for parent in {os.path.dirname(f"{folder}/{name}") for name in (*removed, *masked)}:
        sync_folder(parent)
    return Cleaned(tuple(removed), tuple(masked), tuple(left))


def _others(folder: str) -> list[str]:
    out = []
    for parent, folders, names in os.walk(folder):
        inside = os.path.relpath(parent, folder)
        folders[:] = [f for f in folders if os.path.normpath(f"{inside}/{f}") not in _PROJECTIONS]
        for name in names:
            path = os.path.normpath(f"{inside}/{name}")
            if path not in FILES and stat.S_ISREG(_mode(f"{folder}/{path}")):
                out.append(path)
    return sorted(out)


def _mode(path: str) -> int:
    """Of the name itself: what a link points to lies outside. 0 where it is gone."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def _holds(folder: str, name: str, traces: Traces) -> bool:
    try:
        with open(f"{folder}/{name}", "rb") as file:
            raw = file.read()
    except OSError:
        return False  # gone, or another user's: no file of this program
    stem = os.path.basename(name).partition(".")[0].encode()
    return traces.in_bytes(raw) or stem in {event_id.hex().encode() for event_id in traces.ids}


def _is_being_written(path: str) -> bool:
    """Whether it is an event, or a hook may be making it one: then it is found in the log the next time."""
    if path.endswith(".event"):
        return True
    try:
        return path.endswith(".tmp") and time.time() - os.path.getmtime(path) < UNFINISHED_AGE_S
    except FileNotFoundError:
        return False


def _mask(path: str, traces: Traces) -> None:
    with open(path, "rb") as file:
        raw = file.read()
        mode = os.fstat(file.fileno()).st_mode & 0o777
    new = traces.without(raw)
    if new != raw:
        temporary = f"{path}.{secrets.token_hex(4)}.tmp"
        write_new(temporary, new, mode)
        os.rename(temporary, path)
