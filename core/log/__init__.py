"""The append-only log. `FORMAT.md` beside this file is the contract."""
