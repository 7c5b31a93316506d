"""Whether the published projections hold what the log says: rebuilt in a scratch folder and compared."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.digests import DIGESTS, WATERMARKS, vector_digest
from session_mgmt_mcp.projections.files import make_folder
from session_mgmt_mcp.projections.lexical_writer import LexicalProjection
from session_mgmt_mcp.projections.protocol import Watermark, views_folder
from session_mgmt_mcp.projections.publish import Progress, known_names
from session_mgmt_mcp.projections.query import QueryProjection
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rebuild import QueryRebuild
from session_mgmt_mcp.projections.vector_state import load_state as load_vectors

UNREADABLE = "unreadable"
_SCRATCH = "checking-"


class Checked(msgspec.Struct, frozen=True):
    """One projection. `published` is "" where nothing usable is published, UNREADABLE where its files are damaged; then
    nothing was rebuilt to compare it with.
    """

    position: int  # its watermark
    published: str  # digest
    rebuilt: str

    @property
    def same(self) -> bool:
        return bool(self.rebuilt) and self.published == self.rebuilt


def check(
    log: EventLog, folder: Path, names: Iterable[str] | None = None, progress: Progress | None = None
) -> dict[str, Checked]:
    """Rebuild projections up to where they are published and compare; what is published stays as it is.

    The caller holds the maintenance lock. Scratch files lie in `views/`, which is private, and are gone afterwards; what
    a killed check left, the next one removes. Raises InputError where a name is no projection.
    """
    wanted = known_names(names)
    views = make_folder(views_folder(folder))
    for left in views.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=views))
    try:
        return {name: _check(log, views, scratch, name, progress or (lambda *_: None)) for name in wanted}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(log: EventLog, views: Path, scratch: Path, name: str, progress: Progress) -> Checked:
    try:
        published, target = _published(views, name), WATERMARKS[name](views)
    except Exception:  # noqa: BLE001 - whatever the engines say of damaged files
        return Checked(0, UNREADABLE, "")
    if not published or not target.fits(log):
        return Checked(0, "", "")
    return Checked(target.position, published, _rebuilt(log, views, scratch, name, target, progress))


def _published(views: Path, name: str) -> str:
    """The digest of what is published; of vectors every byte is read."""
    return vector_digest(views, deep=True) if name == "vector" else DIGESTS[name](views)


def _rebuilt(
    log: EventLog, views: Path, scratch: Path, name: str, target: Watermark, progress: Progress
) -> str:
    """Build one projection in `scratch`, and what it reads; its digest."""
    if WATERMARKS["query"](scratch) != target:
        QueryRebuild(scratch, log, target).run(partial(progress, "query"))
    if name == "query":
        return DIGESTS[name](scratch)
    query = QueryProjection(scratch, log)
    try:
        if name == "lexical":
            lexical = LexicalProjection(scratch, log, fresh=True)
            lexical.update(query.files, target, partial(progress, "lexical"))
            return DIGESTS[name](scratch)
        return _expected_vectors(views, query.files, partial(progress, "vector"))
    finally:
        query.close()


def _expected_vectors(views: Path, files: QueryFiles, progress: Callable[[int, int], None]) -> str:
    """The digest of the vectors that rows in the published ranges should have. Nothing is embedded."""
    from session_mgmt_mcp.projections.vector_rebuild import expected_digest

    state = load_vectors(views)
    return "" if state is None else expected_digest(state, files, progress)
