"""The service's HTTP side: what stands in front of the MCP server's app, and the small endpoints beside it.

It knows neither MCP nor the tools: what it needs of them comes through `ports`.
"""
