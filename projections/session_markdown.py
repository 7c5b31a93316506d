"""A whole session as Markdown: what was said as quotations, calls and results as code, each with its position.

Nothing recorded can leave its place: code blocks have fences longer than any within, quotations keep HTML and remote
images from being rendered.
"""

import re
from collections.abc import Iterable, Iterator

from session_mgmt_mcp.projections.plain_text import code, fenced, markdown, one_line, quoted
from session_mgmt_mcp.projections.results import SessionSummary
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.times import minute

CONCISE_LINES = 20  # of a result or an edit
CONCISE_CHARS = 2000
PENDING_MAX = 1000
SPANS_CHARS_MAX = 2000  # in longer lines nothing is taken for code
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_SPANS = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_NOTED = ("interruption", "slash-command", "bash-mode")  # notes that are a person's doing


def session_markdown(head: SessionSummary, rows: Iterable[Row], detail: str = "concise") -> Iterator[str]:
    """Pieces of the document, one a row at most, so that a session of any length can be written. `detail`: `concise` cuts
    results and leaves thinking and notes out; `full` has all the view holds (64 KiB a text).
    """
    yield _head(head, detail)
    tools: dict[str, str] = {}  # call -> what ran, until its result comes
    for row in rows:
        if row.kind == "ToolCalled" and row.tool_use_id:
            if len(tools) >= PENDING_MAX:
                del tools[next(iter(tools))]
            tools[row.tool_use_id] = row.tool
        piece = _piece(row, tools, detail == "full")
        if piece:
            yield f"\n{piece}\n"


def _head(head: SessionSummary, detail: str) -> str:
    facts = [
        f"session {code(one_line(head.session, 200))}",
        one_line(head.assistant, 60),
        code(one_line(head.project, 300)) if head.project else "",
        f"branch {code(one_line(head.branch, 100))}" if head.branch else "",
        f"{minute(head.started_at)} to {minute(head.ended_at)}",
        f"{head.prompts} prompts, {head.tool_calls} tool calls",
    ]
    title = markdown(one_line(head.title, 160)) or "Session"
    cut = "Results are cut; `--detail full` has them whole. " if detail != "full" else ""
    return (
        f"# {title}\n\n{' · '.join(f for f in facts if f)}\n\n"
        f"{cut}`[n]` is a position in the log: `session-mgmt-mcp show --raw n`.\n"
    )


def _piece(row: Row, tools: dict[str, str], full: bool) -> str:
    """What a row comes to; "" where it is left out."""
    kind = row.kind
    if kind == "PromptSubmitted":
        return f"{_heading('User', row)}\n\n{_quotation(row.text)}"
    if kind == "AssistantReplied":
        speaker = "Assistant" if not row.actor.startswith("agent:") else f"Agent {row.actor[6:]}"
        return f"{_heading(speaker, row)}\n\n{_quotation(row.text)}"
    if kind == "ToolCalled":
        return _call(row, full)
    if kind == "ToolReturned":
        return _result(row, tools.pop(row.tool_use_id, row.tool), full)
    if kind == "ContextCompacted":
        summary = f"\n\n{_folded('its summary', row.text, full)}" if row.text else ""
        return f"---\n\n{_line('The context was compacted', row)}{summary}"
    if kind in ("SessionStarted", "SessionEnded", "SessionCheckpointed"):
        what = {"SessionStarted": "Session started", "SessionEnded": "Session ended"}.get(kind, "Checkpoint")
        reason = f" ({one_line(row.reason, 60)})" if row.reason else ""
        said = f": {markdown(one_line(row.text, 2000))}" if row.text.strip() else ""
        return _line(f"{what}{reason}{said}", row)
    if kind == "ReflectionRemembered":
        return f"{_heading('Remembered', row)}\n\n{_quotation(row.text)}"
    if kind == "ContextNoted" and (full or row.origin in _NOTED):
        return _folded(one_line(row.origin, 80), row.text, full, _anchor(row)) if row.text.strip() else ""
    if kind == "AssistantThought" and full:
        return _folded("thinking", row.text, full, _anchor(row))
    return ""


def _anchor(row: Row) -> str:
    return f'<a id="p{row.position}"></a>[{row.position}]'


def _heading(who: str, row: Row) -> str:
    return f"### {markdown(one_line(who, 80))} · {minute(row.occurred_at)} {_anchor(row)}"


def _line(text: str, row: Row) -> str:
    return f"*{text}, {minute(row.occurred_at)}* {_anchor(row)}"


def _call(row: Row, full: bool) -> str:
    named = f"**{markdown(one_line(row.tool, 120))}** {_anchor(row)}"
    parts = [named]
    if row.text.strip():
        parts.append(fenced(_cut(quoted(row.text), full)))
    if row.edit:
        parts.append(_folded("what was written", row.edit, full))
    return "\n\n".join(parts)


def _result(row: Row, tool: str, full: bool) -> str:
    name = one_line(tool, 120)
    what = f"{'error' if row.is_error else 'result'}{f' of {name}' if name else ''}"
    if not row.text.strip():
        return f"*{markdown(what)}: empty* {_anchor(row)}"
    return _folded(what, row.text, full, _anchor(row))


def _folded(what: str, text: str, full: bool, anchor: str = "") -> str:
    """A text folded away behind a line that says what it is."""
    shown = quoted(text).strip("\n")
    lines = shown.count("\n") + 1
    of = f", {lines} lines" if lines > 1 else ""
    label = what.replace("&", "&amp;").replace("<", "&lt;")
    before = f"{anchor}\n\n" if anchor else ""
    return f"{before}<details><summary>{label}{of}</summary>\n\n{fenced(_cut(shown, full))}\n\n</details>"


def _cut(text: str, full: bool) -> str:
    """The beginning of a text; it says how much there is more."""
    if full:
        return text
    kept = "\n".join(text.split("\n", CONCISE_LINES)[:CONCISE_LINES])[:CONCISE_CHARS]
    left = len(text) - len(kept)
    return f"{kept}\n[… {left:,} more characters]" if left > 0 else kept


def _quotation(text: str) -> str:
    """Markdown as it was written, as a quotation that does not end before its end."""
    out = []
    fence = ""
    for line in quoted(text).strip("\n").split("\n"):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif found:
            fence = found[1]
        else:
            line = _without_html(line)
        out.append(f"> {line}".rstrip())
    return "\n".join(out)


def _without_html(line: str) -> str:
    """A line in which no HTML and no image is rendered; what stands in code spans stays."""
    if "<" not in line and "![" not in line:
        return line
    if len(line) > SPANS_CHARS_MAX:
        return _escaped(line)
    out, at = [], 0
    for span in _SPANS.finditer(line):
        out += [_escaped(line[at : span.start()]), span[0]]
        at = span.end()
    return "".join([*out, _escaped(line[at:])])


def _escaped(text: str) -> str:
    """As `markdown`, but links stay links: nothing is fetched before somebody follows one."""
    return text.replace("<", "&lt;").replace("![", "!&#91;")
