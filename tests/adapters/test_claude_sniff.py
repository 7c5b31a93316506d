"""Files of other assistants are reported and left alone; anything else counts as Claude Code's."""

from pathlib import Path

import pytest
from memory_log import MemoryLog

from session_mgmt_mcp.adapters.claude_code.importer import import_files

OTHERS = {
    "Codex": b'{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"x"}}\n',
    "Copilot CLI": b'{"type":"session.start","data":{"sessionId":"x"},"id":"1","timestamp":"2026-01-01T00:00:00Z"}\n',
    "Gemini CLI": b'{\n  "sessionId": "x",\n  "projectHash": "ab",\n  "messages": []\n}\n',
    "opencode": b'{\n  "info": {\n    "id": "ses_1"\n  },\n  "messages": []\n}\n',
    "Cursor": b'{"role":"user","message":{"content":[{"type":"text","text":"hello"}]}}\n',
}


@pytest.mark.parametrize("assistant", OTHERS)
def test_a_file_of_another_assistant_is_one_error_that_names_it(assistant: str, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(OTHERS[assistant])
    log = MemoryLog()
    report = import_files([path], log, redact=bytes)
    assert (report.read, report.errors, report.appended) == (1, 1, 0)
    assert assistant in report.error_samples[0].reason
    assert log.head().position == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"summary","summary":"a title","leafUuid":"u"}\n',
        b'{"type":"a-type-of-next-year","sessionId":"s","payload":1}\n',
        b'{"anything": true}\n',
        b"not json\n",
    ],
)
def test_a_file_that_is_not_plainly_of_another_assistant_is_read(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(line + b'{"type":"user","uuid":"u","sessionId":"s","message":{"content":"hi"}}\n')
    report = import_files([path], MemoryLog(), redact=bytes)
    assert report.appended >= 1
