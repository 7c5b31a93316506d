"""Reading the log in order, from segments and journals, while others append, roll and seal."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, load_manifest, versions
from session_mgmt_mcp.core.log.segment import group_events, open_segment
from session_mgmt_mcp.core.log.tail import NoJournalError, TailCursor, VanishedError
from session_mgmt_mcp.core.ports import Head

_GROUPS_KEPT = 4
_TRIES = 5


class LogReader:
    """Reads one data folder; takes no lock. Thread-safe."""

    def __init__(self, folder: str, origin: str) -> None:
        """`origin`: of the log's FORMAT.json; what its chain begins with."""
        self.folder = folder
        self._origin = first_chain(origin)
        self._lock = Lock()
        self._manifest = load_manifest(folder)
        self._groups: OrderedDict[tuple[str, int], list[Event]] = OrderedDict()
        # Each goes on from where it was; one for all would start over at every change of use.
        self._reading, self._heading, self._getting = (TailCursor(folder) for _ in range(3))

    def close(self) -> None:
        with self._lock:
            for cursor in (self._reading, self._heading, self._getting):
                cursor.close()

    def manifest(self) -> Manifest:
        """The newest manifest."""
        found = versions(self.folder)
        if found and found[-1] != self._manifest.version:
            self._manifest = load_manifest(self.folder)
        return self._manifest

    def head(self) -> Head:
        """The last event that can be read now."""
        for _ in range(_TRIES):
            with self._lock:
                try:
                    return Head(*self._heading.head(self.manifest().last))
                except NoJournalError:
                    return self.sealed()
                except VanishedError as error:
                    missing = error
        raise self._broken(missing)

    def _broken(self, missing: VanishedError) -> LogCorruptError:
        return LogCorruptError(f"{self.folder}: {missing}; restore the missing files from a backup")

    def sealed(self) -> Head:
        manifest = self.manifest()
        return Head(manifest.last, manifest.chain or self._origin)

    def chain_at(self, position: int) -> bytes | None:
        """The chain after `position` where a segment ends there."""
        if position == 0:
            return self._origin
        for entry in self.manifest().segments:
            if entry.last == position:
                return bytes.fromhex(entry.chain)
        return None

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        """Batches in order, without gaps. Raises LogCorruptError where the files do not continue each other."""
        return self._read(self._reading, after, upto)

    def _read(self, cursor: TailCursor, after: int, upto: int | None) -> Iterator[list[Event]]:
        position = after
        missing = 0
        while upto is None or position < upto:
            try:
                events = self._next_batch(cursor, position)
            except NoJournalError:
                return
            except VanishedError as error:
                missing += 1
                if missing > _TRIES:
                    raise self._broken(error) from error
                continue
            if not events:
                return
            missing = 0
            position = events[-1].position
            if upto is not None and position > upto:
                events = [e for e in events if e.position <= upto]
            yield events

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        """The events at these positions; those that do not exist are left out."""
        wanted = sorted({p for p in positions if p > 0})
        out: dict[int, Event] = {}
        for position in wanted:
            if position in out:
                continue
            # In the journals one pass finds all that is left; in segments each read touches one row group.
            upto = position if position <= self.manifest().last else wanted[-1]
            for batch in self._read(self._getting, position - 1, upto):
                out.update((e.position, e) for e in batch)
        return {p: out[p] for p in wanted if p in out}

    def _next_batch(self, cursor: TailCursor, after: int) -> list[Event]:
        manifest = self.manifest()
        if after < manifest.last:
            entry = manifest.segments[bisect_left(manifest.segments, after + 1, key=lambda s: s.last)]
            return [e for e in self._segment_batch(entry, after) if e.position > after]
        with self._lock:
            return cursor.read(after)

    def _segment_batch(self, entry: SegmentEntry, after: int) -> list[Event]:
        path = f"{self.folder}/segments/{entry.file}"
        try:
            with open_segment(path) as file:
                sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
                if sum(sizes) != entry.last - entry.first + 1:
                    raise LogCorruptError(f"{path} holds {sum(sizes)} events; restore it from a backup")
                group, last = 0, entry.first + sizes[0] - 1
                while last <= after:
                    group += 1
                    last += sizes[group]
                key = (entry.file, group)
                with self._lock:
                    if key in self._groups:
                        self._groups.move_to_end(key)
                        return self._groups[key]
                events = group_events(file, group, path, last - sizes[group] + 1)
        except FileNotFoundError:
            raise VanishedError(f"{path} is gone") from None
        with self._lock:
            self._groups[key] = events
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        return events
