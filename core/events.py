"""Payloads of the log's own events. Captured events carry the assistant's bytes instead."""

import msgspec


class ReflectionStored(msgspec.Struct, frozen=True):
    """Something a person or an assistant asked to remember."""

    text: str
    tags: tuple[str, ...] = ()
    project: str = ""  # working folder it was said in
    session: str = ""  # the assistant's session, where known


class PayloadForgotten(msgspec.Struct, frozen=True):
    """Payloads taken out of the log afterwards; ids and action keys stay as tombstones."""

    positions: tuple[int, ...]
    event_ids: tuple[str, ...]  # hex
    action_keys: tuple[str, ...]
    reason: str = ""
