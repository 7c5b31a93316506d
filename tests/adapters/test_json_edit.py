"""Edits of a settings file change what was asked and no other byte."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.claude_code.json_edit import JsonText
from session_mgmt_mcp.core.errors import SettingsFileError

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
SPACE = st.text(alphabet=" \t\n", max_size=3) | st.sampled_from(["\r\n", "\r\n  ", "\r", " \r"])
NUMBERS = st.sampled_from(["0", "-0", "1", "1.0", "1E5", "1e-2", "-12.50", "123456789012345678901234567890"])
STRINGS = st.text(max_size=4).map(lambda s: json.dumps(s, ensure_ascii=False)).filter(
    lambda s: s.isprintable() or s.isascii()
) | st.sampled_from(['"\\u00e9"', '"\\/"', '"é"', '"\\ud83d\\ude00"', '"\\ud800"'])
SCALARS = NUMBERS | STRINGS | st.sampled_from(["true", "false", "null"])


@st.composite
def containers(draw: st.DrawFn, children: st.SearchStrategy[str], unique: bool = True) -> str:
    is_object = draw(st.booleans())
    count = draw(st.integers(0, 3))
    parts = []
    for index in range(count):
        key = f'"k{index if unique else draw(st.integers(0, 1))}"{draw(SPACE)}:' if is_object else ""
        parts.append(draw(SPACE) + key + draw(SPACE) + draw(children) + draw(SPACE))
    inner = ",".join(parts) if parts else draw(SPACE)
    return ("{" + inner + "}") if is_object else ("[" + inner + "]")


def documents(unique: bool = True) -> st.SearchStrategy[str]:
    """JSON texts of any shape in any formatting."""
    values = st.recursive(SCALARS, lambda c: containers(c, unique), max_leaves=8)
    framed = st.tuples(SPACE, values, SPACE).map("".join)
    pretty = st.builds(
        lambda text, indent: json.dumps(json.loads(text), indent=indent, ensure_ascii=False),
        values.filter(lambda text: "\\ud800" not in text),
        st.sampled_from([None, 1, 2, 4, "\t"]),
    )
    crlf = pretty.map(lambda text: text.replace("\n", "\r\n") + "\r\n")
    return framed | pretty | crlf


RAW = st.builds(lambda bom, text: bom + text.encode(), st.sampled_from([b"", b"\xef\xbb\xbf"]), documents())
NEW = st.recursive(
    st.integers() | st.text(max_size=4) | st.none(),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=3), c, max_size=3),
    max_leaves=5,
)


def walk(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """All containers with their paths."""
    found: list[tuple[tuple[str | int, ...], Any]] = []
    if isinstance(value, dict | list):
        found.append((at, value))
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += walk(child, (*at, key))
    return found


def pick(data: st.DataObject, document: JsonText) -> tuple[tuple[str | int, ...], Any]:
    places = walk(document.value)
    assume(places)
    return data.draw(st.sampled_from(places), label="place")


@CALM
@given(raw=RAW, new=NEW, data=st.data())
def test_what_is_inserted_and_removed_again_leaves_the_same_bytes(
    raw: bytes, new: Any, data: st.DataObject
) -> None:
    document = JsonText(raw, "x.json")
    at, container = pick(data, document)
    if isinstance(container, dict):
        edited = document.set((*at, "new key"), new)
        removed = edited.remove((*at, "new key"))
    else:
        edited = document.append(at, new)
        removed = edited.remove((*at, len(container)))
    assert edited.raw != raw
    assert removed.raw == raw


@CALM
@given(raw=RAW, new=NEW, data=st.data())
def test_an_edit_of_the_text_is_that_edit_of_the_value(raw: bytes, new: Any, data: st.DataObject) -> None:
    document = JsonText(raw, "x.json")
    at, container = pick(data, document)
    expected = document.value
    target = expected
    for key in at:
        target = target[key]
    step = data.draw(st.sampled_from(["add", "replace", "remove"]), label="step")
    if step == "add" and isinstance(target, dict):
        target["new key"] = new
        document = document.set((*at, "new key"), new)
    elif step == "add":
        target.append(new)
        document = document.append(at, new)
    else:
        assume(container)
        key = data.draw(
            st.sampled_from(list(target) if isinstance(target, dict) else list(range(len(target))))
        )
        if step == "replace":
            target[key] = new
            document = document.set((*at, key), new)
        else:
            del target[key]
            document = document.remove((*at, key))
    assert document.value == expected


@CALM
@given(text=documents(unique=False))
def test_every_valid_document_is_read_as_python_reads_it(text: str) -> None:
    assert JsonText(text.encode(), "x.json").value == json.loads(text)


@CALM
@given(text=st.text(alphabet='{}[],:"\\ /*#0-9e.+atrufalsn\n', max_size=12))
def test_what_python_refuses_is_refused_with_a_place(text: str) -> None:
    try:
        json.loads(text)
        valid = True
    except ValueError:
        valid = False
    if valid:
        JsonText(text.encode(), "x.json")
    else:
        with pytest.raises(SettingsFileError, match=r"x\.json .*line \d+, column \d+"):
            JsonText(text.encode(), "x.json")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{\n  "a": 1, // why\n  "b": 2\n}', "a comment at line 2, column 11"),
        (b'{"a": 1 /* why */}', "a comment at line 1, column 9"),
        (b'{"a": [1, 2,]}', "a comma after the last entry at line 1, column 12"),
        (b'{\n  "a": 1\n  "b": 2\n}', "where a comma or '}' should be at line 3, column 3"),
        (b'{"a": 1', "the file ends where"),
        (b"", "the file is empty"),
        (b'{"a": "\xff"}', "not UTF-8 at line 1, column 8"),
        (b'{"a": NaN}', "'N' where a value should be at line 1, column 7"),
        (b"{'a': 1}", "where a key in double quotes should be at line 1, column 2"),
        (b"[" * 300, "nesting deeper than 200"),
        (b'{"a": 01}', "line 1, column 8"),
        (b"{} {}", "the end of the file"),
    ],
)
def test_a_damaged_file_is_named_with_line_column_and_mend(raw: bytes, says: str) -> None:
    with pytest.raises(SettingsFileError) as caught:
        JsonText(raw, "/home/a/settings.json")
    assert says in str(caught.value)
    assert str(caught.value).startswith("/home/a/settings.json is not valid JSON")
    assert "Nothing was changed" in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{\n  "n": {\n    "a": [\n      1\n    ]\n  }\n}'),
        ('{"x": 1}', '{"x": 1, "n": {"a": [1]}}'),
        ('{"x":1}', '{"x":1,"n":{"a":[1]}}'),
        ('{\n\t"x": 1\n}\n', '{\n\t"x": 1,\n\t"n": {\n\t\t"a": [\n\t\t\t1\n\t\t]\n\t}\n}\n'),
        (
            '{\r\n    "x": 1\r\n}\r\n',
            '{\r\n    "x": 1,\r\n    "n": {\r\n        "a": [\r\n            1\r\n        ]\r\n    }\r\n}\r\n',
        ),
    ],
)
def test_what_is_inserted_follows_the_style_of_the_file(before: str, after: str) -> None:
    assert JsonText(before.encode(), "x.json").set(["n"], {"a": [1]}).raw == after.encode()


def test_of_duplicate_keys_the_last_is_edited_and_the_others_stay() -> None:
    document = JsonText(b'{"a": {"x": 1}, "a": {"y": 2}}', "x.json")
    assert document.set(["a", "z"], 3).raw == b'{"a": {"x": 1}, "a": {"y": 2, "z": 3}}'


def test_a_path_that_is_not_there_is_a_key_error() -> None:
    document = JsonText(b'{"a": [1]}', "x.json")
    for at in (["b", "c"], ["a", 5], ["a", "x"]):
        with pytest.raises(KeyError):
            document.remove(at)
    with pytest.raises(KeyError):
        document.append(["a", 0], 1)
