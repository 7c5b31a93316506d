"""Whether the published projections hold what the log says: rebuilt in a scratch folder and compared."""

import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.digests import DIGESTS, WATERMARKS
from session_mgmt_mcp.projections.files import make_folder
from session_mgmt_mcp.projections.lexical_writer import LexicalProjection
from session_mgmt_mcp.projections.protocol import Watermark, views_folder
from session_mgmt_mcp.projections.publish import Progress, known_names
from session_mgmt_mcp.projections.query import QueryProjection
from session_mgmt_mcp.projections.rebuild import QueryRebuild

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
        published, target = DIGESTS[name](views), WATERMARKS[name](views)
    except Exception:  # noqa: BLE001 - whatever the engines say of damaged files
        return Checked(0, UNREADABLE, "")
    if not published or not target.fits(log):
        return Checked(0, "", "")
    _rebuild(log, scratch, name, target, progress)
    return Checked(target.position, published, DIGESTS[name](scratch))


def _rebuild(log: EventLog, scratch: Path, name: str, target: Watermark, progress: Progress) -> None:
    """Build one projection in `scratch`, and what it reads."""
    if WATERMARKS["query"](scratch) != target:
        QueryRebuild(scratch, log, target).run(partial(progress, "query"))
    if name == "lexical":
        query = QueryProjection(scratch, log)
        try:
            LexicalProjection(scratch, log, fresh=True).update(
                query.files, target, partial(progress, "lexical")
            )
        finally:
            query.close()
