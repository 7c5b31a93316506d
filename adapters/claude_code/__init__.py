"""Claude Code: hooks, transcripts, settings."""
