"""Tools that the server runs: Python functions, HTTP endpoints, MCP servers."""
