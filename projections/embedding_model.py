"""The folder of an embedding model: which it is, what it must hold, and what its vectors are known by."""

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from session_mgmt_mcp.core.errors import EmbeddingError, SessionMgmtError
from session_mgmt_mcp.core.settings import (
    MODEL_VARIABLE,
    embedding_cache_size,
    embedding_model_path,
    max_workers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).parent / "models" / "all-MiniLM-L6-v2-int8"
# `model_id(SHIPPED)`: a test compares them, so that a start need not read 24 MB for it
SHIPPED_ID = "dd26772f0d7ffa5f53e94ead1c386518"
SHIPPED_BYTES = {"model.onnx": 23_477_493, "tokenizer.json": 466_247, "embed.json": 91}

_MODEL = "model.onnx"
_TOKENIZER = "tokenizer.json"
_SETTINGS = "embed.json"
_BESIDE = ("model.onnx_data", "model.onnx.data")  # large models keep their weights there
_READ_BYTES = 1 << 20


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`embed.json`: how the model wants to be used. Without that file, these defaults.

    `pooling` makes one vector of the tokens' where the model does not (`cls`: the first token's). The prefixes come before
    every query and passage. Longer texts are cut to `max_tokens`, the model's own special ones included.
    """

    pooling: Literal["mean", "cls"] = "mean"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: Annotated[int, msgspec.Meta(ge=8, le=2048)] = 256  # memory grows with its square


class ModelFolder(msgspec.Struct, frozen=True):
    """A folder with a model in it: `model.onnx` and `tokenizer.json` are there, `settings` are valid."""

    path: Path
    settings: ModelSettings

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / _MODEL

    @property
    def tokenizer(self) -> Path:
        """The file of the library `tokenizers`."""
        return self.path / _TOKENIZER

    @property
    def shipped(self) -> bool:
        """Whether it is the one this package comes with."""
        return self.path == SHIPPED

    @property
    def mend(self) -> str:
        """What to do about a damaged one."""
        if self.shipped:
            return "install session-mgmt-mcp again"
        return f"see that {MODEL_VARIABLE} names a folder with a model's model.onnx and tokenizer.json"

    def model_id(self) -> str:
        """32 hex digits: equal for equal files. Vectors are kept under it, as those of two models say nothing together."""
        return SHIPPED_ID if self.shipped else model_id(self.path)


def embedding_available() -> str | None:
    """Why there are no embeddings here, with the mend; None where there are. Loads nothing."""
    for module in ("onnxruntime", "tokenizers"):
        if importlib.util.find_spec(module) is None:
            return not_installed(module)
    try:
        open_folder()
        embedding_cache_size()
        max_workers()
    except SessionMgmtError as error:
        return str(error)
    return None


def open_folder(folder: Path | None = None) -> ModelFolder:
    """The model in `folder`; by default the one `EMBEDDING_MODEL_PATH` names, else the shipped one.

    Raises EmbeddingError where the folder, a file of it or its embed.json is not as it must be.
    """
    named = folder if folder is not None else embedding_model_path()
    path = SHIPPED if named is None else named.resolve()
    found = ModelFolder(path, ModelSettings())
    if not path.is_dir():
        raise EmbeddingError(f"{path}: there is no such folder; {found.mend}")
    for part in (found.model, found.tokenizer):
        if not part.is_file():
            raise EmbeddingError(f"{path}: it has no {part.name}; {found.mend}")
    if found.shipped:
        for name, size in SHIPPED_BYTES.items():
            if not (path / name).is_file() or (path / name).stat().st_size != size:
                raise EmbeddingError(
                    f"{path / name}: it is not the file this version came with; {found.mend}"
                )
    return ModelFolder(path, _settings(path / _SETTINGS))


def damage(folder: Path | None = None) -> str | None:
    """Why the model cannot be used, its shipped files read to the last byte (about 20 ms); None where it can."""
    try:
        found = open_folder(folder)
        if found.shipped and model_id(found.path) != SHIPPED_ID:
            return f"{found.path}: a file is not as it was shipped; {found.mend}"
    except EmbeddingError as error:
        return str(error)
    return None


def not_installed(module: str) -> str:
    """The reason, and the mend."""
    return f"{module} is not installed: pip install {module}, or install session-mgmt-mcp again"


def model_id(path: Path) -> str:
    """32 hex digits over the names and bytes of all files that decide what a text's vector is.

    Raises EmbeddingError where one cannot be read.
    """
    total = hashlib.sha256()
    for name in (_MODEL, *_BESIDE, _TOKENIZER, _SETTINGS):
        try:
            stat = (path / name).stat()
            digest = _sha256(path / name, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            total.update(name.encode() + b"\0" + digest)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise EmbeddingError(f"{path / name}: {error.strerror}; make it readable") from error
    return total.hexdigest()[:32]


@functools.lru_cache(16)  # a large model takes a second: a server asks for it again and again
def _sha256(path: Path, *_stamp: int) -> bytes:
    """Of a file; `_stamp` changes when the file does."""
    found = hashlib.sha256()
    for part in _parts(path):
        found.update(part)
    return found.digest()


def _parts(path: Path) -> "Iterator[bytes]":
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            yield part


def _settings(path: Path) -> ModelSettings:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelSettings)
    except FileNotFoundError:
        return ModelSettings()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EmbeddingError(f"{path}: {error}; mend or remove it") from error
    except OSError as error:
        raise EmbeddingError(f"{path}: {error.strerror}; make it readable") from error
