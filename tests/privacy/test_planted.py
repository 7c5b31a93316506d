"""Secrets planted wherever text comes in, through the real processes: afterwards none is anywhere on disk."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from folder_bytes import contents
from secret_samples import PEM, SAMPLES, _mixed

LIFE = Path(__file__).parents[1] / "support" / "product_life.py"
HIDDEN = "the-cat-sleeps-in-the-mill-7731"  # what stands in <private>
# what only its name and its randomness tell: importers and servers take it out, hooks do not
ASSIGNED = _mixed("planted", 40)


def planted() -> dict[str, str]:
    """Kind -> a text with a secret of that kind; one of each."""
    texts = {rule: "".join(parts) for rule, parts in SAMPLES}
    return {**texts, "private-key": PEM, "private": f"before <private>{HIDDEN}</private> after"}


def needles() -> dict[bytes, str]:
    """The longest stretch of letters and digits of each secret, and its kind; half a secret is too much already."""
    secrets = {rule: parts[1] for rule, parts in SAMPLES}
    out = {
        max(re.findall(r"[A-Za-z0-9]+", secret), key=len).encode(): rule for rule, secret in secrets.items()
    }
    out = {needle: rule for needle, rule in out.items() if len(needle) >= 8}
    for line in PEM.splitlines()[1:-1]:
        out[line.encode()] = "private-key"
    out[HIDDEN.encode()] = "private"
    return out


def test_a_hundred_secrets_of_as_many_kinds_are_planted() -> None:
    assert len(planted()) >= 100
    assert len(set(needles().values())) >= 100


def found_in(folder: Path, sought: dict[bytes, str]) -> set[tuple[str, str]]:
    """(kind, where) of what is found, in any case of its letters."""
    pattern = re.compile(b"|".join(sorted(map(re.escape, sought), key=len, reverse=True)), re.IGNORECASE)
    lowered = {needle.lower(): rule for needle, rule in sought.items()}
    return {
        (lowered[match.lower()], where)
        for where, raw in contents(folder)
        for match in set(pattern.findall(raw))
    }


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    secret = next(iter(needles()))
    (tmp_path / "a.log").write_bytes(b"x" + secret.upper() + b"y")
    assert {where for _, where in found_in(tmp_path, needles())} == {"a.log"}


@pytest.mark.slow
def test_no_planted_secret_is_anywhere_on_disk(tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(list(planted().values())))
    done = subprocess.run(
        [sys.executable, str(LIFE), str(tmp_path / "life"), str(texts)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (tmp_path / "life" / "said.txt").write_bytes(
        done.stdout + done.stderr
    )  # what commands, hooks and servers said
    transcripts = tmp_path / "life" / "home" / ".claude"  # the assistant's own, where they were read
    for path in transcripts.rglob("*.jsonl"):
        path.unlink()
    assert (tmp_path / "life" / "data" / "views" / "query").is_dir()
    assert found_in(tmp_path / "life", needles()) == set()
    marks = b"".join(raw for _, raw in contents(tmp_path / "life" / "data"))
    unmarked = {
        rule for rule in planted() if rule != "private" and f"[redacted:{rule}]".encode() not in marks
    }
    assert unmarked == set()
