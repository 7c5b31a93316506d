"""What a shell command line runs: its simple commands without the wrappers around them."""

import posixpath
import re
import shlex
from itertools import islice
from typing import NamedTuple

COMMAND_CHARS_MAX = 20_000
COMMANDS_MAX = 60

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_SEPARATOR = re.compile(r"&&|\|\||;;|[;\n()]|\|&?|(?<![>&\d])&(?![>&\d])")
_QUOTING = re.compile(r"['\"\\]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_REDIRECTION = re.compile(r"\d*(?:>>?|<)(?:&\d)?|&>>?")
# What a tool call's text holds beside the command: a description, other arguments by name
_ARGUMENT = re.compile(r"[a-z_]+: ")
_DESCRIPTION = re.compile(r"(?![A-Z_]+$)[A-Z][^\s=/]*(?:\s|$)")
_FORGETTING = frozenset((";", ";;", "\n", "||", "&"))
_NEVER_FAIL = frozenset(
    ("cd", "echo", "printf", "export", "tail", "head", "cat", "tee", "sleep", "true", "set")
)
_KEYWORDS = frozenset(
    ("if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "exec", "command")
)
# Wrappers, and how many words after their options belong to them
_WRAPPERS = {
    "sudo": 0, "nice": 0, "nohup": 0, "env": 0, "timeout": 1, "gtimeout": 1, "stdbuf": 0, "caffeinate": 0,
    "xvfb-run": 0, "npx": 0, "bunx": 0, "uvx": 0, "dotenv": 0, "ionice": 0, "doas": 0,
}  # fmt: skip
# Runners whose first word says that the rest is a command
_RUNNERS = {
    ("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("pdm", "run"), ("rye", "run"), ("hatch", "run"),
    ("pixi", "run"), ("bundle", "exec"), ("pnpm", "exec"), ("pnpm", "dlx"), ("yarn", "exec"), ("yarn", "dlx"),
    ("npm", "exec"), ("mise", "exec"), ("mise", "x"), ("direnv", "exec"), ("conda", "run"), ("uv", "tool"),
}  # fmt: skip
_WORD_OPTIONS = frozenset(
    ("-n", "-k", "-s", "-p", "-u", "-C", "--project", "--directory", "--with", "--extra", "--group", "--python",
     "--env-file", "--package", "--signal", "--kill-after", "--prefix", "-c", "--cwd", "--filter", "--dir")
)  # fmt: skip


class Simple(NamedTuple):
    """A simple command. `decides`: whether its failure fails the whole line; what a pipe or `;` follows does not."""

    words: tuple[str, ...]
    decides: bool
    alone: bool  # whether nothing else can fail the whole line
    filtered: bool  # its output goes through another command, which may leave out some of it
    folder: str  # changed into before, as written; "" where that was not done
    after: str  # the separator behind it

    @property
    def program(self) -> str:
        """The name of what is run, without its folder."""
        return self.words[0].rsplit("/", 1)[-1]

    @property
    def line(self) -> str:
        return " ".join(self.words)


def command_of(text: str) -> str:
    """The command of a shell tool's call: its text without the description and the other arguments behind it."""
    lines = text[:COMMAND_CHARS_MAX].strip().split("\n")
    described = False
    while len(lines) > 1:
        if _ARGUMENT.match(lines[-1]):
            lines.pop()
        elif not described and _DESCRIPTION.match(lines[-1]):
            lines.pop()
            described = True
        else:
            break
    if not described and len(lines) > 1 and _DESCRIPTION.match(lines[0]):
        del lines[0]
    return "\n".join(lines)


def simple_commands(command: str) -> list[Simple]:
    """The simple commands of a line, in order, at most COMMANDS_MAX; folders changed into and assignments left out."""
    parts = _parts(_without_heredocs(command.replace("\\\n", " ")))
    kept = list(islice(((words, after) for part, after in parts if (words := _words(part))), COMMANDS_MAX))
    # What a pipe or a `;` follows may fail without the line's failing
    lost = [
        after in ("|", "&") or any(later in _FORGETTING for _, later in kept[index:-1])
        for index, (_, after) in enumerate(kept)
    ]
    telling = [i for i, (words, _) in enumerate(kept) if not lost[i] and words[0] not in _NEVER_FAIL]
    out: list[Simple] = []
    folder = ""
    for index, (words, after) in enumerate(kept):
        if words[0] == "cd":
            folder = posixpath.join(folder, words[1]) if len(words) > 1 else ""
            continue
        into = kept[index + 1][0][0] if after == "|" and index + 1 < len(kept) else "tee"
        out.append(Simple(words, not lost[index], telling == [index], into != "tee", folder, after))
    return out


def _without_heredocs(command: str) -> str:
    """The command without the text of its here-documents."""
    out, at = [], 0
    while found := _HEREDOC.search(command, at):
        body = command.find("\n", found.end())
        if body < 0:
            break
        end = re.compile(rf"^[ \t]*{found[2]}[ \t]*$", re.MULTILINE).search(command, body + 1)
        out.append(command[at : found.start()] + command[found.end() : body])
        at = end.end() if end else len(command)
    return "".join(out) + command[at:]


def _parts(command: str) -> list[tuple[str, str]]:
    """Pieces between separators that stand outside of quotes, with the separator behind each."""
    masked = _masked(command)
    out, at = [], 0
    for found in _SEPARATOR.finditer(masked):
        out.append((command[at : found.start()], "|" if found[0] == "|&" else found[0]))
        at = found.end()
    return [*out, (command[at:], "")]


def _masked(command: str) -> str:
    """The command, as long, with what is quoted, escaped or a comment blotted out."""
    if _QUOTING.search(command) is None:
        return command
    out = list(command)
    quote = ""
    index = 0
    while index < len(command):
        sign = command[index]
        if quote:
            out[index] = "x"
            if sign == "\\" and quote == '"' and index + 1 < len(command):
                out[index + 1] = "x"
                index += 1
            elif sign == quote:
                quote = ""
        elif sign == "\\" and index + 1 < len(command):
            out[index] = out[index + 1] = "x"
            index += 1
        elif sign in "'\"":
            quote = sign
            out[index] = "x"
        index += 1
    return "".join(out)


def _words(part: str) -> tuple[str, ...]:
    """The words of a simple command from its program on."""
    part = part.strip().removesuffix("$")  # of a substitution: what it runs is a part of its own
    if not part or part.startswith("#"):
        return ()
    try:
        words = shlex.split(part) if _QUOTING.search(part) else part.split()
    except ValueError:  # a quote that does not end
        words = part.split()
    return _unwrapped(_without_redirections(words))


def _without_redirections(words: list[str]) -> list[str]:
    out: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif found := _REDIRECTION.match(word):
            skip = found.end() == len(word) and not word[-1].isdigit()
        elif word:
            out.append(word)
    return out


def _unwrapped(words: list[str]) -> tuple[str, ...]:
    for _ in range(8):
        while words and (words[0] in _KEYWORDS or _ASSIGNMENT.match(words[0])):
            words = words[1:]
        if not words:
            return ()
        if words[0] in _WRAPPERS:
            words = _after_options(words[1:])[_WRAPPERS[words[0]] :]
        elif tuple(words[:2]) in _RUNNERS:
            rest = _after_options(words[2:])
            words = rest[1:] if words[0] == "uv" and words[1] == "tool" and rest[:1] == ["run"] else rest
        elif re.fullmatch(r"python[\d.]*", words[0].rsplit("/", 1)[-1]) and words[1:2] == ["-m"]:
            words = words[2:]
        else:
            return tuple(words)
    return tuple(words)


def _after_options(words: list[str]) -> list[str]:
    at = 0
    while at < len(words) and (words[at].startswith("-") or _ASSIGNMENT.match(words[at])):
        if words[at] == "--":
            return words[at + 1 :]
        at += 2 if words[at] in _WORD_OPTIONS else 1
    return words[at:]
