"""Every ```python block of docs/training.md runs as it stands, one after another, on a tiny model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_the_blocks_run_one_after_another(llama_dir: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    code = "\n".join(blocks).replace("models/smollm2-135m-instruct", str(llama_dir))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "memory: " in done.stdout and done.stdout.count("OptimResult") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["delta", "model", "shards", "state"]
