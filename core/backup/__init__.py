"""Backups of the log: content-addressed, incremental, restorable to any position. `FORMAT.md` is the contract."""
