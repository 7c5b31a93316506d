"""The MCP server. Importing this package imports no SDK; `server` does."""
