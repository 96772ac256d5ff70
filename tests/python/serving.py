"""A server over a tiny model, for tests: in this process, or as the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running_server(folder: Path, dtype: str = "fp32", name: str = "tiny", **options: Any) -> Iterator[Any]:
    """An rft.Server in this process."""
    from rft import _native
    from rft.codec import load_codec
    from rft.structure import compiler

    native = _native.load()
    model, codec = native.Model.load(str(folder), dtype=dtype), load_codec(folder)
    with native.Server(model, codec.native(), [name], kv_memory_mb=64, compile_grammar=compiler(codec), **options) as server:
        yield server


@contextmanager
def serve_command(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`rft serve` in a process of its own, and the base URL that it prints."""
    command = [sys.executable, "-c", "from rft.cli import main; main()", "serve", str(folder), "--port", "0", "--kv-memory-mb", "64"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()
