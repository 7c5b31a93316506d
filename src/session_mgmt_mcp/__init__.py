"""Memory and history for AI coding assistants, on an append-only event log.

This file stays empty of imports: a hook pays for every one of them.
"""

__version__ = "0.1.0"
