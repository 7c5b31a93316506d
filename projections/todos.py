"""Lists of things to do, as assistants keep them with tools."""

import re
from typing import Any, NamedTuple

import msgspec

TASKS_MAX = 500
_WHOLE_LISTS = frozenset(
    ("todowrite", "update_plan", "write_todos", "todo_write", "updatetodos", "manage_todo_list")
)
_DONE = frozenset(("completed", "complete", "done", "cancelled", "canceled", "deleted"))
_LIST = re.compile(r"^(?:todos|plan|items|todoList): (\[.*\])$", re.MULTILINE)
_SUBJECT = re.compile(r"^subject: (.+)$", re.MULTILINE)
_TASK_ID = re.compile(r"^taskId: (\S+)$", re.MULTILINE)
_STATUS = re.compile(r"^status: (\w+)$", re.MULTILINE)
_CREATED = re.compile(r"Task #(\w+) created")
_array = msgspec.json.Decoder(list[dict[str, Any]])


class Todo(NamedTuple):
    """One thing to do, and the position its state was last set at."""

    text: str
    position: int
    begun: bool


class Todos:
    """The lists of a session: the last word counts. A subagent's own list is not the session's."""

    def __init__(self) -> None:
        self._listed: list[Todo] = []
        self._tasks: dict[str, Todo] = {}

    def take(self, tool: str, text: str, result: str, position: int) -> None:
        """A call that was answered without an error."""
        name = tool.lower()
        if name in _WHOLE_LISTS:
            self._take_list(text, position)
        elif name == "taskcreate":
            subject, created = _SUBJECT.search(text), _CREATED.search(result)
            if subject and created and len(self._tasks) < TASKS_MAX:
                self._tasks[created[1]] = Todo(subject[1], position, False)
        elif name == "taskupdate":
            self._update(text, position)

    def _take_list(self, text: str, position: int) -> None:
        found = _LIST.search(text)
        if found is None:
            return
        try:
            items = _array.decode(found[1].encode())
        except msgspec.MsgspecError:  # cut in the view
            return
        self._listed = [
            Todo(words, position, item.get("status") == "in_progress")
            for item in items
            if item.get("status") not in _DONE and (words := _words_of(item))
        ]

    def _update(self, text: str, position: int) -> None:
        task, status = _TASK_ID.search(text), _STATUS.search(text)
        if task is None or task[1] not in self._tasks:
            return
        if status and status[1] in _DONE:
            del self._tasks[task[1]]
            return
        before = self._tasks[task[1]]
        subject = _SUBJECT.search(text)
        begun = status[1] == "in_progress" if status else before.begun
        self._tasks[task[1]] = Todo(subject[1] if subject else before.text, position, begun)

    def unfinished(self) -> list[Todo]:
        """What is left, that which was begun first."""
        return sorted([*self._listed, *self._tasks.values()], key=lambda todo: not todo.begun)


def _words_of(item: dict[str, Any]) -> str:
    for name in ("content", "step", "description", "title", "text"):
        if isinstance(item.get(name), str) and item[name].strip():
            return str(item[name])
    return ""
