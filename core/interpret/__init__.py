"""Pure functions from captured events to typed actions."""

from session_mgmt_mcp.core.interpret.dispatch import INTERPRETATION_VERSION, UNDECODABLE, interpret

__all__ = ["INTERPRETATION_VERSION", "UNDECODABLE", "interpret"]
