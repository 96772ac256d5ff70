"""The models that benchmarks run on: S, M and E made on the spot (random weights), 135M the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rft.bench import DEFAULT_MODEL, BenchOptions, Log
from rft.bench.peer import SCRIPTS, project_root

MADE = ("S", "M", "E")


def bench_model(name: str, options: BenchOptions, log: Log) -> Path:
    """The folder of S, M, E or 135M; the first three are made when they are missing (models/bench/)."""
    if name not in MADE:
        return options.model_dir().resolve()
    root = project_root()
    folder = root / DEFAULT_MODEL.parent / "bench" / name
    if not (folder / "config.json").is_file():
        log(f"making model {name} in {folder}")
        subprocess.run([sys.executable, str(root / SCRIPTS / "make_models.py"), str(folder.parent), name], check=True)
    return folder


def gguf(folder: Path, dtype: str, log: Log) -> Path:
    """The same weights as a GGUF file for llama.cpp, converted once by its own converter (in .venv-peers)."""
    root = project_root()
    out = root / DEFAULT_MODEL.parent / "bench" / f"{folder.name}-{dtype}.gguf"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        log(f"converting {folder} to {out}")
        half_done = out.with_suffix(".part")
        subprocess.run([str(root / ".venv-peers/bin/python"), str(root / SCRIPTS / "to_gguf.py"),
                        str(root / ".venv-peers/llama.cpp/src"), str(folder), str(half_done), {"fp32": "f32"}.get(dtype, dtype)],
                       check=True, stdout=subprocess.DEVNULL)
        half_done.rename(out)
    return out
