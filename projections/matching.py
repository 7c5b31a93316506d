"""What single filter values match: names, paths, words and phrases, by a row and by the terms of the lexical index.

The rows' index holds raw terms in lower case: of a tool its name and, of MCP tools, the last part of it; of a file every
suffix of its path at a component boundary; actors and branches as they are. `*` and `?` in a value stand for any
characters, in paths for any but `/`; `**` crosses folders.
"""

import re
from functools import lru_cache

from session_mgmt_mcp.projections.analysis import CJK, PARTS, whole_token
from session_mgmt_mcp.projections.documents import document_of
from session_mgmt_mcp.projections.rows import Row

SUFFIX_COMPONENTS_MAX = 32  # of a longer path the last ones, and the whole
PATTERNS_CACHED = 256
PATHS_CACHED = 4096
_META = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~]")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_LETTER = re.compile(rf"[^\W_{CJK}]")  # what makes words grow together


def escaped(text: str) -> str:
    """The text as a pattern, for Python and for tantivy alike."""
    return _META.sub(r"\\\g<0>", text)


def glob_pattern(value: str, *, path: bool) -> str:
    """A value with `*` and `?` as a pattern."""
    any_run, any_one = ("[^/]*", "[^/]") if path else ("(.|\n)*", "(.|\n)")
    out = []
    for part in re.split(r"(\*+|\?)", value):
        if part.startswith("*"):
            out.append("(.|\n)*" if len(part) > 1 else any_run)
        else:
            out.append(any_one if part == "?" else escaped(part))
    return "".join(out)


def has_glob(value: str) -> bool:
    return "*" in value or "?" in value


@lru_cache(maxsize=PATTERNS_CACHED)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


# -- files -----------------------------------------------------------------------------------------------------------


def normal_path(path: str) -> str:
    """How paths are compared: lower case, `/` between components."""
    return path.lower().replace("\\", "/")


@lru_cache(maxsize=PATHS_CACHED)
def suffixes(path: str) -> tuple[str, ...]:
    """A path's suffixes at component boundaries, the whole path among them."""
    normal = normal_path(path).rstrip("/")
    parts = normal.lstrip("/").split("/")
    first = max(0, len(parts) - SUFFIX_COMPONENTS_MAX)
    out = ["/".join(parts[i:]) for i in range(first, len(parts))]
    return tuple(dict.fromkeys((normal, *out))) if normal else ()


def file_pattern(value: str) -> str | None:
    """The pattern a suffix of a path must match, None where it must equal `file_term`."""
    normal = file_term(value)
    if normal.endswith("/"):
        return glob_pattern(normal, path=True) + "(.|\n)*"
    return glob_pattern(normal, path=True) if has_glob(normal) else None


def file_term(value: str) -> str:
    """A value as it stands in the index."""
    normal = normal_path(value)
    return normal.removeprefix("./")


def has_file(row: Row, value: str) -> bool:
    pattern, term = file_pattern(value), file_term(value)
    if pattern is None:
        return any(term in suffixes(file) for file in row.files)
    matches = compiled(pattern).fullmatch
    return any(matches(suffix) for file in row.files for suffix in suffixes(file))


# -- names -----------------------------------------------------------------------------------------------------------


def names(name: str) -> list[str]:
    """What an assistant, an actor or a branch is found by."""
    return [name.lower()] if name else []


def tool_names(tool: str) -> list[str]:
    """What a tool is found by: its name and, of an MCP server's tool, the last part of it."""
    name = tool.lower()
    if not name:
        return []
    last = name.rsplit("__", 1)[-1]
    return [name, last] if last and last != name else [name]


def has_name(known: list[str], value: str) -> bool:
    """Whether one of the names (lower case) is the value, or matches it."""
    value = value.lower()
    if has_glob(value):
        return any(map(compiled(glob_pattern(value, path=False)).fullmatch, known))
    return value in known


# -- projects --------------------------------------------------------------------------------------------------------


def is_absolute(folder: str) -> bool:
    return _ABSOLUTE.match(folder) is not None


def is_below(project: str, folder: str) -> bool:
    """Whether `project` is `folder` or lies below it."""
    path, folder = project.rstrip("/\\"), folder.rstrip("/\\")
    return path == folder or (path.startswith(folder) and path[len(folder) : len(folder) + 1] in ("/", "\\"))


def project_pattern(name: str) -> str:
    """The pattern a folder, or one above it, must match to have this name (`shop`, `work/shop`)."""
    parts = [escaped(part) for part in re.split(r"[/\\]+", name.strip("/\\"))]
    return r"(?i)((.|\n)*[/\\])?" + r"[/\\]".join(parts)


def below_pattern(name: str) -> str:
    """The pattern a project must match to be a folder of this name, or below one."""
    return project_pattern(name) + r"([/\\](.|\n)*)?"


def in_project(row: Row, value: str) -> bool:
    """`value`: a folder, or the name of one; all below it too."""
    if is_absolute(value):
        return row.project.strip("/\\") != "" and is_below(row.project, value)
    return compiled(below_pattern(value)).fullmatch(row.project) is not None


# -- words and phrases -----------------------------------------------------------------------------------------------


def word_token(value: str) -> str | None:
    """The token that stands for a single word, None for what has to be looked up in the text as a phrase."""
    parts = PARTS.findall(value)
    if len(parts) != 1 or value.strip() != parts[0] or re.search(f"[{CJK}]", value):
        return None
    return whole_token(parts[0])


def phrase_texts(row: Row) -> tuple[str, ...]:
    """The texts of a row a phrase may stand in: text and edit, and of a call its files."""
    texts = (row.text, row.edit, *row.files) if row.kind == "ToolCalled" else (row.text, row.edit)
    return tuple(filter(None, texts))


@lru_cache(maxsize=PATTERNS_CACHED)
def _phrase(phrase: str) -> tuple[str, re.Pattern[str], bool, bool]:
    """Of a phrase in lower case: its longest piece, its pattern, whether it begins and whether it ends with a letter."""
    pieces = phrase.lower().split() or [""]
    pattern = re.compile(r"\s+".join(map(re.escape, pieces)))
    begins, ends = (_LETTER.fullmatch(end) is not None for end in (pieces[0][:1], pieces[-1][-1:]))
    return max(pieces, key=len), pattern, begins, ends


def _stands_in(phrase: str, text: str) -> bool:
    """Whether a text in lower case has the phrase: white space folded, no words cut."""
    piece, pattern, begins, ends = _phrase(phrase)
    if piece not in text:  # a tenth of the time
        return False
    match = pattern.search(text)
    while match:
        start, end = match.span()
        cut = (begins and _LETTER.fullmatch(text[start - 1 : start])) or (ends and _LETTER.match(text, end))
        if not cut:
            return True
        match = pattern.search(text, start + 1)
    return False


def has_phrase(row: Row, phrase: str) -> bool:
    """Whether one of the row's texts has the phrase."""
    return any(_stands_in(phrase, text.lower()) for text in phrase_texts(row))


def has_word(row: Row, value: str) -> bool:
    """Whether a row has a word, in any form of it."""
    token = word_token(value)
    if token is None:
        return has_phrase(row, value)
    return any(token in part.split() for part in document_of(row))
