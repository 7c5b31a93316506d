"""Small ONNX models and tokenizers for tests, written without the library `onnx`: https://onnx.ai/onnx/intro/concepts.html,
field numbers from its onnx.proto.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

FLOAT, INT32, INT64 = 1, 6, 7
WORDS = {"[UNK]": 0, "red": 1, "green": 2, "blue": 3, "ask": 4, "tell": 5}
COLOURS = np.vstack([np.zeros(8), np.eye(8)[:5]]).astype(
    np.float32
)  # a word's vector is an axis; an unknown word's 0

Shape = Sequence[int | str]


def write_model(
    folder: Path,
    *,
    table: npt.NDArray[np.float32] = COLOURS,
    inputs: Sequence[tuple[str, int]] = (("input_ids", INT64), ("attention_mask", INT64)),
    output: str = "last_hidden_state",
    places: int = 0,
    first_only: bool = False,
) -> Path:
    """A folder with a model that looks words up in `table`: vectors of tokens, rank 3.

    `places`: it fails on texts of another number of tokens. `first_only`: the first token's vector alone, rank 2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape: Shape = ["batch", "sequence", table.shape[1]]
    looked_up = "found" if places or first_only else output
    nodes = [_node("Gather", ["table", inputs[0][0]], looked_up)]
    constants = [_tensor("table", table)]
    if places:
        constants.append(_tensor("places", np.zeros((1, places, table.shape[1]), np.float32)))
        nodes.append(_node("Add", ["found", "places"], output))
    if first_only:
        constants.append(_tensor("first", np.array(0, np.int64)))
        nodes.append(_node("Gather", ["found", "first"], output, axis=1))
        shape = ["batch", table.shape[1]]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"test")
    graph += b"".join(_field(5, constant) for constant in constants)
    graph += b"".join(_field(11, _value(name, kind, ["batch", "sequence"])) for name, kind in inputs)
    graph += _field(12, _value(output, FLOAT, shape))
    model = _field(1, 9) + _field(8, _field(1, b"") + _field(2, 18)) + _field(7, graph)
    (folder / "model.onnx").write_bytes(model)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Words to numbers. The file asks for padding and truncation, as some do."""
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(length=4)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _node(operator: str, inputs: Sequence[str], output: str, axis: int | None = None) -> bytes:
    written = b"".join(_field(1, name.encode()) for name in inputs)
    written += _field(2, output.encode()) + _field(4, operator.encode())
    if axis is not None:
        written += _field(5, _field(1, b"axis") + _field(3, axis) + _field(20, 2))  # of type INT
    return written


def _tensor(name: str, value: npt.NDArray[Any]) -> bytes:
    kind = INT64 if value.dtype == np.int64 else FLOAT
    dims = b"".join(_field(1, size) for size in value.shape)
    return dims + _field(2, kind) + _field(8, name.encode()) + _field(9, value.tobytes())


def _value(name: str, kind: int, shape: Shape) -> bytes:
    sizes = [_field(1, size) if isinstance(size, int) else _field(2, size.encode()) for size in shape]
    tensor = _field(1, kind) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
