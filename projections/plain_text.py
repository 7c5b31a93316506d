"""Recorded text made fit to be quoted: to a model, on a terminal, in Markdown.

What was recorded is data. Quoted, it must not close the fence around it, pass for a message of the client's, or hide
anything from the one who reads it.
"""

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
# Zero-width and bidirectional marks, tags, annotations, separators that break a line unseen
_UNSEEN_RANGES = (
    (0x00AD, 0x00AD),
    (0x061C, 0x061C),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE01EF),
)
_UNSEEN = {code: None for first, last in _UNSEEN_RANGES for code in range(first, last + 1)}
_ODD = re.compile(r"[^\n\t -~]")
_REMOVED = str.maketrans({**_CONTROLS, **_UNSEEN})
# Tags by which clients and models mark who speaks: `<system-reminder>`, `</recorded-1f…>`, `<function_calls>`, …
_TAG = re.compile(
    r"<(?=\s{0,8}/?\s{0,8}(?:[a-z]{1,40}:)?"
    r"(?:[a-z]{1,40}[-_][\w-]*|system|human|user|assistant|developer|tool|invoke|parameter|instructions?|important"
    r"|document|context|thinking|antml)\b)",
    re.IGNORECASE,
)
_ROLE = re.compile(r"^([ \t]{0,8})(human|assistant|system|user)([ \t]{0,8}):", re.IGNORECASE | re.MULTILINE)
_SPECIAL = re.compile(r"<\|(?=[\w ]{1,40}\|>)")  # `<|im_start|>` and its kin


def clean(text: str) -> str:
    """Text JSON, a terminal and a reader can take: no lone surrogates, no escape sequences, no control characters but
    tab and newline, nothing that is not seen (zero-width, bidirectional and tag characters).
    """
    if text.isascii():
        if _ODD.search(text) is None:
            return text
    else:
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return text.replace("\r\n", "\n").translate(_REMOVED)


def quoted(text: str) -> str:
    """`clean` text in which nothing passes for a tag or a turn of a conversation: `<` of such tags becomes `‹`."""
    text = clean(text)
    if "<" in text:
        text = _SPECIAL.sub("‹|", _TAG.sub("‹", text))
    return _ROLE.sub(r"\1\2\3 :", text) if "\n" in text else text


def one_line(text: str, chars_max: int) -> str:
    """`quoted` text as one line of at most `chars_max` characters; `…` at its end where something was cut."""
    head = text[: chars_max * 4 + 200]  # white space folds; no need to fold megabytes for one line
    flat = " ".join(quoted(head).split())
    if len(flat) <= chars_max and head == text:
        return flat
    cut = flat[: chars_max - 1]
    if len(flat) >= chars_max and " " in cut[chars_max * 2 // 3 :]:
        cut = cut.rsplit(" ", 1)[0]
    return f"{cut.rstrip()}…"


def fenced(text: str, language: str = "") -> str:
    """A Markdown code block around the text, its fence longer than any run of backticks within."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def code(text: str) -> str:
    """A Markdown code span of one line."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def markdown(text: str) -> str:
    """Recorded text, code apart, as Markdown shows it: no HTML, no image, no link. (A backslash would not do: one that was
    recorded before it would take its effect away.)
    """
    return text.replace("<", "&lt;").replace("![", "!&#91;").replace("](", "]&#40;")
