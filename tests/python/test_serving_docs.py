"""Every ```python and ```bash block of docs/serving.md runs as it stands, against a server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import running_server

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url(llama_dir: Path) -> Iterator[str]:
    with running_server(llama_dir, name="smollm2-135m-instruct") as server:
        yield server.url


def test_the_document_has_examples_of_both_kinds() -> None:
    assert {kind for kind, _ in BLOCKS} == {"python", "bash"} and len(BLOCKS) >= 4


@pytest.mark.parametrize(("kind", "code"), BLOCKS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(BLOCKS)])
def test_a_block_runs(url: str, kind: str, code: str) -> None:
    command = [sys.executable, "-c"] if kind == "python" else ["bash", "-euc"]
    done = subprocess.run([*command, code.replace("http://127.0.0.1:8000", url)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and '"error"' not in done.stdout
