"""MCP server on stdio."""
