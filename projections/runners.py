"""Which commands run tests, linters, type checkers and builds, and which change a repository."""

import re
from typing import Literal, NamedTuple

from session_mgmt_mcp.projections.shell import Simple

Kind = Literal["test", "lint", "types", "build", "commit", "revert", "push", "format", "other", "look"]


class Recognised(NamedTuple):
    """What a simple command is. `runner`: the name runs of one kind are told apart by, such as `go test`."""

    kind: Kind
    runner: str
    whole: bool = False  # it runs everything: no path, no pattern narrows it


# By the program's name alone
_PROGRAMS: dict[str, Kind] = {
    **dict.fromkeys(
        ("pytest", "py.test", "unittest", "nose2", "tox", "nox", "jest", "vitest", "mocha", "ava", "rspec", "phpunit",
         "pest", "ctest", "bats", "gotestsum", "ginkgo", "karma", "behave", "busted", "minitest", "testem", "pytest-3"),
        "test",
    ),
    **dict.fromkeys(
        ("flake8", "pylint", "eslint", "golangci-lint", "staticcheck", "shellcheck", "rubocop", "hadolint", "stylelint",
         "markdownlint", "pre-commit", "knip", "tflint", "yamllint", "actionlint", "lint-imports", "bandit", "ktlint",
         "swiftlint", "oxlint", "credo", "phpcs", "phpstan", "vulture", "codespell", "standard", "xo", "detekt"),
        "lint",
    ),
    **dict.fromkeys(("mypy", "pyright", "basedpyright", "tsc", "pyre", "ty", "flow", "vue-tsc", "pytype", "psalm"), "types"),
    **dict.fromkeys(("ninja", "tsup", "webpack", "rollup", "esbuild"), "build"),
}  # fmt: skip
# By the program and its first words
_SUBCOMMANDS: dict[tuple[str, str], Kind] = {
    ("go", "test"): "test", ("cargo", "test"): "test", ("cargo", "nextest"): "test", ("deno", "test"): "test",
    ("bun", "test"): "test", ("dotnet", "test"): "test", ("mix", "test"): "test", ("swift", "test"): "test",
    ("flutter", "test"): "test", ("dart", "test"): "test", ("playwright", "test"): "test", ("cypress", "run"): "test",
    ("bazel", "test"): "test", ("artisan", "test"): "test", ("rails", "test"): "test", ("ng", "test"): "test",
    ("stack", "test"): "test", ("cabal", "test"): "test", ("sbt", "test"): "test", ("lein", "test"): "test",
    ("meson", "test"): "test", ("forge", "test"): "test", ("react-scripts", "test"): "test", ("zig", "test"): "test",
    ("go", "vet"): "lint", ("ruff", "check"): "lint", ("cargo", "clippy"): "lint", ("biome", "check"): "lint",
    ("biome", "lint"): "lint", ("biome", "ci"): "lint", ("deno", "lint"): "lint", ("next", "lint"): "lint",
    ("buf", "lint"): "lint", ("terraform", "validate"): "lint", ("helm", "lint"): "lint", ("ng", "lint"): "lint",
    ("dart", "analyze"): "lint", ("flutter", "analyze"): "lint",
    ("cargo", "check"): "types", ("deno", "check"): "types",
    ("go", "build"): "build", ("cargo", "build"): "build", ("docker", "build"): "build", ("dotnet", "build"): "build",
    ("next", "build"): "build", ("vite", "build"): "build", ("go", "install"): "build", ("swift", "build"): "build",
    ("bazel", "build"): "build", ("cmake", "--build"): "build", ("mix", "compile"): "build", ("zig", "build"): "build",
}  # fmt: skip
# Tools that run what a project names: the name says what it is
_TASK_RUNNERS = {
    "npm": ("run", "run-script"), "yarn": ("run", ""), "pnpm": ("run", ""), "bun": ("run",), "deno": ("task",),
    "mise": ("run", "r", ""), "make": ("",), "gmake": ("",), "just": ("",), "task": ("",), "rake": ("",), "nx": ("run", ""),
    "turbo": ("run", ""), "mvn": ("",), "mvnw": ("",), "gradle": ("",), "gradlew": ("",), "composer": ("run", ""),
    "hatch": ("",), "invoke": ("",), "inv": ("",), "poe": ("",), "lerna": ("run",), "moon": ("run",), "ant": ("",),
    "manage.py": ("",), "setup.py": ("",), "zig": ("build",),
}  # fmt: skip
_SCRIPT_RUNNERS = frozenset(("npm", "yarn", "pnpm", "bun", "composer"))
_FORMATTING = frozenset(("fmt", "format", "prettier", "black"))
_TASKS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"type-?checks?|types?|tsc|mypy|pyright"), "types"),
    (re.compile(r"lint(ing|er)?|eslint|vet|clippy|checkstyle|ruff"), "lint"),
    (
        re.compile(r"t|tests?|spec|specs|e2e|unit|integration|check|verify|pytest|jest|vitest|coverage"),
        "test",
    ),
    (re.compile(r"build|compile|package|assemble|dist|bundle|install"), "build"),
)
_SCRIPT = re.compile(
    r"(?!.*(?:harness|helper|fixture|setup|data|repo))"
    r"(?:(?:run[-_])?tests?(?:[-_][\w-]+)?\.(?:sh|py|m?js|ts|rb|pl|php)|(?:run[-_])?tests?|runtests?(?:\.\w+)?"
    r"|[\w-]+[-_]tests?\.(?:sh|py|m?js|ts|rb|pl|php))"
)
_INTERPRETERS = frozenset(
    ("bash", "sh", "zsh", "python", "python3", "node", "ruby", "php", "deno", "bun", "tsx")
)
_LOOKS = frozenset(
    ("ls", "cat", "head", "tail", "grep", "egrep", "fgrep", "rg", "ag", "find", "fd", "wc", "echo", "printf", "pwd", "which",
     "type", "file", "stat", "tree", "less", "more", "sed", "awk", "sort", "uniq", "cut", "diff", "jq", "yq", "date", "env",
     "true", "false", "sleep", "test", "[", "[[", "du", "df", "ps", "whoami", "uname", "basename", "dirname", "realpath",
     "export", "set", "unset", "source", ".", "cd", "man", "tr", "xargs", "tee", "hexdump", "xxd", "nl", "column", "readlink",
     "for", "done", "fi", "esac", "case", "}", ")", "history", "wait", "kill", "pkill", "pgrep", "lsof", "open", "id", "touch",
     "strings", "od", "cmp", "comm", "seq", "read", "local", "return", "mktemp", "md5sum", "sha256sum", "shasum")
)  # fmt: skip
_GIT_LOOKS = frozenset(
    ("status", "log", "diff", "show", "branch", "remote", "rev-parse", "ls-files", "ls-tree", "blame", "grep", "describe",
     "config", "reflog", "cat-file", "fetch", "add", "merge-base", "rev-list", "shortlog", "for-each-ref", "worktree",
     "check-ignore", "show-ref", "name-rev", "ls-remote", "symbolic-ref", "stash", "tag", "count-objects", "notes")
)  # fmt: skip
_CHECK_ONLY = frozenset(("black", "isort", "prettier", "gofmt", "rustfmt"))
_LOOK_OPTIONS = frozenset(
    ("--version", "--help", "-h", "-V", "version", "help", "--collect-only", "--list", "-list")
)


def recognise(command: Simple) -> Recognised:
    """What a simple command is for; `look` where it changes and checks nothing, `other` where that cannot be told."""
    words = command.words
    program = command.program
    if program == "git":
        return _git(words)
    if program in _LOOKS or any(w in _LOOK_OPTIONS for w in words[1:3]):
        return Recognised("look", program)
    if program == "gh":
        return Recognised("other" if _gh_changes(words) else "look", "gh")
    arguments = _bare(words[1:])
    first = arguments[0] if arguments else ""
    if program in _PROGRAMS:
        return _run(_PROGRAMS[program], program, arguments if first != "run" else arguments[1:], words)
    if kind := _SUBCOMMANDS.get((program, first)):
        if kind == "test" and program == "go" and "-c" in words:
            kind = "build"
        return _run(kind, f"{program} {first}", arguments[1:], words)
    if program in _CHECK_ONLY or (program, first) in (
        ("ruff", "format"),
        ("cargo", "fmt"),
        ("biome", "format"),
    ):
        checks = any(
            w in ("--check", "--check-only", "-l", "-d", "--diff", "--list-different") for w in words
        )
        return Recognised("lint" if checks else "format", program, True)
    if program in _TASK_RUNNERS:
        return _task(program, arguments, words)
    return _script(program, arguments, words)


def _bare(words: tuple[str, ...]) -> list[str]:
    """Words that are neither options nor what belongs to the commonest of them."""
    out: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in (
                "-C",
                "--prefix",
                "-p",
                "-f",
                "-n",
                "--filter",
                "-w",
                "--workspace",
                "--cwd",
                "--dir",
                "-m",
                "-k",
            )
        else:
            out.append(word)
    return out


_NARROWING = re.compile(
    r"-(?:k|run|t|m|g|-filter|-grep|-testNamePattern|-test|-name|-lf|-last-failed|-bench)(?:=|$)"
)


def _run(kind: Kind, runner: str, arguments: list[str], words: tuple[str, ...]) -> Recognised:
    narrow = any(a not in (".", "./...", "...", "tests", "test", "src", "tests/", "./") for a in arguments)
    return Recognised(kind, runner, not narrow and not any(_NARROWING.match(w) for w in words))


def _task(program: str, arguments: list[str], words: tuple[str, ...]) -> Recognised:
    """`npm run test:unit`, `make check`, `mise run lint`: told by the task's name."""
    leads = _TASK_RUNNERS[program]
    if arguments and arguments[0] in leads:
        arguments = arguments[1:]
    elif arguments and "" not in leads and not (program == "npm" and arguments[0] in ("test", "t", "tst")):
        return Recognised("other", f"{program} {arguments[0]}")
    name = arguments[0] if arguments else ""
    if not name:
        return Recognised("build" if program in ("make", "gmake", "ninja") else "other", program, True)
    parts = [p for p in re.split(r"[:._/-]+", name.lower()) if p]
    if program in _SCRIPT_RUNNERS and name in (
        "install",
        "i",
        "ci",
        "add",
        "publish",
    ):
        return Recognised("other", f"{program} {name}")
    if parts[0] in _FORMATTING:
        return Recognised("lint" if "check" in parts else "format", f"{program} {name}", True)
    if parts[0] == "check" and program in _SCRIPT_RUNNERS:  # there it rarely means tests
        return Recognised("lint", f"{program} {name}", len(arguments) == 1)
    for pattern, kind in _TASKS:
        if pattern.fullmatch(name.lower()) or any(pattern.fullmatch(p) for p in (parts[0], parts[-1])):
            return Recognised(kind, f"{program} {name}", len(arguments) == 1 and "--" not in words)
    return Recognised("other", f"{program} {name}")


def _script(program: str, arguments: list[str], words: tuple[str, ...]) -> Recognised:
    """A script that is named after tests, as `./run_tests.sh` or `bash scripts/test.sh`."""
    if program in _INTERPRETERS and any(w in ("-c", "-e", "-p", "-") for w in words[1:3]):
        return Recognised("other", f"{program} {words[1]}")
    if program in _INTERPRETERS and arguments:
        script = arguments[0].rsplit("/", 1)[-1]
        if script in ("manage.py", "artisan", "setup.py") and arguments[1:2] == ["test"]:
            return Recognised("test", f"{script} test", len(arguments) == 2)
    else:
        script = program
    if _SCRIPT.fullmatch(script):
        return Recognised("test", script, len(arguments) <= 1)
    return Recognised("other", script)


def _git(words: tuple[str, ...]) -> Recognised:
    arguments = list(words[1:])
    while arguments and arguments[0].startswith("-"):
        arguments = (
            arguments[2:] if arguments[0] in ("-C", "-c", "--git-dir", "--work-tree") else arguments[1:]
        )
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "commit" and "--dry-run" not in rest:
        return Recognised("commit", "git commit")
    if verb == "push" and "--dry-run" not in rest and "-n" not in rest:
        return Recognised("push", "git push")
    if _takes_back(verb, rest):
        return Recognised("revert", f"git {verb}")
    return Recognised("look" if verb in _GIT_LOOKS or verb == "" else "other", f"git {verb}".strip())


def _takes_back(verb: str, rest: list[str]) -> bool:
    """Whether it throws changes away: files brought back, commits reverted, a hard reset."""
    if verb == "revert":
        return not any(w in ("--abort", "--continue", "--skip", "--quit") for w in rest)
    if verb == "restore":
        return not ("--staged" in rest or "-S" in rest) or "--worktree" in rest or "-W" in rest
    if verb == "checkout":
        return "--" in rest[:-1] or rest[-1:] == ["."]
    return verb == "reset" and "--hard" in rest


def _gh_changes(words: tuple[str, ...]) -> bool:
    return len(words) > 2 and words[2] in (
        "create",
        "merge",
        "close",
        "edit",
        "comment",
        "review",
        "ready",
        "run",
    )
