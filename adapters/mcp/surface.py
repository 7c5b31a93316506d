"""The answers that depend on nothing: what the server can do, in every revision of the protocol.

They are made from the server itself (`bake`) and read from a file, because making them takes the whole SDK.
"""

import json
import os
import zlib
from typing import Any, NamedTuple

from session_mgmt_mcp import __version__

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "surface.json")

HANDSHAKE_REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")  # oldest first
ENVELOPE_REVISION = "2026-07-28"

# What clients ask before they need anything; `initialize` and `server/discover` each in their own era.
METHODS = (
    "ping",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "subscriptions/listen",
)


_PARAMS: dict[str, dict[str, Any]] = {"subscriptions/listen": {"notifications": {"toolsListChanged": True}}}


def params_of(method: str) -> dict[str, Any]:
    """Parameters a request of this method may have without a change in its answer."""
    return _PARAMS.get(method, {})


class Surface(NamedTuple):
    """By era and method what follows the id in the answer: {"result": …} or {"error": …}.

    `handshake` is the same for all revisions with one, but for the `protocolVersion` in the result of `initialize`.
    """

    version: str
    mark: str  # tells surfaces apart
    handshake: dict[str, dict[str, Any]]
    envelope: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, file: str = FILE) -> "Surface | None":
        """None where the file is missing, damaged or of another version: then the SDK answers everything."""
        try:
            with open(file, "rb") as stream:
                text = stream.read()
            stored = json.loads(text)
            surface = cls(
                stored["version"], f"{zlib.crc32(text):08x}", stored["handshake"], stored["envelope"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return surface if surface.version == __version__ else None


def answer_line(number: int | str, answer: dict[str, Any]) -> bytes:
    """The line that answers the request of this id."""
    message = {"jsonrpc": "2.0", "id": number, **answer}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
