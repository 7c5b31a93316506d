"""Answers the requests a connection opens with, without the SDK.

A client asks for the handshake and the lists at once, when a person waits for their assistant to start; loading the SDK
for that would take a second. Only requests that are well-formed beyond doubt and whose answer depends on nothing are
answered here, word for word as the SDK would (tests compare); everything else is handed over, and the SDK decides.
"""

import json
from typing import Any

from session_mgmt_mcp.adapters.mcp.surface import (
    ENVELOPE_REVISION,
    HANDSHAKE_REVISIONS,
    Surface,
    answer_line,
)

LINE_BYTES_MAX = 64 << 10
REPLAYED_LINES_MAX = 8  # as many frames the SDK keeps before the first request

_META = "io.modelcontextprotocol/"
_VERSION, _INFO, _CAPABILITIES = f"{_META}protocolVersion", f"{_META}clientInfo", f"{_META}clientCapabilities"


class HandOverError(Exception):
    """This line is for the SDK."""


class Opening:
    """One connection until it needs the SDK. `replay` holds the lines that tell the SDK what was agreed so far."""

    def __init__(self, surface: Surface | None) -> None:
        self._surface = surface
        self._era = ""  # decided by the first request: "handshake" or "envelope"
        self._initialized = False
        self.listed = False  # the tools were asked for: they are likely to be called
        self.replay: list[bytes] = []

    def answer(self, line: bytes) -> bytes:
        """The answer's line, b"" where a notification needs none. Raises HandOverError."""
        surface = self._surface
        if surface is None:
            raise HandOverError
        message = _message(line)
        method, params = message["method"], message.get("params", {})
        if "id" not in message:
            self._notified(line, method, params)
            return b""
        meta = _meta(params)
        if method == "initialize":
            found = self._initialize(surface, params)
        elif _VERSION in meta:
            found = self._enveloped(surface, method, params, meta)
        else:
            found = self._in_handshake_era(surface, method, params)
        if not self._era or method == "initialize":
            self._keep(line)
        self._era = "envelope" if _VERSION in meta and method != "initialize" else "handshake"
        self._initialized = self._initialized or method == "initialize"
        self.listed = self.listed or method == "tools/list"
        return answer_line(message["id"], found)

    def passed(self, line: bytes, message: dict[str, Any]) -> None:
        """A line was handed over; keep what another SDK would have to be told if this one were lost."""
        method, params = message["method"], message.get("params")
        if method in ("initialize", "notifications/initialized"):
            if line not in self.replay:
                self.replay = [*self.replay, line][-REPLAYED_LINES_MAX:]
        elif "id" in message and not self._era:  # it decides the era, and must not be done twice
            meta = params.get("_meta") if isinstance(params, dict) else None
            enveloped = isinstance(meta, dict) and _VERSION in meta
            same = (
                {"method": "server/discover", "params": {"_meta": meta}} if enveloped else {"method": "ping"}
            )
            self.replay.append(json.dumps({"jsonrpc": "2.0", "id": 0, **same}).encode() + b"\n")
        if "id" in message:
            self._era = self._era or "passed"

    def _initialize(self, surface: Surface, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("protocolVersion")
        if self._era in ("envelope", "passed") or self._initialized or not isinstance(wanted, str):
            raise HandOverError
        if not (_is_info(params.get("clientInfo")) and _are_capabilities(params.get("capabilities"))):
            raise HandOverError
        revision = wanted if wanted in HANDSHAKE_REVISIONS else HANDSHAKE_REVISIONS[-1]
        return {"result": {**surface.handshake["initialize"]["result"], "protocolVersion": revision}}

    def _in_handshake_era(self, surface: Surface, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self._era in ("envelope", "passed") or not (self._initialized or method == "ping"):
            raise HandOverError
        return _listed(surface.handshake, method, params)

    def _enveloped(
        self, surface: Surface, method: str, params: dict[str, Any], meta: dict[str, Any]
    ) -> dict[str, Any]:
        if self._era in ("handshake", "passed") or meta[_VERSION] != ENVELOPE_REVISION:
            raise HandOverError
        if not _are_capabilities(meta.get(_CAPABILITIES)) or (_INFO in meta and not _is_info(meta[_INFO])):
            raise HandOverError
        return _listed(surface.envelope, method, params)

    def _notified(self, line: bytes, method: str, params: dict[str, Any]) -> None:
        if method == "notifications/cancelled" and self._era:
            return  # what it may cancel has been answered
        if not method.startswith("notifications/") or (params and not _is_plain_meta(params)):
            raise HandOverError
        self._keep(line)

    def _keep(self, line: bytes) -> None:
        if len(self.replay) >= REPLAYED_LINES_MAX:
            raise HandOverError
        self.replay.append(line)


def _message(line: bytes) -> dict[str, Any]:
    """A request or a notification that every JSON-RPC reader reads alike. Raises HandOverError."""
    # An escape may hide half a surrogate pair, which JSON readers treat differently.
    if len(line) > LINE_BYTES_MAX or b"\\u" in line:
        raise HandOverError
    try:
        message = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise HandOverError from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise HandOverError
    if not message.keys() <= {"jsonrpc", "id", "method", "params"}:
        raise HandOverError
    if not isinstance(message.get("method"), str) or not isinstance(message.get("params", {}), dict):
        raise HandOverError
    if "id" in message and not is_id(message["id"]):
        raise HandOverError
    return message


def _refuse(_: str) -> None:
    raise HandOverError


def _listed(answers: dict[str, dict[str, Any]], method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request without parameters of its own. Raises HandOverError."""
    own = {name: value for name, value in params.items() if name != "_meta"}
    if method == "subscriptions/listen":
        wanted = own.pop("notifications", None)
        if not isinstance(wanted, dict) or not all(isinstance(flag, bool) for flag in wanted.values()):
            raise HandOverError
        if not wanted.keys() <= {"toolsListChanged", "promptsListChanged", "resourcesListChanged"}:
            raise HandOverError
    if own or method == "initialize" or method not in answers:
        raise HandOverError
    return answers[method]


def _meta(params: dict[str, Any]) -> dict[str, Any]:
    """What a request says of itself. Raises HandOverError where it is anything unusual."""
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise HandOverError
    for name, value in meta.items():
        if name in (_VERSION, _INFO, _CAPABILITIES):
            continue
        if name.startswith(_META) or (name == "progressToken" and not is_id(value)):
            raise HandOverError
        if not isinstance(value, str | int | float):
            raise HandOverError
    return meta


def _is_plain_meta(params: dict[str, Any]) -> bool:
    return not params.keys() - {"_meta"} and _VERSION not in _meta(params)


def is_id(value: object) -> bool:
    """Whether this is the id of a request."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_info(value: object) -> bool:
    """Whether this names a client beyond doubt; icons and the like are for the SDK to check."""
    if not isinstance(value, dict) or not {"name", "version"} <= value.keys():
        return False
    if not value.keys() <= {"name", "version", "title", "description", "websiteUrl"}:
        return False
    return all(isinstance(text, str) for text in value.values())


def _are_capabilities(value: object) -> bool:
    """Whether these are capabilities of a client beyond doubt: objects in objects, and `roots.listChanged`."""
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        return False
    for name, one in value.items():
        if name == "roots":
            if not (one.keys() <= {"listChanged"} and all(isinstance(flag, bool) for flag in one.values())):
                return False
        elif name in ("experimental", "extensions"):
            if not all(isinstance(settings, dict) for settings in one.values()):
                return False
        elif not _are_objects(one):
            return False
    return True


def _are_objects(value: object) -> bool:
    return isinstance(value, dict) and all(_are_objects(one) for one in value.values())
