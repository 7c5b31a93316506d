"""What remember, forget and permissions answer."""

from collections.abc import Sequence

from session_mgmt_mcp.adapters.mcp.render import count, fence, one_line
from session_mgmt_mcp.adapters.mcp.services import Forgotten, Preview
from session_mgmt_mcp.core.envelope import Receipt
from session_mgmt_mcp.projections.permissions import Asked, Decision, Grant, State
from session_mgmt_mcp.projections.times import minute

GRANTS_SHOWN_MAX = 40
SESSIONS_SHOWN_MAX = 5
NO_FORCE = "This is a record of what the user said; it enforces nothing."


def remembered(receipt: Receipt) -> str:
    """What became of a reflection."""
    if receipt.appended:
        return f"Remembered, durably, at position {receipt.position}. search finds it in every later session."
    return f"Remembered before, at position {receipt.position}; nothing was added."


def preview(found: Preview) -> str:
    """What would be forgotten, and the code that does it."""
    if not found.code:
        before = f"; {count(found.gone, 'event')} of it forgotten before" if found.gone else ""
        return f"Nothing to forget: no event holds it{before}."
    lines = [
        f"[{p}] {minute(when)} {one_line(f'{what}: {line}', 160)}" for p, when, what, line in found.samples
    ]
    if found.events - found.other_reports > len(lines):
        lines.append(f"… and {found.events - found.other_reports - len(lines):,} more")
    named = [
        f"{one_line(name, 128)} ({n:,})" for name, n in list(found.sessions.items())[:SESSIONS_SHOWN_MAX]
    ]
    more = len(found.sessions) - len(named)
    return (
        f"Nothing was changed yet. This would take out {count(found.events, 'event')} for good "
        f"({found.other_reports:,} of them other reports of the same), and clean {count(found.files, 'other file')}.\n"
        f"Sessions: {', '.join(named)}{f' and {more} more' if more else ''}.\n"
        f"{fence(chr(10).join(lines))}\n"
        f"It cannot be undone. If the user agrees: the same call with confirm={found.code!r}. What is recorded until then "
        "and matches goes too."
    )


def not_confirmed(found: Preview) -> str:
    """The code no longer stands for what would be forgotten."""
    if not found.code:
        return f"{preview(found)} The code stands for nothing any more; nothing was changed."
    return f"The code stands for other events than these selectors name now; nothing was changed.\n{preview(found)}"


def forgotten(done: Forgotten) -> str:
    """What became of a forgetting."""
    lines = [f"{count(done.payloads, 'payload')} taken out of the log, its views and backups for good."]
    lines += [
        f"The assistant's own transcript still holds it: {one_line(p, 400)}" for p in done.transcripts[:10]
    ]
    lines += [f"To do: {one_line(finding, 400)}" for finding in done.findings[:10]]
    return "\n".join(lines)


def grants(found: Sequence[Grant], now: int) -> str:
    """All permissions, those that hold first, each group the newest first."""
    if not found:
        return f"No permission is recorded. {NO_FORCE}"
    ordered = sorted(found, key=lambda g: (g.state(now) is not State.HOLDS, -g.position))
    lines = [_grant(g, now) for g in ordered[:GRANTS_SHOWN_MAX]]
    holding = sum(g.state(now) is State.HOLDS for g in found)
    rest = len(found) - len(lines)
    more = f" {rest:,} older ones are not shown." if rest > 0 else ""
    return f"{holding} of {count(len(found), 'permission')} hold now.\n{fence(chr(10).join(lines))}\n{NO_FORCE}{more}"


def granted(grant: Grant, new: bool, now: int) -> str:
    """What was recorded, or holds already."""
    if not new:
        return f"Nothing was added: this is recorded already.\n{fence(_grant(grant, now))}"
    return f"Recorded, durably, at position {grant.position}.\n{fence(_grant(grant, now))}\n{NO_FORCE}"


def revoked(grant: Grant, now_gone: bool) -> str:
    """What was taken back, or held no longer."""
    if not now_gone:
        return f"Permission {grant.grant} was revoked before, {minute(grant.revoked_at)}; nothing was added."
    return (
        f"Permission {grant.grant} is revoked: {one_line(grant.operation, 300)!r} is to be asked for again."
    )


def decision(found: Decision, asked: Asked, now: int) -> str:
    """Whether what is asked is covered, and by what."""
    what = repr(one_line(asked.operation, 300)) + (f" in {one_line(asked.scope, 300)}" if asked.scope else "")
    if found.grant is not None:
        return f"Yes: the user permitted {what}.\n{fence(_grant(found.grant, now))}\n{NO_FORCE}"
    if not found.others:
        return f"No: no permission for {what} is recorded. Ask the user."
    lines = [f"{_grant(g, now)}\n  does not cover it: {one_line(why, 300)}" for g, why in found.others[:5]]
    return f"No: no permission covers {what} now. Ask the user. Near to it:\n{fence(chr(10).join(lines))}"


def _grant(g: Grant, now: int) -> str:
    state = g.state(now)
    until = f"until {minute(g.expires_at)}" if g.expires_at else "without end"
    when = f"revoked {minute(g.revoked_at)}" if state is State.REVOKED else until
    parts = [
        f"{g.grant} {state.value} ({when}): {g.operation}",
        f"scope {g.scope}" if g.scope else "",
        f"project {g.project}" if g.project else "",
        f"session {g.session}" if g.session else "",
        f"recorded by {g.actor} {minute(g.granted_at)} [{g.position}]",
        f"reason: {g.reason}" if g.reason else "",
    ]
    return one_line(" · ".join(p for p in parts if p), 900)
