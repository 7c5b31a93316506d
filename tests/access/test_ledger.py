"""What is told of comings and refusals: the first at once, the rest counted, all of it bounded."""

from session_mgmt_mcp.core.access import AccessError, Principal, Role
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.errors import AppendError
from session_mgmt_mcp.core.events import AccessDenied, AccessGranted
from session_mgmt_mcp.tools.access_audit import AccessAudit, Payload
from session_mgmt_mcp.tools.access_ledger import (
    ADDRESSES_MAX,
    AT_ONCE_MAX,
    FLUSH_S,
    FLUSHED_MAX,
    GRANTED_AGAIN_S,
    KINDS_MAX,
    Ledger,
    network_of,
)

MIRA = Principal("mira", Role.READER, "id-1", frozenset({"search"}), None)
UNKNOWN = AccessError("no", status=401, reason="unknown_key")


def test_a_key_is_told_of_once_an_hour_and_address() -> None:
    ledger = Ledger(0)
    assert ledger.granted(MIRA, "192.0.2.1", 1) is not None
    assert ledger.granted(MIRA, "192.0.2.1", GRANTED_AGAIN_S) is None
    assert ledger.granted(MIRA, "192.0.2.2", 2) is not None
    said = ledger.granted(MIRA, "192.0.2.1", 1 + GRANTED_AGAIN_S)
    assert said is not None
    assert (said.actor, said.payload) == ("mira", AccessGranted("id-1", "192.0.2.1"))


def test_refusals_are_told_first_at_once_then_counted_by_the_minute() -> None:
    ledger = Ledger(0)
    first = ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp")
    assert first is not None
    assert (first.actor, first.payload) == ("unknown", AccessDenied("unknown_key", "192.0.2.1", "mcp"))
    assert [ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp") for _ in range(500)] == [None] * 500
    assert ledger.due(FLUSH_S - 1) == []
    (summed,) = ledger.due(FLUSH_S)
    assert summed.payload == AccessDenied("unknown_key", "192.0.2.1", "mcp", count=500)
    assert ledger.due(2 * FLUSH_S) == []


def test_what_goes_on_is_told_once_a_minute_and_what_stopped_begins_anew() -> None:
    ledger = Ledger(0)
    ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp")
    ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp")
    assert len(ledger.flush(60)) == 1
    assert ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp") is None
    assert len(ledger.flush(120)) == 1
    assert ledger.flush(180) == []
    assert ledger.denied(UNKNOWN, "192.0.2.1", None, "mcp") is not None


def test_an_attack_from_many_addresses_writes_and_holds_a_bounded_amount() -> None:
    ledger = Ledger(0)
    at_once = [
        ledger.denied(UNKNOWN, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", None, "mcp") for n in range(5000)
    ]
    told = [said for said in at_once if said is not None]
    assert len(told) == AT_ONCE_MAX
    flushed = ledger.flush(60)
    assert len(flushed) <= FLUSHED_MAX + 1
    counts = [said.payload.count for said in (*told, *flushed) if isinstance(said.payload, AccessDenied)]
    assert sum(counts) == 5000
    assert len(ledger._denied) <= KINDS_MAX + 1


def test_a_user_from_many_addresses_is_bounded_too() -> None:
    ledger = Ledger(0)
    told = [ledger.granted(MIRA, f"10.0.{n >> 8}.{n & 255}", 1) for n in range(ADDRESSES_MAX + 50)]
    assert sum(said is not None for said in told) == AT_ONCE_MAX
    assert len(ledger._granted_at) <= ADDRESSES_MAX


def test_ipv6_counts_by_network_and_odd_addresses_are_cut() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("::1") == "::1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("x\n" * 500) == "x" * 64


def test_a_refusal_within_the_service_has_the_address_of_the_keys_last_use() -> None:
    ledger = Ledger(0)
    ledger.granted(MIRA, "192.0.2.9", 1)
    said = ledger.denied(AccessError("no", reason="role"), "", MIRA, "forget")
    assert said is not None
    assert said.payload == AccessDenied("role", "192.0.2.9", "forget", "id-1")
    assert said.actor == "mira"


# -- the thread ------------------------------------------------------------------------------------------------------


def test_what_was_noted_is_appended_and_counts_are_written_at_the_end() -> None:
    kept: list[tuple[str, Payload, str]] = []
    audit = AccessAudit(lambda kind, payload, actor: kept.append((str(kind), payload, actor)))
    audit.start()
    audit.authenticated(MIRA, "192.0.2.1")
    for _ in range(3):
        audit.denied(UNKNOWN, "192.0.2.2", None, "mcp")
    audit.close()
    assert kept == [
        (EventType.ACCESS_GRANTED, AccessGranted("id-1", "192.0.2.1"), "mira"),
        (EventType.ACCESS_DENIED, AccessDenied("unknown_key", "192.0.2.2", "mcp"), "unknown"),
        (EventType.ACCESS_DENIED, AccessDenied("unknown_key", "192.0.2.2", "mcp", count=2), "unknown"),
    ]


def test_a_log_that_cannot_be_written_stops_no_request() -> None:
    def broken(*_: object) -> None:
        raise AppendError("disk full")

    audit = AccessAudit(broken)
    audit.start()
    audit.authenticated(MIRA, "192.0.2.1")
    audit.denied(UNKNOWN, "192.0.2.2", None, "mcp")
    audit.close()
    audit.authenticated(MIRA, "192.0.2.3")
