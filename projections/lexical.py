"""The lexical index: two tantivy indexes (rows, and one document a session), each with its watermark in its commits.
`lexical_writer` writes them.

Tantivy's BM25 has k1 1.2 and b .75 built in. For rows b .4 ranks better, so every field that has tokens is padded with
`PADDING` tokens: with an average length of about PADDING / .875 that is the same as a smaller b.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tantivy

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.analysis import exact_analyzer, spaced
from session_mgmt_mcp.projections.documents import (
    RowDocument,
    add_to_session,
    ancestors,
    length,
    number_of,
    sameness,
)
from session_mgmt_mcp.projections.files import make_folder, read_json
from session_mgmt_mcp.projections.kinds import EDIT
from session_mgmt_mcp.projections.matching import names, phrase_texts, suffixes, tool_names
from session_mgmt_mcp.projections.protocol import LEXICAL, Watermark
from session_mgmt_mcp.projections.query_files import STATE_FILE
from session_mgmt_mcp.projections.rows import Row, interpretation_version
from session_mgmt_mcp.projections.tables import row_from

SCHEMA_VERSION = 4
PADDING = 50
PAD = " \x01" * PADDING
SESSION_TOKEN_REPEATS_MAX = 64
WATERMARK = "watermark"
EXACT = "exact"  # a tokenizer: see `analysis.exact_analyzer`
INDEXES = ("rows", "sessions")


class Statistics(NamedTuple):
    """What a scorer outside the index needs to score as it does."""

    documents: int
    tokens: dict[str, int]  # field -> sum of its lengths, padding included


def lexical_folder(views: Path) -> Path:
    return views / LEXICAL


def rows_schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("special", stored=False, tokenizer_name="raw", index_option="basic")
    for name in ("id", "occurred_at"):
        builder.add_integer_field(name, indexed=True, fast=True)
    builder.add_integer_field("session", indexed=True, fast=True)  # number_of(session)
    for name in ("seq", "digest"):
        builder.add_integer_field(name, fast=True)
    for name in ("kind", "assistant", "under", "tool", "file", "actor", "branch"):  # see `matching`
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in ("body", "result", "rest"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field(
        "exact", tokenizer_name=EXACT, index_option="position"
    )  # texts as written, for phrases
    builder.add_bytes_field("stored", stored=True)
    return builder.build()


def sessions_schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("special", stored=False, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("session", indexed=True, fast=True)
    for name in ("assistant", "under"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("body", tokenizer_name="whitespace", index_option="freq")
    builder.add_bytes_field("stored", stored=True)
    return builder.build()


_encode = msgspec.msgpack.Encoder().encode


def stored_row(stored: bytes) -> Row:
    """The row a stored document was made of."""
    return row_from(msgspec.msgpack.decode(stored)[1])


def opened(schema: tantivy.Schema, path: str | None = None) -> tantivy.Index:
    """An index; None: in memory."""
    index = tantivy.Index(schema, path=path)
    index.register_tokenizer(EXACT, exact_analyzer())
    return index


class LexicalIndex:
    """One opened tantivy index and what its last commit says of itself.

    `unfinished`: None, or of an index that is being built up to the watermark, the id of the first row of the last
    session that is in it.
    """

    def __init__(self, path: Path | None, schema: tantivy.Schema) -> None:
        """`path`: None for one in memory."""
        self.schema = schema
        self.index = opened(schema, str(make_folder(path)) if path is not None else None)
        self.reload()

    def reload(self) -> None:
        self.index.reload()
        self.searcher = self.index.searcher()
        self.watermark, self.statistics, self.unfinished = self._read_special()

    def _read_special(self) -> tuple[Watermark, Statistics, int | None]:
        query = tantivy.Query.term_query(self.schema, "special", WATERMARK, "basic")
        hits = self.searcher.search(query, 1, count=False).hits
        if not hits:
            return Watermark(), Statistics(0, {}), None
        stored = bytes(self.searcher.doc(hits[0][1])["stored"][0])
        position, chain, tokens, unfinished = msgspec.msgpack.decode(stored)
        return Watermark(position, chain), Statistics(self.searcher.num_docs - 1, tokens), unfinished

    def commit(
        self, writer: Any, watermark: Watermark, tokens: dict[str, int], unfinished: int | None = None
    ) -> None:
        """Make what was added durable and visible, with a document that says how far it goes."""
        document = tantivy.Document()
        document.add_text("special", WATERMARK)
        document.add_bytes("stored", _encode((watermark.position, watermark.chain, tokens, unfinished)))
        writer.delete_documents_by_term("special", WATERMARK)
        writer.add_document(document)
        writer.commit()

    def stored(self) -> Iterator[bytes]:
        """Every stored document but the watermark, in no order."""
        if not self.searcher.num_docs:
            return
        watermark = tantivy.Query.term_query(self.schema, "special", WATERMARK, "basic")
        query = tantivy.Query.boolean_query(
            [(tantivy.Occur.Must, tantivy.Query.all_query()), (tantivy.Occur.MustNot, watermark)]
        )
        hits = self.searcher.search(query, self.searcher.num_docs, count=False).hits
        for _, address in hits:
            document = self.searcher.doc(address)
            yield bytes(document["stored"][0])


def open_indexes(path: Path) -> tuple[LexicalIndex, LexicalIndex]:
    """The rows' and the sessions' index. Raises ValueError or OSError where they are damaged."""
    return LexicalIndex(path / "rows", rows_schema()), LexicalIndex(path / "sessions", sessions_schema())


def published_generation(folder: Path, log: EventLog, version: int = 0) -> str:
    """The folder of the published indexes of this log, "" where nothing usable is published. `version`: of the interpretation
    that its rows have to be of; 0: of this program's.
    """
    state = read_json(folder / STATE_FILE) or {}
    expected = (log.log_id, SCHEMA_VERSION, version or interpretation_version())
    if (state.get("log_id"), state.get("schema_version"), state.get("interpretation_version")) != expected:
        return ""
    name = str(state.get("index", ""))
    return name if name and all((folder / name / index).is_dir() for index in INDEXES) else ""


class RowFields(NamedTuple):
    """What the index holds of a row; plain data, so that other processes can make it."""

    id: int
    occurred_at: int
    session: str
    seq: int
    digest: int
    kind: str
    assistant: str
    project: str
    tool: str
    files: tuple[str, ...]
    actor: str
    branch: str
    edited: bool
    parts: RowDocument
    texts: tuple[str, ...]
    stored: bytes

    def document(self, totals: Counter[str]) -> tantivy.Document:
        """The same for tantivy; `totals` counts the fields' lengths."""
        document = tantivy.Document()
        for text in self.texts:
            document.add_text("exact", spaced(text))
        for name, tokens in zip(self.parts._fields, self.parts, strict=True):
            if tokens:
                document.add_text(name, tokens + PAD)
                totals[name] += length(tokens) + PADDING
        document.add_integer("id", self.id)
        document.add_integer("occurred_at", self.occurred_at)
        document.add_integer("session", number_of(self.session))
        document.add_integer("seq", self.seq)
        document.add_integer("digest", self.digest)
        for name, term in self._terms():
            document.add_text(name, term)
        document.add_bytes("stored", self.stored)
        return document

    def _terms(self) -> Iterator[tuple[str, str]]:
        """What filters match, as (field, term)."""
        yield "kind", self.kind
        if self.edited:
            yield "kind", EDIT
        for field, value in (("assistant", self.assistant), ("actor", self.actor), ("branch", self.branch)):
            for name in names(value):
                yield field, name
        for folder in ancestors(self.project):
            yield "under", folder
        for name in tool_names(self.tool):
            yield "tool", name
        for suffix in dict.fromkeys(s for file in self.files for s in suffixes(file)):
            yield "file", suffix


def row_fields(row: Row, parts: RowDocument) -> RowFields:
    return RowFields(
        id=row.id,
        occurred_at=row.occurred_at,
        session=row.session,
        seq=row.seq,
        digest=sameness(row),
        kind=row.kind,
        assistant=row.assistant,
        project=row.project,
        tool=row.tool,
        files=row.files,
        actor=row.actor,
        branch=row.branch,
        edited=bool(row.edit),
        parts=parts,
        texts=phrase_texts(row),
        stored=_encode((parts.digest(), row._replace(seq=0))),
    )


class SessionFields(NamedTuple):
    """What the index holds of a session."""

    session: str
    assistant: str
    folders: tuple[str, ...]
    body: str
    tokens: int
    stored: bytes

    def document(self, totals: Counter[str]) -> tantivy.Document:
        """The same for tantivy; `totals` counts the fields' lengths."""
        document = tantivy.Document()
        document.add_integer("session", number_of(self.session))
        document.add_text("assistant", self.assistant.lower())
        for folder in self.folders:
            document.add_text("under", folder)
        document.add_text("body", self.body)
        totals["body"] += self.tokens
        document.add_bytes("stored", self.stored)
        return document


class SessionDocument:
    """Collects one document a session, of all its shown rows."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._total: Counter[str] = Counter()
        self._assistant = ""
        self._folders: dict[str, None] = {}

    def add(self, row: Row, parts: RowDocument) -> None:
        add_to_session(self._total, parts)
        self._assistant = self._assistant or row.assistant
        if row.project not in self._folders:
            self._folders.update(dict.fromkeys((row.project, *ancestors(row.project))))

    def finish(self) -> SessionFields:
        """Beyond a number of repeats more of a token say nothing new."""
        body = {token: min(n, SESSION_TOKEN_REPEATS_MAX) for token, n in sorted(self._total.items())}
        return SessionFields(
            session=self._session,
            assistant=self._assistant,
            folders=tuple(self._folders),
            body=" ".join((f"{token} " * n).rstrip() for token, n in body.items()),
            tokens=sum(body.values()),
            stored=_encode((self._session, hashlib.sha256(_encode(body)).digest())),
        )
