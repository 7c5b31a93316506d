"""Stands in for `pyarrow.parquet` while many states are proved: equal bytes are decoded once.

The states of one history share their segments. What is kept is keyed by the file's whole content, so a damaged or torn
file is decoded, and refused, as it is.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

_FILES_KEPT = 64


class Decoded:
    """One file's content, opened; what was read of it is kept. Tables are immutable, so sharing them is safe."""

    def __init__(self, raw: bytes, options: dict[str, Any]) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(raw), **options)
        self._read: dict[object, pa.Table] = {}
        self.metadata = self._file.metadata
        self.num_row_groups = self._file.num_row_groups
        self.schema_arrow = self._file.schema_arrow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        key = (group, columns and tuple(columns))
        if key not in self._read:
            self._read[key] = self._file.read_row_group(group, columns=columns, **options)
        return self._read[key]

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        key = columns and tuple(columns)
        if key not in self._read:
            self._read[key] = self._file.read(columns=columns, **options)
        return self._read[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self, force: bool = False) -> None:
        """Others may be reading the same content."""


class SimParquet:
    """The module, but for files opened by their path."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[bytes, tuple[str, ...]], Decoded] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(pq, name)

    def ParquetFile(self, source: Any, **options: Any) -> Any:
        if not isinstance(source, (str, Path)):
            return pq.ParquetFile(source, **options)
        with open(source, "rb") as file:
            raw = file.read()
        options.pop("memory_map", None)
        key = (raw, tuple(options))
        if key not in self._files:
            self._files[key] = Decoded(raw, options)
            while len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)
        self._files.move_to_end(key)
        return self._files[key]


PARQUET = SimParquet()
