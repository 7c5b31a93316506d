"""Any history as JSON lines: see FORMAT.md in this folder."""
