"""Texts to vectors, by an ONNX model on the CPU. Nothing is downloaded and nothing is sent anywhere."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.errors import EmbeddingError
from session_mgmt_mcp.core.settings import embedding_cache_size, max_workers
from session_mgmt_mcp.projections.embedding_model import (
    ModelFolder,
    embedding_available,
    not_installed,
    open_folder,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

__all__ = ["Embedder", "embedding_available"]

Vectors = npt.NDArray[np.float32]

_LETTERS_PER_TOKEN_MAX = 64  # what is beyond max_tokens times this is not even tokenised
_NORM_MIN = 1e-12
_BITS = 8  # the vectors' signs are kept as whole bytes
_ERRORS_ONLY = 3
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_INTEGERS: dict[str, "np.dtype[Any]"] = {
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}
_OUTPUT = "sentence_embedding"  # taken where there are several


class Embedder:
    """A loaded model. Thread-safe. The shipped one takes about 80 MB, and 10 MB a worker while it embeds."""

    def __init__(
        self,
        folder: ModelFolder,
        model_id: str,
        session: "InferenceSession",
        tokenizer: "Tokenizer",
        workers: int,
        queries_max: int,
    ) -> None:
        self.folder = folder
        self.model_id = model_id
        self._workers = workers
        self._session = session
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(folder.settings.max_tokens)
        tokenizer.no_padding()  # a file may ask for a fixed length: all would cost what the longest does
        self._letters_max = folder.settings.max_tokens * _LETTERS_PER_TOKEN_MAX
        self._inputs = _inputs(folder, session)
        self._output = _output(folder, session)
        self._queries: OrderedDict[str, Vectors] = OrderedDict()
        self._queries_max = queries_max
        self._lock = threading.Lock()
        self.dimension = self._dimension()

    @classmethod
    def open(cls, folder: Path | None = None, *, workers: int | None = None) -> "Embedder":
        """Load the model in `folder` (default: `EMBEDDING_MODEL_PATH`, else the shipped one), to run on at most `workers`
        threads (default: `MAX_WORKERS`).

        Raises EmbeddingError where that cannot be done, SettingsError where a setting is malformed; both name the mend.
        """
        found = open_folder(folder)
        threads = workers or max_workers()
        queries_max = embedding_cache_size()
        with ThreadPoolExecutor(3, "model") as pool:  # all three leave Python's lock
            session = pool.submit(_session, found)
            tokenizer = pool.submit(_tokenizer, found)
            model_id = pool.submit(found.model_id)
            loaded = session.result(), tokenizer.result()
            return cls(found, model_id.result(), *loaded, threads, queries_max)

    def embed_query(self, text: str) -> Vectors:
        """float32 [dimension] of length 1, read-only. What is beyond the model's longest text is left out."""
        with self._lock:
            known = self._queries.get(text)
            if known is not None:
                self._queries.move_to_end(text)
                return known
        vector = self._vector(self.folder.settings.query_prefix + text)
        vector.flags.writeable = False
        with self._lock:
            self._queries[text] = vector
            while len(self._queries) > self._queries_max:
                self._queries.popitem(last=False)
        return vector

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, dimension], each of length 1, in the order of `texts`.

        Each is run alone: from 32 tokens on that is as fast as in batches, wants less memory, and makes the vector depend on
        the text only (an 8-bit model's activations share a scale, so company would change it).
        """
        prefix = self.folder.settings.passage_prefix
        found = np.empty((len(texts), self.dimension), np.float32)

        def embed(at: int) -> None:
            found[at] = self._vector(prefix + texts[at])

        if self._workers == 1 or len(texts) < 2:
            for at in range(len(texts)):
                embed(at)
        else:
            with ThreadPoolExecutor(self._workers, "embed") as pool:
                for _ in pool.map(embed, range(len(texts))):
                    pass  # raises what an `embed` raised
        return found

    def _vector(self, text: str) -> Vectors:
        """float32 [dimension] of length 1."""
        # not encode_batch: it starts threads of its own, which a fork would not survive and MAX_WORKERS not bound
        tokens = self._tokenizer.encode(text[: self._letters_max]).ids or [0]
        ids = np.array([tokens], np.int64)
        values = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        fed = {name: values[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        try:
            raw = self._session.run([self._output], fed)[0]
        except Exception as error:  # onnxruntime's errors have no common class but this
            what = f"the model failed on a text of {len(tokens)} tokens: {_first_line(error)}"
            mend = "set max_tokens in its embed.json to what it can read, or take another model"
            raise EmbeddingError(f"{self.folder.model}: {what}; {mend}") from error
        return self._normalised(np.asarray(raw[0], np.float32))

    def _normalised(self, raw: Vectors) -> Vectors:
        """A text's vector, of a vector or of its tokens' vectors, brought to length 1."""
        if raw.ndim == 2:
            raw = raw[0] if self.folder.settings.pooling == "cls" else raw.mean(0)
        if raw.ndim != 1 or not np.isfinite(raw).all():
            what = f"its output {self._output} is no vector a text, or holds what is no number"
            raise EmbeddingError(f"{self.folder.model}: {what}; {self.folder.mend}")
        found: Vectors = raw / max(float(np.linalg.norm(raw)), _NORM_MIN)
        return found

    def _dimension(self) -> int:
        """As the model declares it, else as it turns out."""
        declared = next(each for each in self._session.get_outputs() if each.name == self._output).shape[-1]
        found = declared if isinstance(declared, int) else len(self._vector("a"))
        if found <= 0 or found % _BITS:
            what = f"its vectors have {found} dimensions, not a multiple of {_BITS}"
            raise EmbeddingError(f"{self.folder.model}: {what}; take another model")
        return found


def _session(folder: ModelFolder) -> "InferenceSession":
    """The model on the CPU. Raises EmbeddingError where it is none."""
    # importing it otherwise writes a device id and a database into the user's home
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise EmbeddingError(not_installed("onnxruntime")) from error
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # texts run beside each other rather than one in parts
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if folder.shipped:  # already fused: looking for more costs a fifth of the load and finds nothing
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(str(folder.model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class but this
        what = f"onnxruntime cannot load it: {_first_line(error)}"
        raise EmbeddingError(f"{folder.model}: {what}; {folder.mend}") from error


def _tokenizer(folder: ModelFolder) -> "Tokenizer":
    """Raises EmbeddingError where the file is damaged."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EmbeddingError(not_installed("tokenizers")) from error
    try:
        return Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # the library raises nothing narrower
        what = f"it is no tokenizer: {_first_line(error)}"
        raise EmbeddingError(f"{folder.tokenizer}: {what}; {folder.mend}") from error


def _inputs(folder: ModelFolder, session: "InferenceSession") -> dict[str, "np.dtype[Any]"]:
    """What the model is fed, and as what. Raises EmbeddingError where that is not a text's tokens."""
    found: dict[str, np.dtype[Any]] = {}
    for each in session.get_inputs():
        if each.name not in _INPUTS or each.type not in _INTEGERS:
            what = f"its input {each.name} of {each.type} is none of {', '.join(_INPUTS)} (int64 or int32)"
            raise EmbeddingError(f"{folder.model}: {what}; take a model that embeds text")
        found[each.name] = _INTEGERS[each.type]
    if "input_ids" not in found:
        raise EmbeddingError(f"{folder.model}: it has no input input_ids; take a model that embeds text")
    return found


def _output(folder: ModelFolder, session: "InferenceSession") -> str:
    """The output to read. Raises EmbeddingError where it cannot be a vector a text or a token."""
    outputs = session.get_outputs()
    taken = next((each for each in outputs if each.name == _OUTPUT), outputs[0])
    if len(taken.shape) not in (2, 3) or not taken.type.startswith("tensor(float"):
        what = f"its output {taken.name} is {taken.type} {taken.shape}, not vectors of texts or tokens"
        raise EmbeddingError(f"{folder.model}: {what}; take a model that embeds text")
    name: str = taken.name
    return name


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
