"""Scripts that complete the command line in bash, zsh and fish, made of the parsers themselves.

The scripts are static: they ask this program only for session ids. Those come from what was captured, so only ids of
harmless characters are offered; a shell would expand others.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.projections.kinds import KINDS
from session_mgmt_mcp.tools.cli import COMMANDS, parser_of

PROGRAM = "session-mgmt-mcp"
_FILES = ("PATH", "FILE", "FOLDER", "STATEMENT", "PLACE")  # metavars of arguments that are paths
# Ids of the last sessions, one a line
_PLACES = {  # where a shell looks for it by itself
    "bash": "~/.local/share/bash-completion/completions/session-mgmt-mcp",
    "zsh": "a folder of $fpath, as _session-mgmt-mcp",
    "fish": "~/.config/fish/completions/session-mgmt-mcp.fish",
}
_IDS = (
    f"{PROGRAM} sessions --json --limit 200 2>/dev/null | "
    'command grep -oE \'"session": "[A-Za-z0-9._/@+-]+"\' | command cut -d\'"\' -f4'
)


class Value(NamedTuple):
    """What an option or an argument takes."""

    words: tuple[str, ...] = ()
    files: bool = False
    sessions: bool = False


class Option(NamedTuple):
    names: tuple[str, ...]
    help: str
    value: Value | None  # None: a flag


class Node(NamedTuple):
    """A command, or (its name then two words) a part of one."""

    name: str
    help: str
    options: tuple[Option, ...]
    arguments: Value
    parts: tuple["Node", ...]


def nodes() -> list[Node]:
    """Every command with what it takes."""
    return [_node(name, COMMANDS[name], parser_of(name)[1]) for name in COMMANDS]


def script(shell: str) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](nodes())


def _node(name: str, text: str, parser: argparse.ArgumentParser) -> Node:
    options, parts = list[Option](), list[Node]()
    arguments = Value()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            parts += [_node(f"{name} {part}", texts[part], p) for part, p in action.choices.items()]
        elif action.option_strings:
            value = None if action.nargs == 0 else _value(action)
            options.append(Option(tuple(action.option_strings), _text(action), value))
        else:
            value = _value(action)
            arguments = Value(
                arguments.words + value.words,
                arguments.files or value.files,
                arguments.sessions or value.sessions,
            )
    return Node(name, text, tuple(options), arguments, tuple(parts))


def _value(action: argparse.Action) -> Value:
    files = action.type is Path or action.metavar in _FILES or action.dest == "project"
    words = KINDS if action.dest == "kind" else action.choices or ()
    return Value(tuple(map(str, words)), files, action.dest == "session")


def _text(action: argparse.Action) -> str:
    """The help in one line, without what argparse would fill in."""
    text = (action.help or "").partition("(default")[0].replace("%%", "%")
    return " ".join(text.split())


def _flat(found: Sequence[Node]) -> Iterator[Node]:
    for node in found:
        yield node
        yield from node.parts


def _quoted(text: str) -> str:
    """A shell word, the same in all three."""
    return "'" + text.replace("\\", "").replace("'", "’") + "'"


def _bash(found: Sequence[Node]) -> str:
    lines = [
        f"# {PROGRAM}: completion for bash; belongs into {_PLACES['bash']}",
        "_session_mgmt_mcp() {",
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}",
        "    local words='' options='' files='' sessions='' id",
        "    if [[ $word == = ]]; then word=''; elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi",
        "    COMPREPLY=()",
        f"    if ((COMP_CWORD == 1)); then command='' words={_quoted(_names(found))}; fi",
    ]
    for node in found:
        if node.parts:
            lines.append(
                f'    if [[ $command == {node.name} ]] && ((COMP_CWORD > 2)); then command="$command '
                '${COMP_WORDS[2]}"; fi'
            )
    lines.append('    case "$command $before" in')
    for node in _flat(found):
        for option in node.options:
            if option.value is not None:
                pattern = "|".join(_quoted(f"{node.name} {name}") for name in option.names)
                lines.append(f"    {pattern}) {_bash_value(option.value)} ;;")
    lines += ["    *)", '    case "$command" in']
    for node in _flat(found):
        options = " ".join(name for option in node.options for name in option.names)
        words = node.arguments._replace(
            words=(*node.arguments.words, *(p.name.split()[1] for p in node.parts))
        )
        lines.append(f"    {_quoted(node.name)}) options={_quoted(options)}; {_bash_value(words)} ;;")
    lines += [
        "    esac",
        "    if [[ $word == -* ]]; then words=$options files='' sessions=''; fi ;;",
        "    esac",
        '    if [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$word")); fi',
        "    if [[ -n $sessions ]]; then",
        f'        while IFS= read -r id; do [[ $id == "$word"* ]] && COMPREPLY+=("$id"); done < <({_IDS})',
        "    fi",
        "    if [[ -n $files ]]; then",
        "        compopt -o filenames 2>/dev/null",
        '        while IFS= read -r id; do COMPREPLY+=("$id"); done < <(compgen -f -- "$word")',
        "    fi",
        "}",
        f"complete -F _session_mgmt_mcp {PROGRAM}",
    ]
    return "\n".join(lines) + "\n"


def _names(found: Sequence[Node]) -> str:
    return " ".join([*(node.name for node in found), "--help", "--version"])


def _bash_value(value: Value) -> str:
    said = [f"words={_quoted(' '.join(value.words))}"] if value.words else []
    said += ["files=yes"] if value.files else []
    said += ["sessions=yes"] if value.sessions else []
    return " ".join(said) or ":"


def _zsh(found: Sequence[Node]) -> str:
    lines = [
        f"#compdef {PROGRAM}",
        f"# {PROGRAM}: completion for zsh; belongs into {_PLACES['zsh']}",
        "_session_mgmt_mcp() {",
        "    local command=${words[2]} before=${words[CURRENT-1]}",
        "    local -a names",
        "    if (( CURRENT == 2 )); then",
        f"        names=({_described([(node.name, node.help) for node in found])})",
        "        _describe command names",
        "        return",
        "    fi",
    ]
    for node in found:
        if node.parts:
            lines.append(
                f'    if [[ $command == {node.name} ]] && (( CURRENT > 3 )); then command="$command ${{words[3]}}"; fi'
            )
    lines.append('    case "$command $before" in')
    for node in _flat(found):
        for option in node.options:
            if option.value is not None:
                pattern = "|".join(_quoted(f"{node.name} {name}") for name in option.names)
                lines.append(f"    {pattern}) {_zsh_value(option.value)}; return ;;")
    lines += ["    esac", '    case "$command" in']
    for node in _flat(found):
        described = [(name, option.help) for option in node.options for name in option.names]
        lines.append(f"    {_quoted(node.name)})")
        lines.append(f"        names=({_described(described)})")
        parts = tuple(part.name.split()[1] for part in node.parts)
        arguments = node.arguments._replace(words=node.arguments.words + parts)
        lines.append(
            f"        if [[ $PREFIX == -* ]]; then _describe option names; else {_zsh_value(arguments)}; fi ;;"
        )
    lines += [
        "    esac",
        "}",
        # autoloaded from $fpath this file is the function itself; sourced it only defines it
        f'if [[ ${{funcstack[1]}} == _{PROGRAM} ]]; then _session_mgmt_mcp "$@"',
        f"else compdef _session_mgmt_mcp {PROGRAM}; fi",
    ]
    return "\n".join(lines) + "\n"


def _described(pairs: Sequence[tuple[str, str]]) -> str:
    """Elements of a zsh array for `_describe`: name:help."""
    return " ".join(_quoted(f"{name}:{text.replace(':', ' -')}") for name, text in pairs)


def _zsh_value(value: Value) -> str:
    said = [f"compadd -- {' '.join(map(_quoted, value.words))}"] if value.words else []
    said += ["_files"] if value.files else []
    said += [f'compadd -- ${{(f)"$({_IDS})"}}'] if value.sessions else []
    return "; ".join(said) or ":"


def _fish(found: Sequence[Node]) -> str:
    program = f"complete -c {PROGRAM}"
    lines = [
        f"# {PROGRAM}: completion for fish; belongs into {_PLACES['fish']}",
        f"{program} -f",
    ]
    for node in found:
        lines.append(f"{program} -n __fish_use_subcommand -a {_quoted(node.name)} -d {_quoted(node.help)}")
    for node in _flat(found):
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.name.split())
        here = f"{program} -n {_quoted(seen)}"
        for part in node.parts:
            lines.append(f"{here} -a {_quoted(part.name.split()[1])} -d {_quoted(part.help)}")
        for option in node.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            value = "" if option.value is None else " -x" + _fish_value(option.value)
            lines.append(f"{here} {names}{value} -d {_quoted(option.help)}".replace(" -x -F", " -r -F"))
        if node.arguments != Value():
            lines.append(here + _fish_value(node.arguments))
    return "\n".join(lines) + "\n"


def _fish_value(value: Value) -> str:
    said = f" -a {_quoted(' '.join(value.words))}" if value.words else ""
    said += " -F" if value.files else ""
    return said + (f' -a "({_IDS_FISH})"' if value.sessions else "")


# fish keeps backslashes and quotes otherwise than the others
_IDS_FISH = _IDS.replace('"', '\\"')
