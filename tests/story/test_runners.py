"""Which commands are tests, checks, commits and changes taken back."""

import pytest

from session_mgmt_mcp.projections.runners import Recognised, recognise
from session_mgmt_mcp.projections.shell import simple_commands


def kinds(command: str) -> list[str]:
    return [recognise(simple).kind for simple in simple_commands(command)]


@pytest.mark.parametrize(
    "command",
    [
        "pytest", "python -m pytest -k x", "python -m unittest discover", "python manage.py test shop", "tox -e py311",
        "uv run --extra test pytest", "go test ./...", "gotestsum ./...", "cargo test", "cargo nextest run", "npx jest",
        "npx vitest run", "npm test", "npm t", "npm run test:unit", "yarn test", "pnpm run test", "pnpm test", "bun test",
        "deno test -A", "make test", "make check", "make -C sub test", "mise run test", "mise test", "just test",
        "task test", "rake spec", "bundle exec rspec", "vendor/bin/phpunit", "./gradlew test", "mvn verify", "dotnet test",
        "mix test", "swift test", "flutter test", "ctest --output-on-failure", "bats test/", "npx playwright test",
        "./run_tests.sh", "bash scripts/test-all.sh", "python test_app.py", "node --experimental-vm-modules test.js",
        "bazel test //...", "poetry run pytest",
    ],
)  # fmt: skip
def test_tests_are_recognised(command: str) -> None:
    assert kinds(command) == ["test"]


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ruff check .", "lint"), ("golangci-lint run ./...", "lint"), ("npx eslint src", "lint"), ("go vet ./...", "lint"),
        ("cargo clippy", "lint"), ("mise run lint", "lint"), ("npm run lint", "lint"), ("pre-commit run -a", "lint"),
        ("npm run check", "lint"), ("ruff format --check", "lint"), ("gofmt -l .", "lint"), ("mise run fmt:check", "lint"),
        ("mypy", "types"), ("npx tsc --noEmit", "types"), ("npm run typecheck", "types"), ("cargo check", "types"),
        ("go build ./...", "build"), ("npm run build", "build"), ("cargo build --release", "build"), ("make", "build"),
        ("go test -c ./pkg", "build"), ("ruff format .", "format"), ("mise run fmt", "format"), ("black .", "format"),
        ("git commit -m x", "commit"), ("git -C /r commit --amend", "commit"), ("git push origin main", "push"),
        ("git checkout -- a.py", "revert"), ("git checkout HEAD -- a.py", "revert"), ("git restore a.py", "revert"),
        ("git revert abc", "revert"), ("git reset --hard", "revert"), ("git restore --staged a.py", "other"),
        ("git checkout main", "other"), ("git commit --dry-run", "other"), ("git revert --abort", "other"),
        ("git status", "look"), ("cat test.log", "look"), ("grep -rn pytest .", "look"), ("pytest --version", "look"),
        ("pytest --collect-only", "look"), ("gh pr view 3", "look"), ("gh pr create", "other"), ("npm install", "other"),
        ("./app-test enable", "other"), ("./test-harness.sh setup", "other"), ("python -c 'import pytest'", "other"),
        ("docker compose up", "other"),
    ],
)  # fmt: skip
def test_other_commands_are_what_they_are(command: str, kind: str) -> None:
    assert kinds(command) == [kind]


@pytest.mark.parametrize(
    ("command", "whole"),
    [
        ("pytest", True), ("pytest -q", True), ("pytest tests", True), ("pytest tests/test_a.py", False),
        ("pytest -k name", False), ("go test ./...", True), ("go test ./... -run TestA", False), ("go test ./a", False),
        ("npm test", True), ("npm test -- -t name", False), ("mise run test", True), ("cargo test", True),
        ("cargo test name", False),
    ],
)  # fmt: skip
def test_a_run_that_a_path_or_a_pattern_narrows_is_not_a_whole_one(command: str, whole: bool) -> None:
    [simple] = simple_commands(command)
    assert recognise(simple).whole is whole


def test_runs_are_told_apart_by_their_runner() -> None:
    assert recognise(simple_commands("mise run test:integration -- -run X")[0]) == Recognised(
        "test", "mise test:integration", False
    )
