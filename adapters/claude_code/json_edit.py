"""Edits of a JSON file that leave every other byte as it was.

The settings belong to the user: order, indentation, line ends, number spelling, escapes, duplicate keys, a byte order
mark and a missing last newline all stay. What is inserted follows the style around it, always after the last member,
and removing it again gives back the very bytes.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from session_mgmt_mcp.core.errors import SettingsFileError

BOM = b"\xef\xbb\xbf"
DEPTH_MAX = 200

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

Path = Sequence[str | int]


class _Node(NamedTuple):
    """A value's place in the text. `items` is None for scalars."""

    start: int
    end: int
    items: "list[_Item] | None"
    is_object: bool = False


class _Item(NamedTuple):
    """A member of an object or an element of an array."""

    lead: int  # where the white space before it begins
    start: int  # of the key, or of the element
    key: str | int
    value: _Node


class JsonText:
    """A parsed JSON file. Edits return a new one; `raw` is the file's bytes.

    A path is a sequence of keys and indexes; of duplicate keys the last counts, as for every JSON reader. Paths must
    exist (KeyError) unless said otherwise.
    """

    def __init__(self, raw: bytes, name: str) -> None:
        """Raises SettingsFileError, naming `name`, line and column, for what is not strict JSON in UTF-8."""
        self.raw = raw
        self.name = name
        self._bom = raw.startswith(BOM)
        body = raw[len(BOM) :] if self._bom else raw
        try:
            self._text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            good = body[: error.start].decode("utf-8")
            self._text = good
            raise self._error(len(good), "a byte that is not UTF-8", "save the file as UTF-8") from None
        self._colon_gap: bool | None = None
        self._root = self._parse()
        newline = self._text.find("\n")
        self._newline = "\r\n" if newline > 0 and self._text[newline - 1] == "\r" else "\n"

    @property
    def value(self) -> Any:
        """The document as Python values. Whole numbers too long for that become floats."""
        return json.loads(self._text, parse_int=lambda s: int(s) if len(s) < 1000 else float(s))

    def set(self, at: Path, value: Any) -> "JsonText":
        """Replace the value at `at`; a key that does not exist yet is added to its object."""
        parent, name = self._node(at[:-1]), at[-1]
        item = self._find(parent, name)
        if item is not None:
            lead = self._text[item.lead : item.start]
            indent = _after_newline(lead)
            return self._spliced(item.value.start, item.value.end, self._render(value, indent))
        if not parent.is_object or not isinstance(name, str):
            raise KeyError(name)
        return self._inserted(at[:-1], name, value)

    def append(self, at: Path, value: Any) -> "JsonText":
        """Add an element to the array at `at`."""
        node = self._node(at)
        if node.items is None or node.is_object:
            raise KeyError(tuple(at))
        return self._inserted(at, None, value)

    def remove(self, at: Path) -> "JsonText":
        """Take out a member or an element. Of duplicate keys only the last goes."""
        parent = self._node(at[:-1])
        item = self._find(parent, at[-1])
        if item is None or parent.items is None:
            raise KeyError(tuple(at))
        index = parent.items.index(item)
        if index > 0:
            return self._spliced(parent.items[index - 1].value.end, item.value.end, "")
        if len(parent.items) > 1:
            return self._spliced(item.start, parent.items[1].start, "")
        lead = self._text[item.lead : item.start]
        trail = self._text[item.value.end : parent.end - 1]
        cut_lead, cut_trail = lead.rfind(self._newline), trail.rfind(self._newline)
        if cut_lead >= 0 and cut_trail >= 0:  # the line breaks an insertion into an empty object brings
            lead, trail = lead[:cut_lead], trail[:cut_trail]
        return self._spliced(parent.start + 1, parent.end - 1, lead + trail)

    # -- editing

    def _spliced(self, start: int, end: int, new: str) -> "JsonText":
        text = self._text[:start] + new + self._text[end:]
        return JsonText((BOM if self._bom else b"") + text.encode("utf-8"), self.name)

    def _inserted(self, at: Path, key: str | None, value: Any) -> "JsonText":
        node = self._node(at)
        assert node.items is not None
        if node.items:
            return self._after_last(node.items, key, value)
        inside = self._text[node.start + 1 : node.end - 1]
        base = self._indent_of(at)
        if base is None or inside.endswith("\r"):  # (a lone CR would become half of a line end)
            return self._spliced(node.end - 1, node.end - 1, self._member(key, value, None))
        indent = base + self._unit()
        member = self._member(key, value, indent)
        new = f"{inside}{self._newline}{indent}{member}{self._newline}{base}"
        return self._spliced(node.start + 1, node.end - 1, new)

    def _after_last(self, items: list[_Item], key: str | None, value: Any) -> "JsonText":
        last = items[-1]
        lead = self._text[last.lead : last.start]
        indent = _after_newline(lead)
        if indent is not None:
            gap = self._newline + indent
        elif len(items) > 1:
            gap = lead
        else:
            gap = " " if self._spaced else ""
        end = last.value.end
        return self._spliced(end, end, f",{gap}{self._member(key, value, indent)}")

    def _member(self, key: str | None, value: Any, indent: str | None) -> str:
        rendered = self._render(value, indent)
        if key is None:
            return rendered
        return f"{_dumps(key)}:{' ' if self._spaced or indent is not None else ''}{rendered}"

    def _render(self, value: Any, indent: str | None) -> str:
        """On one line where `indent` is None, else over several, continued at that indentation."""
        if indent is None:
            return _dumps(value, separators=(", ", ": ") if self._spaced else (",", ":"))
        lines = _dumps(value, indent=self._unit()).split("\n")
        return (self._newline + indent).join(lines)

    @property
    def _spaced(self) -> bool:
        return self._colon_gap is not False

    def _indent_of(self, at: Path) -> str | None:
        """The indentation of the line a member stands on; None where it shares its line with its parent."""
        if not at:
            return ""
        item = self._find(self._node(at[:-1]), at[-1])
        assert item is not None
        return _after_newline(self._text[item.lead : item.start])

    def _unit(self) -> str:
        """One step of indentation: the first one found in the file, else two spaces."""
        found: str | None = None
        stack: list[tuple[_Node, str]] = [(self._root, "")]
        while stack:
            node, base = stack.pop()
            for item in node.items or ():
                indent = _after_newline(self._text[item.lead : item.start])
                if indent is not None and indent.startswith(base) and not found:
                    found = indent[len(base) :]
                    if found:
                        return found
                stack.append((item.value, base if indent is None else indent))
        return "  " if found is None else found

    # -- places

    def _node(self, at: Path) -> _Node:
        node = self._root
        for name in at:
            item = self._find(node, name)
            if item is None:
                raise KeyError(tuple(at))
            node = item.value
        return node

    @staticmethod
    def _find(node: _Node, name: str | int) -> _Item | None:
        if node.items is None or node.is_object != isinstance(name, str):
            return None
        return next((item for item in reversed(node.items) if item.key == name), None)

    # -- parsing

    def _error(self, at: int, what: str, mend: str) -> SettingsFileError:
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        return SettingsFileError(
            f"{self.name} is not valid JSON: {what} at line {line}, column {column}. "
            f"Nothing was changed; {mend}, then run this again."
        )

    def _unexpected(self, at: int, wanted: str) -> SettingsFileError:
        rest = self._text[at : at + 2]
        if not self._text.strip(" \t\r\n"):
            return self._error(0, "the file is empty", "write {} into it or remove it")
        if not rest:
            return self._error(at, f"the file ends where {wanted} should be", "complete it")
        if rest in ("//", "/*") or rest[0] == "#":
            return self._error(at, "a comment", "remove the comment")
        return self._error(at, f"{rest[0]!r} where {wanted} should be", "correct it")

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        assert match is not None
        return match.end()

    def _parse(self) -> _Node:
        root = self._value(self._skip(0), 0)
        end = self._skip(root.end)
        if end != len(self._text):
            raise self._unexpected(end, "the end of the file")
        return root

    def _value(self, at: int, depth: int) -> _Node:
        first = self._text[at : at + 1]
        if first in ("{", "["):
            if depth >= DEPTH_MAX:
                raise self._error(at, f"nesting deeper than {DEPTH_MAX}", "flatten it")
            return self._container(at, first == "{", depth + 1)
        match = _STRING.match(self._text, at) if first == '"' else _SCALAR.match(self._text, at)
        if match is None:
            if first == '"':
                raise self._error(at, "a string that is not closed or has a wrong escape", "correct it")
            raise self._unexpected(at, "a value")
        return _Node(at, match.end(), None)

    def _container(self, start: int, is_object: bool, depth: int) -> _Node:
        close = "}" if is_object else "]"
        items: list[_Item] = []
        lead = start + 1
        at = self._skip(lead)
        if self._text.startswith(close, at):
            return _Node(start, at + 1, items, is_object)
        while True:
            if items and self._text.startswith(close, at):
                raise self._error(lead - 1, "a comma after the last entry", "remove the comma")
            items.append(self._item(lead, at, is_object, len(items), depth))
            at = self._skip(items[-1].value.end)
            if self._text.startswith(close, at):
                return _Node(start, at + 1, items, is_object)
            if not self._text.startswith(",", at):
                raise self._unexpected(at, f"a comma or {close!r}")
            lead = at + 1
            at = self._skip(lead)

    def _item(self, lead: int, at: int, is_object: bool, index: int, depth: int) -> _Item:
        if not is_object:
            return _Item(lead, at, index, self._value(at, depth))
        match = _STRING.match(self._text, at)
        if match is None:
            raise self._unexpected(at, "a key in double quotes")
        colon = self._skip(match.end())
        if not self._text.startswith(":", colon):
            raise self._unexpected(colon, "a colon")
        value_at = self._skip(colon + 1)
        if self._colon_gap is None:
            self._colon_gap = value_at > colon + 1
        return _Item(lead, at, json.loads(match.group()), self._value(value_at, depth))


def _after_newline(space: str) -> str | None:
    """What follows the last line break; None where there is none."""
    cut = space.rfind("\n")
    return None if cut < 0 else space[cut + 1 :]


def _dumps(value: Any, **options: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, as in paths that are not UTF-8
        return json.dumps(value, ensure_ascii=True, **options)
    return text
