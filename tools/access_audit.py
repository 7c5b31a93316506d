"""Events of access: keys, who came in, who was turned away, when the service ran. They lie in a stream of their own."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from session_mgmt_mcp.core.access import AccessError, Principal
from session_mgmt_mcp.core.entropy import redact_thorough
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Receipt, Source, now_us, uuid7
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.events import (
    ACCESS_STREAM,
    AccessDenied,
    AccessGranted,
    KeyCreated,
    KeyRevoked,
    ServiceStarted,
    ServiceStopped,
)
from session_mgmt_mcp.tools.access_keys import StoredKey
from session_mgmt_mcp.tools.access_ledger import Ledger, Said

if TYPE_CHECKING:
    from session_mgmt_mcp.core.log.log import FileLog

WAITING_MAX: Final = 1000
"""Events that wait for a disk that stands still; more are left out and counted."""
SYSTEM: Final = "system"
logger = logging.getLogger(__name__)

Payload = AccessDenied | AccessGranted | KeyCreated | KeyRevoked | ServiceStarted | ServiceStopped
Append = Callable[[EventType, Payload, str], object]


def append_access(log: "FileLog", event_type: EventType, payload: Payload, actor: str) -> Receipt:
    """Append an event of access. Raises AppendError."""
    now = now_us()
    envelope = Envelope(ACCESS_STREAM, event_type, 1, now, now, actor, Source.COMMAND)
    new = NewEvent(uuid7(now), envelope, redact_thorough(msgspec.json.encode(payload)))
    return log.append([new], dedupe=False)[0]


def created(key: StoredKey, replaces: str = "") -> KeyCreated:
    """What is told of a key that is made."""
    return KeyCreated(key.id, key.name, key.role.value, key.scopes, key.projects, key.expires_at, replaces)


class AccessAudit:
    """`adapters.http.ports.Audit`: notes in memory, and a thread that appends. A log that cannot be written to stops no
    request: what is lost is counted in the program's log.
    """

    def __init__(self, append: Append, clock: Callable[[], float] = time.monotonic) -> None:
        """`append`: called in the thread; may raise. `clock`: seconds."""
        self._append = append
        self._clock = clock
        self._ledger = Ledger(clock())
        self._waiting: deque[Said] = deque()
        self._lost = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, log: "FileLog") -> "AccessAudit":
        """Into this log."""
        return cls(lambda event_type, payload, actor: append_access(log, event_type, payload, actor))

    def start(self) -> None:
        """Write from now on what was noted and is noted."""
        self._thread = threading.Thread(target=self._run, name="access-audit", daemon=True)
        self._thread.start()

    def authenticated(self, principal: Principal, address: str) -> None:
        """A key opened the door. Cheap, never raises."""
        with self._changed:
            self._note(self._ledger.granted(principal, address, self._clock()))

    def denied(self, error: AccessError, address: str, principal: Principal | None, what: str) -> None:
        """Somebody was turned away. `what`: the endpoint or the tool; "" for an unknown address is that of the key's last
        use. Cheap, never raises.
        """
        with self._changed:
            self._note(self._ledger.denied(error, address, principal, what))

    def started(self, version: str, address: str, auth: str) -> None:
        """The service runs. Raises AppendError."""
        self._append(EventType.SERVICE_STARTED, ServiceStarted(version, address, auth), SYSTEM)

    def stopped(self, reason: str = "") -> None:
        """The service comes to its end. Raises AppendError."""
        self._append(EventType.SERVICE_STOPPED, ServiceStopped(reason), SYSTEM)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was counted and end; waits for a slow disk no longer than `timeout_s`."""
        with self._changed:
            for said in self._ledger.flush(self._clock()):
                self._note(said)
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        else:
            self._write(self._taken())

    def _note(self, said: Said | None) -> None:
        if said is None:
            return
        if len(self._waiting) >= WAITING_MAX:
            self._lost += 1
            return
        self._waiting.append(said)
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closing):
                    left = self._ledger.next_due() - self._clock()
                    if left <= 0:
                        for said in self._ledger.due(self._clock()):
                            self._note(said)
                        continue
                    self._changed.wait(left)
                taken, closing = self._taken(), self._closing
            self._write(taken)
            if closing:
                return

    def _taken(self) -> list[Said]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _write(self, taken: list[Said]) -> None:
        for said in taken:
            try:
                self._append(said.event_type, said.payload, said.actor)
            except (SessionMgmtError, OSError) as error:
                self._lost += 1
                logger.warning("an event of access is not in the log (%d so far): %s", self._lost, error)
