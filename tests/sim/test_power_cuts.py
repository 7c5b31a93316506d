"""Power cuts at random calls of random histories, on a simulated disk under the log's real code."""

import os

import pytest
from sim_bugs import BACKUP_BUGS, BUGS
from sim_history import BACKUPS, run_history
from sim_runs import reports

SEEDS = (1, 4)  # short histories: some 150 states
SEEDS_SLOW = 150  # 70 states each
SEEDS_OF_A_BUG = 60
JOBS = min(os.cpu_count() or 1, 4)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_state_a_power_cut_may_leave_recovers_to_what_was_acknowledged(seed: int) -> None:
    report = run_history(seed)
    assert report.wrong == []
    assert report.states > 0


@pytest.mark.slow
def test_ten_thousand_states_recover_to_what_was_acknowledged() -> None:
    found = list(reports(range(1000, 1000 + SEEDS_SLOW), JOBS))
    assert [what for report in found for what in report.wrong] == []
    assert sum(report.states for report in found) >= 10_000
    assert len(frozenset().union(*(report.distinct for report in found))) >= 6_000
    assert sum(report.acknowledged for report in found) >= 5_000


@pytest.mark.slow
@pytest.mark.parametrize("rule", BUGS)
def test_a_log_without_one_of_its_rules_is_caught(rule: str) -> None:
    assert any(report.wrong for report in reports(range(SEEDS_OF_A_BUG), JOBS, rule))


@pytest.mark.slow
@pytest.mark.parametrize("rule", BACKUP_BUGS)
def test_a_backup_without_one_of_its_rules_is_caught(rule: str) -> None:
    seeds = range(0, SEEDS_OF_A_BUG * BACKUPS, BACKUPS)  # those with backups
    assert any(report.wrong for report in reports(seeds, JOBS, rule))


@pytest.mark.parametrize("rule", list(BUGS)[:2])
def test_a_log_without_a_rule_of_acknowledging_is_caught_at_once(rule: str) -> None:
    assert any(run_history(seed, BUGS[rule]).wrong for seed in range(5))


@pytest.mark.slow
def test_a_history_is_the_same_whenever_it_is_run() -> None:
    assert run_history(1) == run_history(1)
