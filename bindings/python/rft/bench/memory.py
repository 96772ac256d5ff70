"""`rft bench memory`: peak resident memory of training.

Rows memory/pytorch/135M/<dtype>: a full fine-tune with AdamW on 4,096 packed tokens (16 rows of 256) as one micro-batch, against
PyTorch + transformers on the same rows. Rows memory/tokens/S/<n>: one row of n tokens; `per_token_kb` is what a token adds beyond the
row before it, which stays the same while memory grows linearly. Every figure is VmHWM of a process of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.check_memory import measured
from rft.bench.models import bench_model
from rft.bench.peer import Peer

ROWS, LENGTH = 16, 256
LONG = (4096, 8192, 16384, 32768)


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per compute type, then one per length."""
    for dtype in ("bf16", "fp32"):
        name = f"memory/pytorch/135M/{dtype}"
        if options.only not in name:
            continue
        folder = bench_model("135M", options, log)
        ours = measured(folder, {"rows": ROWS, "length": LENGTH, "dtype": dtype})["measured"] / 1e6
        peer = None
        if options.peers:
            with Peer("train_step.py", [str(folder), "--dtype", dtype, "--rows", str(ROWS)], log) as process:
                process.measure("plain", 1)
                peer = process.measure("plain", 1)["peak_bytes"] / 1e6
        yield row(name, ours, peer, "MB", None if peer is None else 0.6 * peer, smaller_is_better=True)
    lengths = {f"memory/tokens/S/{length}": length for length in LONG}
    wanted = {name: length for name, length in lengths.items() if options.only in name}
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="rft-bench-") as scratch:
        folder = longer_context(bench_model("S", options, log), Path(scratch) / "S", max(LONG))
        before: tuple[int, float] | None = None
        for name, length in wanted.items():
            ours = measured(folder, {"rows": 1, "length": length, "token_budget": length})["measured"] / 1e6
            slope = None if before is None else (ours - before[1]) * 1e3 / (length - before[0])
            yield row(name, ours, None, "MB", None, per_token_kb=None if slope is None else round(slope, 2))
            before = (length, ours)


def longer_context(folder: Path, copy: Path, tokens: int) -> Path:
    """The same model with room for so many positions; its other files are the folder's own."""
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file.resolve())
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = tokens
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(json.dumps(config))
    return copy
