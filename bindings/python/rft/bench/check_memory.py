"""`rft check memory`: the memory planner's prediction against the process's real peak, each configuration in a process of its own.

Rows memory/<model>/<what>: ours = |predicted / measured - 1|, at most 0.1; measured is VmHWM after two optimizer steps.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model

LIMIT = 0.1
# Rows of `length` tokens of which the last `wanted` are predicted, `group` of them sharing the rest.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "135M/bf16": {"rows": 16},
    "135M/fp32": {"rows": 8, "dtype": "fp32"},
    "135M/bf16-checkpoint": {"rows": 32, "checkpoint_every": 1},
    "135M/bf16-lora": {"rows": 16, "rank": 16},
    "135M/bf16-sgd-long": {"rows": 2, "length": 2048, "optimizer": "sgd"},
    "M/bf16-group": {"rows": 32, "group": 8, "wanted": 64, "length": 512},
    "M/fp32-every-second-layer": {"rows": 16, "dtype": "fp32", "checkpoint_every": 2},
    "S/fp32-long": {"rows": 2, "length": 8192, "dtype": "fp32", "token_budget": 8192},
    "E/bf16-experts": {"rows": 32},
    "135M/bf16-grpo-run": {"run": True},
}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per configuration."""
    for name, settings in CONFIGURATIONS.items():
        if options.only not in f"memory/{name}":
            continue
        folder = bench_model(name.split("/")[0], options, log)
        result = measured(folder, settings)
        log(f"{name}: {result['text']}\n  measured {result['measured'] / 1e6:.0f} MB")
        yield row(f"memory/{name}", abs(result["predicted"] / result["measured"] - 1), None, "relative", LIMIT,
                  predicted_mb=round(result["predicted"] / 1e6), measured_mb=round(result["measured"] / 1e6))


def measured(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `measure` says, from a process of its own."""
    done = subprocess.run([sys.executable, "-m", "rft.bench.check_memory", str(folder), json.dumps(settings)],
                          check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{folder} {settings}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Plans, makes two steps, looks at the peak."""
    plan = run_steps(folder) if settings.get("run") else train_steps(folder, **settings)
    return {"predicted": max(plan["total_bytes"], plan["peak_before"]), "measured": peak_bytes(), "text": plan["text"]}


def peak_bytes() -> int:
    """The most that was resident so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def train_steps(folder: Path, rows: int, length: int = 256, wanted: int = 0, group: int = 1, dtype: str = "bf16", rank: int = 0,
                checkpoint_every: int = 0, optimizer: str = "adamw", token_budget: int = 4096) -> dict[str, Any]:
    """The trainer alone."""
    from rft import _native

    native, rng = _native.load(), random.Random(0)
    model = native.Model.load(str(folder), dtype=dtype)
    adapter = native.Adapter(model, rank=rank) if rank else None
    trainer = native.Trainer(model, adapter, token_budget=token_budget, checkpoint_every=checkpoint_every, optimizer=optimizer)
    wanted = wanted or length - 1
    shared = length - wanted if group > 1 else 0
    datums = []
    for index in range(rows):
        if index % group == 0:
            prompt = [rng.randrange(3, model.vocab_size) for _ in range(length - wanted)]
        ids = prompt + [rng.randrange(3, model.vocab_size) for _ in range(wanted)]
        datums.append(native.Datum(ids, [0.0] * (length - wanted) + [1.0] * wanted, advantages=[1.0] * length,
                                   prefix_id=index // group if shared else -1, prefix_length=shared))
    tokens = rows * length - (rows - rows // group) * shared
    plan: dict[str, Any] = trainer.plan_memory(tokens_per_step=tokens, longest_row=length, predicted_part=rows * wanted / tokens)
    plan["peak_before"] = peak_bytes()
    for _ in range(2):
        trainer.forward_backward(datums, loss="grpo")
        trainer.optim_step(learning_rate=1e-6)
    return plan


def run_steps(folder: Path) -> dict[str, Any]:
    """A whole run: engine, trainer and the reference of a KL term."""
    from rft.run import Run
    from rft.tasks.arithmetic import generate

    with tempfile.TemporaryDirectory(prefix="rft-check-") as scratch:
        train, heldout = generate(Path(scratch), seed=0, num_train=64, num_heldout=16)
        run_file = Path(scratch) / "run.yaml"
        run_file.write_text(json.dumps({
            "name": "check-memory", "model": str(folder), "run_dir": str(Path(scratch) / "run"),
            "data": {"train": str(train), "heldout": str(heldout)}, "losses": {"kl_coef": 0.01},
            "graders": [{"name": "correct", "type": "number_match"}],
            "rollout": {"prompts_per_step": 8, "group_size": 8, "max_tokens": 32, "min_tokens": 32, "max_refill_rounds": 0},
            "filter": {"zero_variance": False}, "trainer": {"dtype": "bf16", "steps": 2}}))
        run = Run.from_file(run_file)
        plan = dict(run.memory_plan or {}, peak_before=peak_bytes())
        for _ in range(2):
            run.step()
        run.close()
    return plan


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), json.loads(sys.argv[2]))))
