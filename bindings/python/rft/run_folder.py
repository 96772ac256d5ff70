"""Reading and completing a run folder: metrics.jsonl, eval-*.json, summary.json. Needs neither torch nor the extension."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was being written when the run was killed is left out."""
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}:{number}: not valid JSON ({error})") from error
    return rows


def read_eval(run_dir: str | Path, when: str) -> dict[str, Any] | None:
    """eval-before.json or eval-after.json; None if that evaluation has not been made."""
    path = Path(run_dir) / f"eval-{when}.json"
    return read_json(path) if path.is_file() else None


def read_json(path: str | Path) -> dict[str, Any]:
    """One JSON object."""
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Replaces `path` in one step: readers see the old file or the new one, never a half."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
