"""`rft bench engine-costs`: where an iteration's time goes, by batch and context, each part against what the machine would allow.

Rows cost/<model>/<dtype>/b<batch>/c<context>: `ours` is the ms of one decode iteration (batch sequences that hold `context`
tokens each, one new token for each), `limit` the sum of the parts' limits; `matmul_ms`, `attention_ms`, `rowwise_ms` (norms,
rotary, SwiGLU), `sampling_ms` and `overhead_ms` (everything outside kernels) add up to it. Limits: products at the measured
rate, or the weights' way from DRAM where they fit no cache; the same for attention with keys and values; logits read once.
Contexts whose keys and values exceed the cache's memory are left out. `python -m rft.bench.engine_costs < ROWS` prints
docs/engine-costs.md.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model
from rft.bench.roofline import Machine, Sizes

MODELS, DTYPE = ("S", "M", "135M"), "bf16"
BATCHES, CONTEXTS = (1, 8, 64, 256), (128, 1024, 8192)
MOST_TOKENS = 1 << 16  # of all sequences together
SHORT, LONG = 4, 20    # new tokens: what prefill costs falls out of the difference
PARTS = ("matmul", "attention", "rowwise", "sampling")
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per model, batch and context; the longest contexts first, whose pages the shorter ones find in the prefix cache."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    for name in MODELS:
        points = [(batch, context) for context in sorted(CONTEXTS, reverse=True) for batch in BATCHES
                  if batch * context <= MOST_TOKENS and options.only in row_name(name, batch, context)]
        if not points:
            continue
        config = json.loads((bench_model(name, options, log) / "config.json").read_text())
        config["max_position_embeddings"] = max(CONTEXTS)
        model = native.Model.create(json.dumps(config), dtype=DTYPE, seed=1)
        rng = random.Random(0)
        texts = [[rng.randrange(3, model.vocab_size) for _ in range(max(CONTEXTS))] for _ in range(max(BATCHES))]
        with native.Engine(model, max_batch=max(BATCHES), max_batch_tokens=4096, kv_memory_mb=3072) as engine:
            for batch, context in points:
                prompts = [text[:context - LONG] for text in texts[:batch]]
                engine.generate(prompts, max_tokens=1, ignore_eos=True)
                spent = min((iteration_costs(engine, prompts) for _ in range(max(1, options.rounds - 1))), key=lambda cost: cost["busy"])
                yield cost_row(machine, config, name, batch, context, spent)
                log(f"{row_name(name, batch, context)}: {spent['busy'] * 1e3:.2f} ms")


def row_name(model: str, batch: int, context: int) -> str:
    """cost/M/bf16/b64/c1024"""
    return f"cost/{model}/{DTYPE}/b{batch}/c{context}"


def iteration_costs(engine: Any, prompts: list[list[int]]) -> dict[str, float]:
    """Seconds of one iteration in which every sequence decodes, by part, and in all ("busy")."""
    spent = []
    for new in (SHORT, LONG):
        before = settled(engine)
        engine.generate(prompts, max_tokens=new, ignore_eos=True, seed=1)
        after = settled(engine)
        spent.append({key: after[key] - before[key] for key in ("busy_s", *(f"{part}_s" for part in PARTS))})
    return {key.removesuffix("_s"): (spent[1][key] - spent[0][key]) / (LONG - SHORT) for key in spent[0]}


def settled(engine: Any) -> dict[str, float]:
    """The statistics after the last iteration's end, which comes a moment after the last token."""
    time.sleep(0.02)
    stats: dict[str, float] = engine.stats()
    return stats


def cost_row(machine: Machine, config: dict[str, Any], name: str, batch: int, context: int, spent: dict[str, float]) -> Row:
    """Times and limits in ms."""
    sizes, width, cache = Sizes.of(config), 2 if DTYPE == "bf16" else 4, last_level_cache()

    def limit(operations: float, size: float) -> float:
        from_memory = size / (machine.dram_gbps * 1e6) if size > cache else 0.0
        return max(2 * operations / (machine.gflops(DTYPE) * 1e6), from_memory)

    limits = {
        "matmul": limit(batch * (sizes.layers + sizes.head), width * (sizes.layers + sizes.head)),
        "attention": limit(batch * context * sizes.attention, width * batch * context * sizes.kv_per_token),
        "sampling": limit(0, 4 * batch * config["vocab_size"]),
    }
    parts = {f"{part}_ms": round(spent[part] * 1e3, 4) for part in PARTS}
    overhead = spent["busy"] - sum(spent[part] for part in PARTS)
    return row(row_name(name, batch, context), spent["busy"] * 1e3, None, "ms", sum(limits.values()), **parts,
               overhead_ms=round(overhead * 1e3, 4), overhead_percent=round(100 * overhead / spent["busy"], 2),
               **{f"{part}_limit_ms": round(value, 4) for part, value in limits.items()},
               tokens_per_s=round(batch / spent["busy"], 1))


def last_level_cache() -> float:
    """Bytes."""
    units = {"K": 2 ** 10, "M": 2 ** 20}
    text = CACHE.read_text().strip() if CACHE.is_file() else "0K"
    return float(text[:-1]) * units[text[-1]]


def table(rows: list[Row]) -> str:
    """The page of docs/."""
    lines = [
        "# Where an iteration's time goes", "",
        "One decode iteration of the engine, bf16, ms; `part / limit` where the machine sets one: products at their measured rate or",
        "weights from DRAM, keys and values from DRAM, logits read once. Rowwise: norms, rotary, SwiGLU. Overhead: everything outside",
        "kernels. What the columns mean in detail, and the grid: `bindings/python/rft/bench/engine_costs.py`. Printed by", "",
        "```", "rft bench engine-costs > rows.jsonl && python -m rft.bench.engine_costs < rows.jsonl > docs/engine-costs.md", "```", "",
        "| Model | Batch | Context | tokens/s | Iteration | Matmul | Attention | Rowwise | Sampling | Overhead |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]

    def part(r: Row, name: str) -> str:
        return f"{r[f'{name}_ms']:.2f} / {r[f'{name}_limit_ms']:.2f}"

    for r in rows:
        _, model, _, batch, context = r["name"].split("/")
        lines.append(f"| {model} | {batch[1:]} | {context[1:]} | {r['tokens_per_s']:,.0f} | {r['ours']:.2f} / {r['limit']:.2f} | "
                     f"{part(r, 'matmul')} | {part(r, 'attention')} | {r['rowwise_ms']:.2f} | {part(r, 'sampling')} | "
                     f"{r['overhead_ms']:.2f} ({r['overhead_percent']:.1f} %) |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table([json.loads(line) for line in sys.stdin if line.strip()]))
