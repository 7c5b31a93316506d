"""Asking too often, and trying keys out."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.http.guessing import PLACE_TRIES, TRIES, SlowedGuessing
from session_mgmt_mcp.adapters.http.rate import Buckets, RateLimit
from session_mgmt_mcp.core.access import AccessError, Principal, Role
from session_mgmt_mcp.core.config_table import ServiceSettings

RIGHT = "Bearer smk_good_" + "r" * 43
MIRA = Principal("mira", Role.WRITER, "good", frozenset({"search"}), None)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class OneKey:
    """Knows one key, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.right = RIGHT

    def authenticate(self, authorization: str | None, address: str) -> Principal:
        self.asked += 1
        if authorization == self.right:
            return MIRA
        raise AccessError("not known", status=401, reason="unknown_key" if authorization else "no_key")


def refusal(guard: SlowedGuessing, shown: str | None, address: str = "192.0.2.7") -> AccessError | None:
    try:
        guard.authenticate(shown, address)
    except AccessError as error:
        return error
    return None


def asked(limit: RateLimit, principal: Principal | None) -> AccessError | None:
    async def go() -> None:
        await limit({"type": "http", "state": {"principal": principal}}, None, None)

    try:
        asyncio.run(go())
    except AccessError as error:
        return error
    return None


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    scope["state"]["served"] = True


def limited(clock: Clock, **settings: int) -> RateLimit:
    chosen = ServiceSettings(**settings)  # type: ignore[arg-type]
    return RateLimit(nothing, lambda: chosen, clock)


def test_a_principal_that_asks_too_often_is_told_when_to_come_again() -> None:
    clock = Clock()
    limit = limited(clock, rate_limit=60, rate_burst=3)
    assert [asked(limit, MIRA) for _ in range(3)] == [None] * 3
    error = asked(limit, MIRA)
    assert error is not None and (error.status, error.reason, error.retry_after_s) == (429, "rate", 1)
    clock.now += 1
    assert asked(limit, MIRA) is None


def test_one_principal_takes_nothing_from_another() -> None:
    limit = limited(Clock(), rate_limit=1, rate_burst=1)
    assert asked(limit, MIRA) is None
    assert asked(limit, MIRA) is not None
    assert asked(limit, MIRA._replace(name="noor")) is None


def test_two_keys_of_a_principal_share_its_limit() -> None:
    limit = limited(Clock(), rate_limit=1, rate_burst=1)
    assert asked(limit, MIRA) is None
    assert asked(limit, MIRA._replace(key_id="other")) is not None


def test_the_owner_at_the_machine_is_not_limited() -> None:
    limit = limited(Clock(), rate_limit=1, rate_burst=1)
    assert [asked(limit, None) for _ in range(5)] == [None] * 5


def test_buckets_of_a_million_strangers_take_bounded_memory() -> None:
    buckets = Buckets(Clock(), keys_max=100)
    for number in range(10_000):
        buckets.take(str(number), 1, 1)
    assert len(buckets) == 100


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60), st.integers(1, 5))
def test_no_pattern_of_asking_gets_more_than_burst_and_rate(
    steps: list[tuple[float, bool]], burst: int
) -> None:
    clock = Clock()
    began = clock.now
    buckets = Buckets(clock)
    granted = 0
    for pause, peek in steps:
        clock.now += pause
        if peek:
            buckets.wait_s("key", 2, burst)
        elif buckets.take("key", 2, burst) == 0:
            granted += 1
    assert granted <= burst + 2 * (clock.now - began) + 1e-6


def test_a_wait_that_was_told_is_enough() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    buckets.take("key", 0.5, 1)
    wait_s = buckets.take("key", 0.5, 1)
    clock.now += wait_s
    assert buckets.take("key", 0.5, 1) == 0


def test_wrong_secrets_for_a_key_are_soon_not_even_looked_at() -> None:
    inner = OneKey()
    guard = SlowedGuessing(inner, Clock())
    found = [refusal(guard, f"Bearer smk_good_{number:043}") for number in range(TRIES + 5)]
    assert [error.status for error in found if error] == [401] * TRIES + [429] * 5
    assert inner.asked == TRIES
    assert found[-1] is not None and found[-1].retry_after_s == 5


def test_guessing_goes_on_slowly_after_a_wait() -> None:
    clock = Clock()
    guard = SlowedGuessing(OneKey(), clock)
    for number in range(TRIES + 1):
        error = refusal(guard, f"Bearer smk_good_{number:043}")
    assert error is not None and error.retry_after_s is not None
    clock.now += error.retry_after_s
    statuses = [getattr(refusal(guard, f"Bearer smk_good_x{n:042}"), "status", 0) for n in range(3)]
    assert statuses == [401, 429, 429]


def test_a_right_key_is_not_locked_out_by_others_behind_the_same_proxy() -> None:
    guard = SlowedGuessing(OneKey(), Clock())
    for number in range(1000):
        refusal(guard, f"Bearer smk_id{number}_{number:043}")
        refusal(guard, "Bearer nonsense")
    assert refusal(guard, RIGHT) is None


def test_a_key_in_use_stays_in_use_while_somebody_guesses_its_secret_from_the_same_address() -> None:
    guard = SlowedGuessing(OneKey(), Clock())
    assert refusal(guard, RIGHT) is None
    for number in range(1000):
        refusal(guard, f"Bearer smk_good_{number:043}")
    assert refusal(guard, RIGHT) is None


def test_a_key_that_was_right_is_refused_once_it_is_revoked() -> None:
    inner = OneKey()
    guard = SlowedGuessing(inner, Clock())
    assert refusal(guard, RIGHT) is None
    inner.right = "Bearer another"
    error = refusal(guard, RIGHT)
    assert error is not None and error.status == 401


def test_an_admin_key_of_another_form_is_not_locked_out_either() -> None:
    inner = OneKey()
    inner.right = "Bearer " + "a1" * 32
    guard = SlowedGuessing(inner, Clock())
    for number in range(1000):
        refusal(guard, f"Bearer {number:064}")
    assert refusal(guard, inner.right) is None


def test_a_flood_of_wrong_keys_from_one_place_is_told_to_wait() -> None:
    guard = SlowedGuessing(OneKey(), Clock())
    found = [refusal(guard, f"Bearer smk_id{n}_{n:043}") for n in range(PLACE_TRIES + 10)]
    assert [error.status for error in found[-10:] if error] == [429] * 10


def test_the_addresses_of_one_ipv6_network_are_one_place() -> None:
    inner = OneKey()
    guard = SlowedGuessing(inner, Clock())
    for number in range(TRIES + 10):
        refusal(guard, f"Bearer smk_good_{number:043}", f"2001:db8:1:2::{number:x}")
    assert inner.asked == TRIES
    assert refusal(guard, f"Bearer smk_good_{0:043}", "2001:db8:1:3::1").status == 401  # type: ignore[union-attr]


def test_asking_without_a_key_stays_an_invitation_to_show_one() -> None:
    guard = SlowedGuessing(OneKey(), Clock())
    assert {getattr(refusal(guard, None), "status", 0) for _ in range(500)} == {401}


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "Bearer smk__", "\udcff", "Bearer \x00"]
)
def test_malformed_credentials_are_refused_and_soon_made_to_wait(shown: str) -> None:
    guard = SlowedGuessing(OneKey(), Clock())
    statuses = [getattr(refusal(guard, shown), "status", 0) for _ in range(TRIES + 1)]
    assert statuses == [401] * TRIES + [429]
