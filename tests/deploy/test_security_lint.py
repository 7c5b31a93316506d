"""What bandit says of the package: nothing but what is looked at and explained here."""

import json

import pytest
from docker_kit import ROOT, program, run

# Whole classes: a finding of these says nothing that could be wrong here.
CLASSES = {
    "B101": "assert states what the types cannot; nothing relies on it to refuse input",
    "B311": "random numbers of jitter and load tests, no secrets: those come from `secrets` and the system",
    "B404": "subprocess is imported where programs are started",
    "B603": "programs are started with a list of words, without a shell",
    "B606": "as B603",
    "B607": "git and the pager are found on PATH, as the user has it",
    "B608": "SQL is put together of constants of ours; every value from outside is a parameter",
}
# Single ones, by file.
EXPLAINED = {
    ("B104", "core/config_table.py"): "compared with, not bound to: a wildcard asks for keys",
    ("B108", "projections/shell_work.py"): "a name looked for in commands that others ran",
    ("B301", "projections/workers.py"): "what a child process of our own sends through a pipe",
    ("B403", "projections/workers.py"): "as B301",
    ("B323", "deploy/scripts/probe.py"): "asks the same machine, by an address the certificate need not name",
}


@pytest.mark.slow
def test_bandit_finds_nothing_that_is_not_explained() -> None:
    done = run(
        program("bandit"), "--quiet", "--recursive", "--format", "json",
        "core", "projections", "adapters", "tools", "src", "deploy", cwd=ROOT, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["errors"] == []
    found = {(each["test_id"], each["filename"], each["line_number"]) for each in report["results"]}
    open_ones = {
        (rule, file, line)
        for rule, file, line in found
        if rule not in CLASSES and (rule, file) not in EXPLAINED
    }
    assert open_ones == set()
    # and what is explained is still there
    assert set(EXPLAINED) <= {(rule, file) for rule, file, _ in found}
