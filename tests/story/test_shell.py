"""What a shell call's text runs, and whose exit status the call's is."""

import pytest

from session_mgmt_mcp.projections.runners import recognise
from session_mgmt_mcp.projections.shell import command_of, simple_commands

HEREDOC = """git add a.py && git commit -m "$(cat <<'EOF'
Fix the parser; pytest && lint were green

More.
EOF
)" && git push"""


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("pytest -q\nRun the tests\ntimeout: 60000", "pytest -q"),
        ("pytest -q\ntimeout: 60000\nRun the tests", "pytest -q"),
        ("Run the tests\npytest -q", "pytest -q"),
        ("cd a\npytest -q\nCheck all", "cd a\npytest -q"),
        ("FOO=1\nexport FOO", "FOO=1\nexport FOO"),
        ("make", "make"),
    ],
)
def test_a_calls_description_is_not_part_of_its_command(text: str, command: str) -> None:
    assert command_of(text) == command


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (
            "cd x && FOO=1 uv run -q --with a pytest -q tests/a.py 2>&1 | tail -20",
            ["pytest -q tests/a.py", "tail -20"],
        ),
        ("timeout 60 python3 -m pytest -x; echo $?", ["pytest -x", "echo $?"]),
        ("(cd web; npx jest --ci)", ["jest --ci"]),
        ("go test ./a -run 'A|B && C' > out.txt 2>&1", ["go test ./a -run A|B && C"]),
        ("sudo nice -n 10 make test", ["make test"]),
        ("if true; then pytest; fi", ["true", "pytest", "fi"]),
        ("ruff check . \\\n  && mypy", ["ruff check .", "mypy"]),
        ("poetry run python -m unittest", ["unittest"]),
        ("cat <<EOF > a.sh\npytest\nEOF\nmake", ["cat", "make"]),
        ("echo 'unclosed", ["echo 'unclosed"]),
        ("", []),
        ("# nothing", []),
    ],
)
def test_wrappers_folders_and_redirections_are_left_out(command: str, lines: list[str]) -> None:
    assert [simple.line for simple in simple_commands(command)] == lines


def test_text_in_a_here_document_or_quotes_runs_nothing() -> None:
    assert [recognise(simple).kind for simple in simple_commands(HEREDOC)] == ["look", "commit", "push"]


def test_only_a_command_whose_failure_is_the_lines_answers_for_the_exit_status() -> None:
    def decides(command: str) -> dict[str, tuple[bool, bool]]:
        return {s.words[0]: (s.decides, s.alone) for s in simple_commands(command)}

    assert decides("pytest") == {"pytest": (True, True)}
    assert decides("cd a && pytest") == {"pytest": (True, True)}
    assert decides("ruff && pytest") == {"ruff": (True, False), "pytest": (True, False)}
    assert decides("ruff && pytest | tail") == {
        "ruff": (True, True),
        "pytest": (False, False),
        "tail": (True, False),
    }
    assert decides("pytest; ls") == {"pytest": (False, False), "ls": (True, True)}
    assert decides("pytest || true")["pytest"] == (False, False)
    assert decides("pytest &")["pytest"] == (False, False)


def test_the_folder_a_command_runs_in_is_known() -> None:
    assert [s.folder for s in simple_commands("cd /tmp && mkdir x && cd x && git commit -m a")] == [
        "/tmp",
        "/tmp/x",
    ]


def test_an_endless_command_is_read_up_to_a_bound() -> None:
    assert len(simple_commands("make; " * 10_000)) == 60
    assert len(command_of("x" * 1_000_000)) == 20_000
