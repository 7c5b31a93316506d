"""The ten tools: which there are, what a model is told of them, and what they may do."""

from collections.abc import Callable
from typing import Any

from mcp_types import ToolAnnotations

from session_mgmt_mcp.adapters.mcp import tools_find, tools_keep, tools_life
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices

Row = tuple[Callable[..., str], str, str, ToolAnnotations]
# Every model pays for these in every session, and few come near a bound: who goes beyond one is told it.
UNTOLD = ("title", "default", "minimum", "maximum", "minLength", "maxLength", "maxItems")
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def _writes(*, destroys: bool = False, again: bool = False) -> ToolAnnotations:
    """`again`: calling it a second time with the same arguments changes nothing more. What is left out is false."""
    return ToolAnnotations(destructive_hint=destroys, idempotent_hint=again or None, open_world_hint=False)


def table(services: LazyServices) -> list[Row]:
    """Each tool's function, title, description and annotations, in the order of a session's life."""
    life = tools_life.LifeTools(services)
    find = tools_find.FindTools(services)
    keep = tools_keep.KeepTools(services)
    return [
        (life.start, "Start a session", tools_life.START, READS),
        (life.checkpoint, "Mark where a session stands", tools_life.CHECKPOINT, _writes()),
        (life.end, "End a session", tools_life.END, _writes()),
        (life.status, "Status", tools_life.STATUS, READS),
        (find.search, "Search history", tools_find.SEARCH, READS),
        (find.timeline, "Read history", tools_find.TIMELINE, READS),
        (keep.remember, "Remember", tools_keep.REMEMBER, _writes()),
        (keep.forget, "Forget for good", tools_keep.FORGET, _writes(destroys=True, again=True)),
        (keep.permissions, "Permissions", tools_keep.PERMISSIONS, _writes()),
        (find.audit, "Who did what", tools_find.AUDIT, READS),
    ]


def slim(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema in fewer tokens: no titles, no null alternatives, no defaults, no bounds; closed to unknown arguments.

    All bounds hold, and what goes beyond one is told it.
    """
    properties = {name: _slim_property(value) for name, value in schema.get("properties", {}).items()}
    required = {"required": schema["required"]} if schema.get("required") else {}
    return {"type": "object", "properties": properties, **required, "additionalProperties": False}


def _slim_property(schema: dict[str, Any]) -> dict[str, Any]:
    slimmed = {k: v for k, v in schema.items() if k not in (*UNTOLD, "anyOf")}
    if "anyOf" in schema:
        (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        slimmed = _slim_property({**only, **slimmed})
    if "items" in slimmed:
        slimmed["items"] = _slim_property(slimmed["items"])
    return slimmed
