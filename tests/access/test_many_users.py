"""Users of one service at the same time: each request is answered for the one whose key it shows."""

import re
import threading
from pathlib import Path

import pytest
from attack_kit import Target, data_folder, new_key

from session_mgmt_mcp.core.access import Role
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.tools.app import App

ROUNDS = 12


@pytest.mark.slow
def test_users_at_once_never_see_each_other_and_are_told_of_in_the_audit(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data")
    words = {"mira": "wheelwright", "noor": "bullionist", "otto": "threadbare"}
    keys = {name: new_key(folder, name, projects=(f"/srv/{name}",)).text for name in words}
    reader = new_key(folder, "rita", Role.READER).text
    problems: list[str] = []
    with Target(folder) as service:

        def work(name: str) -> None:
            others = [word for other, word in words.items() if other != name]
            for n in range(ROUNDS):
                service.call("remember", {"text": f"{words[name]} note {n} of many"}, key=keys[name])
                for query in ("note of many", *others):
                    text = service.call("search", {"query": query, "limit": 50}, key=keys[name]).text
                    problems.extend(f"{name}: {text}" for word in others if word in text.replace(query, ""))
                    seen = set(re.findall(r"note (\d+) of", text))
                    if query == "note of many" and seen != {str(k) for k in range(n + 1)}:
                        problems.append(f"{name} misses its own: {seen} after {n}")

        threads = [threading.Thread(target=work, args=(name,)) for name in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = service.call("remember", {"text": "x"}, key=reader)
        assert "remember is not allowed" in str(refused.message)
        assert service.stop() == 0
    assert problems == []
    with App.open(folder) as app:
        events = [event for batch in app.log.read(0) for event in batch]
    actors = {e.envelope.actor for e in events if e.envelope.event_type == EventType.ACCESS_GRANTED}
    assert actors == {*words, "rita"}
    denied = [e for e in events if e.envelope.event_type == EventType.ACCESS_DENIED]
    assert [(e.envelope.actor, b'"role"' in (e.payload or b"")) for e in denied] == [("rita", True)]
    stored = [e.envelope.actor for e in events if e.envelope.event_type == EventType.REFLECTION_STORED]
    assert sorted(stored) == sorted(list(words) * ROUNDS)
    kinds = [e.envelope.event_type for e in events]
    assert kinds.count(EventType.SERVICE_STARTED) == kinds.count(EventType.SERVICE_STOPPED) == 1
