"""Benchmarks and checks behind `rft bench` and `rft check`: a registry of names, one file each.

Each is a function `(options, log) -> iterator of rows`; a row is the dict that `rft bench` prints as one JSON line:
    name    e.g. "decode/transformers/135M/bf16/b64"
    ours, peer     medians of interleaved measurements; peer is null without --peers
    ratio   times better than the peer: ours/peer for rates, peer/ours for times
    unit, limit    what the machine would allow (bench) or the tolerance (check); null where there is none
Other keys are extras. Adding one: a file here, a line in BENCHES or CHECKS.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHES = {
    "engine": "rft.bench.engine",
    "engine-costs": "rft.bench.engine_costs",
    "engine-shapes": "rft.bench.engine_shapes",
    "invariance": "rft.bench.invariance",
    "graders": "rft.bench.graders",
    "grpo-step": "rft.bench.grpo_step",
    "int8": "rft.bench.int8",
    "losses": "rft.bench.losses",
    "memory": "rft.bench.memory",
    "moe": "rft.bench.moe",
    "optimizer": "rft.bench.optimizer",
    "sandbox": "rft.bench.sandbox",
    "serve": "rft.bench.serve",
    "train": "rft.bench.train",
}
CHECKS = {
    "adapters": "rft.bench.check_adapters",
    "http-peer": "rft.bench.check_http_peer",
    "losses": "rft.bench.check_losses",
    "memory": "rft.bench.check_memory",
    "model": "rft.bench.check_model",
    "oracle": "rft.bench.check_oracle",
    "parity": "rft.bench.check_parity",
    "trl": "rft.bench.check_trl",
}
DEFAULT_MODEL = Path("models/smollm2-135m-instruct")

Log = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class BenchOptions:
    """What the command line says."""

    peers: bool = False
    model: Path | None = None
    rounds: int = 3
    only: str = ""
    family: str = ""
    oracle: Path | None = None
    seed: int = 0

    def model_dir(self) -> Path:
        """The model to measure; FileNotFoundError says how to get one."""
        folder = self.model or DEFAULT_MODEL
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder}: no model there (`rft model get smollm2 --out {folder}`, or --model DIR)")
        return folder


def run(module: str, options: BenchOptions, log: Log) -> Iterator[Row]:
    """The rows of one benchmark or check, as they are measured."""
    rows: Iterator[Row] = importlib.import_module(module).run(options, log)
    return rows


def row(name: str, ours: float, peer: float | None, unit: str, limit: float | None, *, smaller_is_better: bool = False,
        **extras: Any) -> Row:
    """A row with its ratio."""
    ratio = None
    if peer:
        ratio = round(peer / ours if smaller_is_better else ours / peer, 3)
    return {"name": name, "ours": _digits(ours), "peer": None if peer is None else _digits(peer), "ratio": ratio, "unit": unit,
            "limit": None if limit is None else _digits(limit), **extras}


def passed(row: Row) -> bool:
    """Whether a check's row is as it should be: at most its limit (NaN is not), and by its own word where it has one."""
    return bool(row["ours"] <= row["limit"] and row.get("passed", True))


def largest(values: Iterable[float]) -> float:
    """NaN when one of them is (Python's max may drop it)."""
    found = [float(value) for value in values]
    return math.nan if any(map(math.isnan, found)) else max(found)


def size_label(num_parameters: int) -> str:
    """135M, 1.1M, 7B: how a model's size is written in row names."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if num_parameters >= size:
            value = num_parameters / size
            return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return str(num_parameters)


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
