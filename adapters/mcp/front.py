"""The client's end of the server: reads its lines, answers the opening ones itself, hands the rest to whoever serves.

Who serves is a link: the SDK in this process (`engine`) or another server on the same data folder (`bridge`). A link may
be lost; what was not answered by then is sent again over the next one, with the key it had.
"""

import json
import os
import sys
import threading
from typing import NamedTuple, Protocol

from session_mgmt_mcp.adapters.mcp.exit import DRAIN_S_MAX, Exit
from session_mgmt_mcp.adapters.mcp.fast import HandOverError, Opening, is_id
from session_mgmt_mcp.adapters.mcp.stdio import Wire

LINE_BYTES_MAX = 64 << 20
INVALID_REQUEST = -32600
QUIET_S = 0.5  # without a line of the client: its opening is over, and a model thinks
REPLAY_PREFIX = "session-mgmt-replay-"  # of the ids of requests the client has its answer to


class LinkLostError(Exception):
    """Whoever served is gone, or does not move any more."""


class Link(Protocol):
    """Serves this client. Answers come back through `Front.deliver`."""

    def feed(self, line: bytes, key: str) -> None:
        """Take one line of the client. Raises LinkLostError; what was fed may or may not have been done then."""

    def end(self) -> None:
        """The client will send no more."""


class Finder(Protocol):
    """Finds links."""

    def connect(self, front: "Front", lost: int) -> Link:
        """A link to whoever can serve this client now. `lost`: how many links were lost over one request."""

    def stand_in(self) -> None:
        """A link was lost while nothing was due: be ready to serve others."""

    def prepare(self) -> None:
        """The client is likely to call tools: load what that takes, where it is this process that will serve."""


class Pending(NamedTuple):
    """A request without its answer."""

    line: bytes
    key: str
    links: int = 0  # it was fed to


class Front:
    """One client. A link is found when first needed, and again when it was lost."""

    def __init__(self, wire: Wire, leaving: Exit, opening: Opening, finder: Finder) -> None:
        self._wire, self._leaving, self._opening, self._finder = wire, leaving, opening, finder
        self._link: Link | None = None
        self._linking = threading.Lock()  # held while a line is fed, or a link replaced
        self._open: dict[str, Pending] = {}  # by the JSON of the id, in the order they came
        self._writing = 0
        self._settled = threading.Condition()  # guards the two above
        self._output = threading.Lock()
        self._heard = threading.Event()  # a line of the client came
        self._preparing = False
        self._nonce = os.urandom(8).hex()
        self._number = 0

    def run(self) -> None:
        """Serve until the end of input, then leave the process. Does not return."""
        try:
            while line := self._wire.reader.readline(LINE_BYTES_MAX):
                self._heard.set()
                if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                    self._refuse_long_line()
                elif line.strip():
                    self._take(line if line.endswith(b"\n") else line + b"\n")
        except OSError:
            pass  # the descriptor failed: the end of input
        except Exception as error:  # noqa: BLE001
            self._stop(error)
        self._leaving.input_ended()
        with self._settled:
            self._settled.wait_for(lambda: not self._open and not self._writing, DRAIN_S_MAX)
        self._leaving.leave()

    def deliver(self, link: Link | None, line: bytes, answers: str) -> None:
        """Write a line of a link's to the client. `answers` is the JSON of the id it answers, else ""."""
        with self._settled:
            if link is not self._link or answers.startswith(f'"{REPLAY_PREFIX}'):
                return
            self._open.pop(answers, None)
            self._writing += 1
        try:
            self._write(line)
        finally:
            with self._settled:
                self._writing -= 1
                self._settled.notify_all()

    def lost(self, link: Link) -> None:
        """A link noticed that it is lost. Where nobody waits for an answer, the next request will find another."""
        with self._linking:
            if link is not self._link:
                return
            self._drop_link()
            try:
                if self._open:
                    self._attach()
                else:
                    self._finder.stand_in()
            except Exception as error:  # noqa: BLE001
                self._stop(error)

    def waits(self) -> bool:
        """Whether the client is waiting for an answer."""
        return bool(self._open)

    def gone(self) -> None:
        """The client reads no more."""
        self._leaving.leave()

    def _stop(self, error: Exception) -> None:
        """Whatever it is, the client must not wait for a server that is dead."""
        print(f"session-mgmt: the server stopped: {error!r}", file=sys.stderr)
        self._leaving.leave(1)

    def _take(self, line: bytes) -> None:
        if self._link is None and not self._open:
            try:
                answer = self._opening.answer(line)
            except HandOverError:
                pass
            else:
                if answer:
                    self._write(answer)
                if self._opening.listed and not self._preparing:
                    self._preparing = True
                    threading.Thread(target=self._prepare, name="prepare", daemon=True).start()
                return
        with self._linking:
            key = self._note(line)
            if self._link is None:
                self._attach()  # feeds what is open, so this request too
                if key:
                    return
            assert self._link is not None
            try:
                self._link.feed(line, key)
            except LinkLostError:
                self._drop_link()
                self._attach()

    def _prepare(self) -> None:
        """Once the client is quiet: while its model thinks, what the first call takes is loaded."""
        while self._heard.wait(QUIET_S):
            self._heard.clear()
        if self._link is not None:
            return
        try:
            self._finder.prepare()
        except Exception as error:  # noqa: BLE001  the first call meets it again, and says so
            print(f"session-mgmt: the tools could not be loaded beforehand: {error!r}", file=sys.stderr)

    def _attach(self) -> None:
        """Find someone who serves, tell them what was agreed, and ask what is still open, in the old order."""
        while True:
            link = self._finder.connect(self, max((one.links for one in self._open.values()), default=0))
            with self._settled:
                self._link = link
                self._open = {number: one._replace(links=one.links + 1) for number, one in self._open.items()}
                waiting = list(self._open.values())
            try:
                for number, line in enumerate(self._opening.replay):
                    link.feed(_relabelled(line, number), "")
                for pending in waiting:
                    link.feed(pending.line, pending.key)
            except LinkLostError:
                self._drop_link()
            else:
                return

    def _drop_link(self) -> None:
        with self._settled:
            link, self._link = self._link, None
        if link is not None:
            link.end()

    def _note(self, line: bytes) -> str:
        """Keep a request until it is answered; its key, "" for what is no request."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return ""  # the complaint about it is not worth being sent again
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            return ""
        if message["method"] == "notifications/cancelled":
            self._cancelled(message.get("params"))
        self._opening.passed(line, message)
        if not is_id(message.get("id")):
            return ""
        self._number += 1
        key = f"{self._nonce}-{self._number}"
        with self._settled:
            self._open[json.dumps(message["id"])] = Pending(line, key, links=int(self._link is not None))
        return key

    def _cancelled(self, params: object) -> None:
        if isinstance(params, dict) and "requestId" in params:
            with self._settled:
                self._open.pop(json.dumps(params["requestId"]), None)
                self._settled.notify_all()

    def _refuse_long_line(self) -> None:
        while (rest := self._wire.reader.readline(1 << 20)) and not rest.endswith(b"\n"):
            pass
        complaint = {"code": INVALID_REQUEST, "message": f"this line is longer than {LINE_BYTES_MAX} bytes"}
        self._write(json.dumps({"jsonrpc": "2.0", "id": None, "error": complaint}).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            with self._output:
                self._wire.writer.write(line)
                self._wire.writer.flush()
        except OSError:
            self.gone()


def _relabelled(line: bytes, number: int) -> bytes:
    """The same message under an id of ours, where it has one: its answer was given already."""
    message = json.loads(line)
    if "id" in message:
        message["id"] = f"{REPLAY_PREFIX}{number}"
    return json.dumps(message).encode() + b"\n"
