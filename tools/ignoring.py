"""The rules of what is left out, changed and explained; what they mean is in `core.ignore`."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.errors import DataFolderError, InputError
from session_mgmt_mcp.core.ignore import (
    DEFAULT_PATHS,
    FILE,
    PATTERN_LENGTH_MAX,
    RULES_MAX,
    Rules,
    left_out,
    read_rules,
)
from session_mgmt_mcp.core.log.durable import sync_folder, write_new

_HEADER = "# what session-mgmt-mcp leaves out: `session-mgmt-mcp ignore` shows and changes it\n"


class Ignored(msgspec.Struct, frozen=True):
    """What is left out of a data folder."""

    projects: tuple[str, ...]  # folders
    paths: tuple[str, ...]  # patterns the user added
    defaults: tuple[str, ...]  # patterns that hold without being asked for
    kept: tuple[str, ...]  # those of them the user switched off
    left_out: int  # events of hooks that were not stored


class Verdict(msgspec.Struct, frozen=True):
    """What happens to a folder's sessions, or to what stands in a file."""

    path: str
    project: str  # the ignored project it is in, or ""
    pattern: str  # the pattern it matches as a file, or ""


def rules_of(folder: Path) -> Ignored:
    """All rules of a data folder."""
    rules = read_rules(str(folder))
    mine = tuple(path for path in rules.paths if path not in DEFAULT_PATHS)
    defaults = tuple(path for path in rules.paths if path in DEFAULT_PATHS)
    kept = tuple(path for path in DEFAULT_PATHS if path not in defaults)
    return Ignored(rules.projects, mine, defaults, kept, left_out(str(folder)))


def add(folder: Path, projects: Sequence[str], patterns: Sequence[str]) -> Ignored:
    """Leave more out, from now on. Raises InputError for a pattern or a folder that cannot be one."""
    before = rules_of(folder)
    wanted = [_pattern(text) for text in patterns]
    roots = [root for project in projects for root in _roots(project)]
    _save(
        folder,
        _joined(before.projects, roots),
        _joined(before.paths, [path for path in wanted if path not in DEFAULT_PATHS]),
        tuple(path for path in before.kept if path not in wanted),
    )
    return rules_of(folder)


def remove(folder: Path, projects: Sequence[str], patterns: Sequence[str]) -> Ignored:
    """Take rules back; one of the default patterns is switched off. Raises InputError for a rule that is not there."""
    before = rules_of(folder)
    wanted = [_pattern(text) for text in patterns]
    roots = [root for project in projects for root in _known_roots(project, before.projects)]
    for path in wanted:
        if path not in before.paths and path not in before.defaults:
            raise InputError(f"{path}: no such pattern; `session-mgmt-mcp ignore list` shows them")
    _save(
        folder,
        tuple(root for root in before.projects if root not in roots),
        tuple(path for path in before.paths if path not in wanted),
        _joined(before.kept, [path for path in wanted if path in DEFAULT_PATHS]),
    )
    return rules_of(folder)


def check(folder: Path, path: str) -> Verdict:
    """What the rules say to a file or folder, which need not exist."""
    rules: Rules = read_rules(str(folder))
    whole = os.path.abspath(os.path.expanduser(path))
    return Verdict(whole, rules.project(whole), rules.path(whole))


def _joined(there: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*there, *more)))


def _roots(project: str) -> list[str]:
    """The folder as it is written and as the system names it, where that differs: assistants report the latter."""
    whole = os.path.abspath(os.path.expanduser(project))
    if whole == "/" or whole == os.path.abspath(os.path.expanduser("~")):
        raise InputError(f"{whole}: everything would be left out; `session-mgmt-mcp pause` stops capture")
    return list(dict.fromkeys(_checked(path, "a folder") for path in (whole, os.path.realpath(whole))))


def _known_roots(project: str, known: Sequence[str]) -> list[str]:
    found = [root for root in _roots(project) if root in known]
    if not found:
        raise InputError(
            f"{project}: this project is not ignored; `session-mgmt-mcp ignore list` shows those that are"
        )
    return found


def _pattern(text: str) -> str:
    """A pattern of whole paths: one that does not say where it begins holds anywhere."""
    text = os.path.expanduser(text)
    if text.endswith("/"):
        text += "**"
    if not text.startswith(("/", "**/")):
        text = "**/" + text.removeprefix("./")
    if text.strip("*/") == "":
        raise InputError(f"{text}: every file would be left out; name a part of its path")
    return _checked(text, "a pattern")


def _checked(text: str, what: str) -> str:
    if len(text) > PATTERN_LENGTH_MAX:
        raise InputError(f"{what} has at most {PATTERN_LENGTH_MAX} characters, this has {len(text)}")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise InputError(f"{text!a}: {what} holds no control characters")
    return text


def _save(folder: Path, projects: Sequence[str], paths: Sequence[str], kept: Sequence[str]) -> None:
    if len(projects) + len(paths) > RULES_MAX:
        raise InputError(f"there are at most {RULES_MAX} rules; remove some, or use patterns")
    lines = [f"project\t{root}\n" for root in projects]
    lines += [f"path\t{path}\n" for path in paths]
    lines += [f"keep\t{path}\n" for path in kept]
    path = f"{folder}{FILE}"
    try:
        write_new(path + ".tmp", (_HEADER + "".join(lines)).encode("utf-8", "surrogateescape"))
        os.rename(path + ".tmp", path)
        sync_folder(str(folder))
    except OSError as error:
        raise DataFolderError(f"cannot write {path}: {error.strerror}; mend its permissions") from error


def status_line(found: Ignored) -> str:
    """What `status` says about it."""
    patterns = len(found.paths) + len(found.defaults)
    return f"{len(found.projects)} projects, {patterns} patterns of files; {found.left_out} events left out"
