"""Codex: registration of the MCP server and the skill."""
