"""Builds the shipped embedding model from the official weights: int8, fused, pooled and normalised in one graph.

    python -m session_mgmt_mcp.tools.model_build model.safetensors tokenizer.json FOLDER

Only somebody who wants to check or change the model needs this (and the extra `model`). The same inputs give the same
bytes: every file read and written is compared with the hash recorded here. PROVENANCE.md beside the model says where
the inputs come from.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.errors import InputError, SessionMgmtError

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MODEL_SHA256 = "0c580fe51ff60889d1cbdbf3fd2aac7ee6c014ebabd48d3eab1b756b3fa47cee"
SETTINGS = {"pooling": "mean", "query_prefix": "", "passage_prefix": "", "max_tokens": 256}

# all-MiniLM-L6-v2's config.json
LAYERS = 6
HEADS = 12
DIMENSION = 384
EPSILON = 1e-12

_IR_VERSION = 9  # written down, not the library's newest, so that the bytes do not change with it
_OPSET = 18
_MICROSOFT = "com.microsoft"  # the operators of onnxruntime that fuse several of ONNX's
# Weights become whole numbers from -63 to 63: two products with activations (0 to 255) then fit 16 bits, so that processors
# without VNNI, which add pairs in 16 bits, give what the others give. On AVX2, 127 levels lose more by that than they gain.
_LEVELS = 63
_TINY = 1e-12

Array = npt.NDArray[Any]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m session_mgmt_mcp.tools.model_build",
        description="Build the shipped embedding model from the official weights of all-MiniLM-L6-v2.",
        epilog="example:\n  python -m session_mgmt_mcp.tools.model_build model.safetensors tokenizer.json /tmp/model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", type=Path, help=f"model.safetensors, sha256 {WEIGHTS_SHA256[:16]}…")
    parser.add_argument("tokenizer", type=Path, help=f"tokenizer.json, sha256 {TOKENIZER_SHA256[:16]}…")
    parser.add_argument(
        "folder", type=Path, help="where model.onnx, tokenizer.json and embed.json are written"
    )
    chosen = parser.parse_args(arguments)
    try:
        build(chosen.weights, chosen.tokenizer, chosen.folder)
    except SessionMgmtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{chosen.folder}: as recorded")
    return 0


def build(weights: Path, tokenizer: Path, folder: Path) -> None:
    """Write the three files of a model folder. Nothing is written unless all of them are as recorded.

    Raises InputError where an input is not the official one, where the extra `model` is not installed, or where the
    result differs from the recorded one (another version of onnx, or a change here: then record the new hash).
    """
    weights_bytes = _read(weights, WEIGHTS_SHA256)
    tokenizer_bytes = _read(tokenizer, TOKENIZER_SHA256)
    try:
        from safetensors.numpy import load
    except ImportError as error:
        raise InputError(f"{error}: pip install 'session-mgmt-mcp[model]'") from error
    model = serialised(load(weights_bytes))
    found = hashlib.sha256(model).hexdigest()
    if found != MODEL_SHA256:
        raise InputError(
            f"the model built here has sha256 {found}, recorded is {MODEL_SHA256}: nothing written"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes)
    (folder / "embed.json").write_text(json.dumps(SETTINGS, indent=2) + "\n", "utf-8")


def _read(path: Path, sha256: str) -> bytes:
    """A file's bytes, if they are the expected ones."""
    try:
        read = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    found = hashlib.sha256(read).hexdigest()
    if found != sha256:
        raise InputError(
            f"{path} has sha256 {found}, the official file {sha256}: take it from where PROVENANCE.md says"
        )
    return read


def serialised(weights: Mapping[str, Array], *, quantised: bool = True) -> bytes:
    """The ONNX file: `input_ids`, `attention_mask` (int64 [batch, sequence]) to `sentence_embedding` (float32 [batch, 384]).

    Without `quantised`, the same graph with the weights as they are: what the benchmark compares with.
    """
    graph = _Graph(weights, quantised)
    hidden = graph.embeddings()
    for layer in range(LAYERS):
        hidden = graph.layer(layer, hidden)
    graph.pool(hidden)
    return graph.serialised()


def quantise(weight: Array, axis: int) -> tuple[Array, Array]:
    """Whole numbers (int8) and the scales (float32, `axis` kept) they are to be multiplied by; symmetric, so 0 is 0."""
    scale = np.abs(weight).max(axis=axis, keepdims=True).astype(np.float32) / np.float32(_LEVELS)
    scale = np.maximum(scale, np.float32(_TINY))
    return np.rint(weight / scale).clip(-_LEVELS, _LEVELS).astype(np.int8), scale


class _Graph:
    """The graph while it is put together: BERT (Devlin et al. 2018) as sentence-transformers runs it."""

    def __init__(self, weights: Mapping[str, Array], quantised: bool) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._weights = weights
        self._quantised = quantised
        self._helper = helper
        self._types = TensorProto
        self._as_tensor = numpy_helper.from_array
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def embeddings(self) -> str:
        """Sum of a token's and its place's vector. All of a text is of one type (0): its vector is added to the places."""
        words = self._weights["embeddings.word_embeddings.weight"]
        places = self._weights["embeddings.position_embeddings.weight"]
        places = places + self._weights["embeddings.token_type_embeddings.weight"][:1]
        if self._quantised:
            numbers, scales = quantise(words, 1)  # a scale a word: rare words' vectors are shorter
            self._node("Gather", [self._constant("words", numbers), "input_ids"], "word_numbers")
            self._node("Gather", [self._constant("word_scales", scales), "input_ids"], "word_scale")
            self._node("Cast", ["word_numbers"], "word_floats", to=self._types.FLOAT)
            self._node("Mul", ["word_floats", "word_scale"], "word")
        else:
            self._node("Gather", [self._constant("words", words), "input_ids"], "word")
        zero, one, two = (self._constant(f"axis{at}", np.array([at], np.int64)) for at in range(3))
        self._node("Shape", ["input_ids"], "shape")
        self._node("Slice", ["shape", one, two, zero], "length")
        self._node("Slice", [self._constant("places", places), zero, "length", zero], "place")
        self._node("Add", ["word", "place"], "embedded")
        scale, shift = (self._weight(f"embeddings.LayerNorm.{kind}") for kind in ("weight", "bias"))
        self._node("Cast", ["attention_mask"], "mask", to=self._types.INT32)
        return self._node(
            "LayerNormalization", ["embedded", scale, shift], "hidden0", axis=-1, epsilon=EPSILON
        )

    def layer(self, layer: int, hidden: str) -> str:
        """Attention and the two dense steps, each added to what went in and normalised."""
        at = f"encoder.layer.{layer}."
        mixed = self._attention(layer, hidden)
        mixed = self._product(mixed, at + "attention.output.dense.weight")
        attended = self._add_norm(mixed, hidden, at + "attention.output")
        wide = self._product(attended, at + "intermediate.dense.weight")
        bias = self._weight(at + "intermediate.dense.bias")
        wide = self._node("BiasGelu", [wide, bias], f"gelu{layer}", domain=_MICROSOFT)
        narrow = self._product(wide, at + "output.dense.weight")
        return self._add_norm(narrow, attended, at + "output")

    def pool(self, hidden: str) -> None:
        """The mean over a text's tokens, normalised: of the sum, as both have the same direction."""
        self._node("Cast", ["attention_mask"], "mask_floats", to=self._types.FLOAT)
        self._node("Unsqueeze", ["mask_floats", "axis1"], "mask_rows")
        self._node("MatMul", ["mask_rows", hidden], "sums")
        self._node("Squeeze", ["sums", "axis1"], "sum")
        self._node("ReduceL2", ["sum", "axis1"], "norm", keepdims=1)
        self._node("Max", ["norm", self._constant("tiny", np.array(_TINY, np.float32))], "norm_safe")
        self._node("Div", ["sum", "norm_safe"], "sentence_embedding")

    def serialised(self) -> bytes:
        """The file's bytes: the same for the same nodes and constants."""
        helper, types = self._helper, self._types
        inputs = [
            helper.make_tensor_value_info(name, types.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("sentence_embedding", types.FLOAT, ["batch", DIMENSION])
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", inputs, [output], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="session-mgmt-mcp")
        model.ir_version = _IR_VERSION
        written: bytes = model.SerializeToString(deterministic=True)
        return written

    def _attention(self, layer: int, hidden: str) -> str:
        at = f"encoder.layer.{layer}.attention.self."
        parts = ("query", "key", "value")
        weight = np.concatenate([self._weights[f"{at}{part}.weight"].T for part in parts], 1)
        bias = np.concatenate([self._weights[f"{at}{part}.bias"] for part in parts])
        bias_name = self._constant(at + "bias", bias)
        out = f"attention{layer}"
        if not self._quantised:
            inputs = [hidden, self._constant(at + "weight", weight), bias_name, "mask"]
            return self._node("Attention", inputs, out, domain=_MICROSOFT, num_heads=HEADS)
        numbers, scales = quantise(weight, 0)
        whole, scale, zero = (f"{hidden}_{part}" for part in ("whole", "scale", "zero"))
        self._nodes.append(
            self._helper.make_node("DynamicQuantizeLinear", [hidden], [whole, scale, zero], name=whole)
        )
        weight_name, scale_name = (
            self._constant(at + "weight", numbers),
            self._constant(at + "scale", scales[0]),
        )
        zeros = self._constant(at + "zero", np.zeros_like(numbers[0]))
        inputs = [whole, weight_name, bias_name, scale, scale_name, "mask", zero, zeros]
        return self._node("QAttention", inputs, out, domain=_MICROSOFT, num_heads=HEADS)

    def _product(self, left: str, weight: str) -> str:
        """`left` times a weight matrix, transposed as PyTorch keeps them."""
        matrix = self._weights[weight].T
        out = weight.removesuffix(".weight") + ".product"
        if not self._quantised:
            return self._node("MatMul", [left, self._constant(weight, matrix)], out)
        numbers, scales = quantise(matrix, 0)
        inputs = [left, self._constant(weight, numbers), self._constant(weight + ".scale", scales[0])]
        return self._node("DynamicQuantizeMatMul", inputs, out, domain=_MICROSOFT)

    def _add_norm(self, step: str, skipped: str, at: str) -> str:
        inputs = [step, skipped, *(self._weight(f"{at}.LayerNorm.{kind}") for kind in ("weight", "bias"))]
        inputs.append(self._weight(at + ".dense.bias"))
        return self._node("SkipLayerNormalization", inputs, at + ".out", domain=_MICROSOFT, epsilon=EPSILON)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: Array) -> str:
        self._constants.append(self._as_tensor(np.ascontiguousarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


if __name__ == "__main__":
    sys.exit(main())
