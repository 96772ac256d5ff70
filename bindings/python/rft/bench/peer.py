"""A peer in a process of its own (and its own virtual environment), measured one round at a time.

The runners (tests/bench/peers/*) print one JSON line {"ready": ...}, then one line per "run ..." on their stdin.
Between rounds they wait for that word, so that ours and theirs never compute at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from rft.bench import Log

ENVIRONMENT = Path(".venv-peers/bin/python")
SCRIPTS = Path("tests/bench/peers")


class Peer:
    """Use in a `with` block: leaving it ends the process."""

    def __init__(self, script: str, arguments: list[str], log: Log) -> None:
        """A script of SCRIPTS for the peers' Python, or a program of .venv-peers that `make peers` built."""
        root = project_root()
        python = root / ENVIRONMENT
        program = [str(python), str(root / SCRIPTS / script)] if script.endswith(".py") else [str(root / script)]
        if not Path(program[0]).exists():
            raise FileNotFoundError(f"{program[0]}: the peers are not installed; `make peers` sets them up once")
        self._name = script
        # Their own settings stay theirs: only what would change the threads or reach for the network is set.
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
                        "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        log(f"peer: starting {script} {' '.join(arguments)}")
        self._process = subprocess.Popen([*program, *arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, bufsize=1, env=environment)
        self.ready = self._read()

    def measure(self, *words: object) -> dict[str, Any]:
        """One round (of what `words` say); what the runner prints about it."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(["run", *map(str, words)]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                content: dict[str, Any] = json.loads(line)
                return content
        code = self._process.wait()
        raise RuntimeError(f"peer {self._name}: ended with exit code {code} before it answered (its messages are above)")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def project_root() -> Path:
    """The source tree: the working directory or a parent of it that has the peers' scripts."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / SCRIPTS).is_dir():
            return folder
    raise FileNotFoundError(f"{SCRIPTS}: not found; run `rft bench --peers` in the project's folder")
