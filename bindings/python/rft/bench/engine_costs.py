"""`rft bench engine-costs`: where an iteration's time goes, by batch and context, each part against what the machine would allow.

Rows cost/<model>/<dtype>/b<batch>/c<context>: `ours` is the ms of one decode iteration (batch sequences that hold `context`
tokens each, one new token for each), `limit` the sum of the parts' limits; `matmul_ms`, `attention_ms`, `rowwise_ms` (norms,
rotary, SwiGLU), `sampling_ms` and `overhead_ms` (everything outside kernels) add up to it. The engine itself says what each
iteration computed and where its time went (Engine.recent_iterations): a row is the mean of the middle half, by time, of those
that decoded one token for each of the `batch` sequences and nothing else; `iterations` says how many there were. Limits: products
at the measured rate, or the weights' way from DRAM as far as they don't fit the last-level cache; the same for attention with
the keys and values that were read; logits read once. Of several rounds the fastest. A row with a part well below its limit
contradicts itself: the machine's rates are measured again, and if that does not explain it, the row is left out and reported at
the end. `python -m rft.bench.engine_costs < ROWS` prints docs/engine-costs.md.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model
from rft.bench.roofline import Machine, Sizes

MODELS, DTYPE = ("S", "M", "135M"), "bf16"
# Batches by context, as far as their prefill is worth the wait.
GRID = {8192: (1, 4), 1024: (1, 8, 32, 64), 128: (1, 8, 32, 64, 256)}
LONGEST, LARGEST = max(GRID), max(map(max, GRID.values()))
NEW = 24               # tokens of each sequence: more than the iterations that the longest prefill takes
ATTEMPTS = 5
BELOW_LIMIT = 0.8      # of a part's limit: less can't be, whatever the limit's own noise
PARTS = ("matmul", "attention", "rowwise", "sampling")
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per model, batch and context; the longest contexts first, whose pages the shorter ones find in the prefix cache."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    refused = []
    for name in MODELS:
        points = [(batch, context) for context, batches in GRID.items() for batch in batches
                  if options.only in row_name(name, batch, context)]
        if not points:
            continue
        config = json.loads((bench_model(name, options, log) / "config.json").read_text())
        config["max_position_embeddings"] = LONGEST + NEW
        model = native.Model.create(json.dumps(config), dtype=DTYPE, seed=1)
        rng = random.Random(0)
        texts = [[rng.randrange(3, model.vocab_size) for _ in range(LONGEST)] for _ in range(LARGEST)]
        with native.Engine(model, max_batch=LARGEST, max_batch_tokens=4096, kv_memory_mb=3072) as engine:
            for batch, context in points:
                prompts = [text[:context - NEW // 2] for text in texts[:batch]]
                rounds = [decode_iterations(engine, prompts) for _ in range(max(1, options.rounds - 1))]
                best = fastest(machine, config, name, batch, context, rounds)
                if contradiction(best):  # unless the machine was slower when its rates were measured
                    machine = machine.at_best(Machine.measure(log))
                    best = fastest(machine, config, name, batch, context, rounds)
                if wrong := contradiction(best):
                    log(wrong)
                    refused.append(wrong)
                    continue
                log(f"{best['name']}: {best['ours']:.2f} ms")
                yield best
    if refused:
        raise RuntimeError("rows that contradict themselves were left out: " + "; ".join(refused))


def row_name(model: str, batch: int, context: int) -> str:
    """cost/M/bf16/b64/c1024"""
    return f"cost/{model}/{DTYPE}/b{batch}/c{context}"


def decode_iterations(engine: Any, prompts: list[list[int]]) -> list[dict[str, float]]:
    """What the engine says of the iterations that gave every sequence one token more and did nothing else.

    Tried again where there was none: on a busy machine the first sequences may have ended before the last ones came.
    """
    for _ in range(ATTEMPTS):
        before = engine.stats()["iterations"]
        engine.generate(prompts, max_tokens=NEW, ignore_eos=True, seed=1)
        found = [cost for cost in engine.recent_iterations()
                 if cost["index"] >= before and cost["prefill_tokens"] == 0 and cost["decode_tokens"] == len(prompts)]
        if found:
            return found
    raise RuntimeError(f"{len(prompts)} sequences of {len(prompts[0])} tokens: no iteration only decoded; give the engine more memory")


def middle_half(iterations: list[dict[str, float]]) -> dict[str, float]:
    """Means over the middle half by time: what is unusually fast or slow has no part in them, and sums stay sums."""
    ordered = sorted(iterations, key=lambda cost: cost["busy_s"])
    kept = ordered[len(ordered) // 4:len(ordered) - len(ordered) // 4]
    return {key: sum(cost[key] for cost in kept) / len(kept) for key in kept[0]}


def fastest(machine: Machine, config: dict[str, Any], name: str, batch: int, context: int,
            rounds: list[list[dict[str, float]]]) -> Row:
    """The row of the round that took the least time."""
    return min((cost_row(machine, config, name, batch, context, iterations) for iterations in rounds), key=lambda r: float(r["ours"]))


def cost_row(machine: Machine, config: dict[str, Any], name: str, batch: int, context: int,
             iterations: list[dict[str, float]]) -> Row:
    """Times and limits in ms."""
    spent = middle_half(iterations)
    sizes, width, cache = Sizes.of(config), 2 if DTYPE == "bf16" else 4, last_level_cache()

    def limit(operations: float, size: float) -> float:
        return max(2 * operations / (machine.gflops(DTYPE) * 1e6), max(0.0, size - cache) / (machine.dram_gbps * 1e6))

    limits = {
        "matmul": limit(batch * (sizes.layers + sizes.head), width * (sizes.layers + sizes.head)),
        "attention": limit(spent["decode_keys"] * sizes.attention, width * spent["decode_keys"] * sizes.kv_per_token),
        "sampling": limit(0, 4 * batch * config["vocab_size"]),
    }
    parts = {f"{part}_ms": round(spent[f"{part}_s"] * 1e3, 4) for part in PARTS}
    overhead = spent["busy_s"] - sum(spent[f"{part}_s"] for part in PARTS)
    return row(row_name(name, batch, context), spent["busy_s"] * 1e3, None, "ms", sum(limits.values()), **parts,
               overhead_ms=round(overhead * 1e3, 4), overhead_percent=round(100 * overhead / spent["busy_s"], 2),
               **{f"{part}_limit_ms": round(value, 4) for part, value in limits.items()},
               tokens_per_s=round(batch / spent["busy_s"], 1), iterations=len(iterations))


def contradiction(r: Row) -> str:
    """What can't be true of a row; empty if nothing."""
    for part in PARTS:
        if r[f"{part}_ms"] < BELOW_LIMIT * r.get(f"{part}_limit_ms", 0.0):
            return f"{r['name']}: {part} took {r[f'{part}_ms']:.2f} ms where {r[f'{part}_limit_ms']:.2f} are needed"
    if r["overhead_ms"] < 0:
        return f"{r['name']}: the parts exceed the whole by {-r['overhead_ms']:.2f} ms"
    return ""


def last_level_cache() -> float:
    """Bytes."""
    units = {"K": 2 ** 10, "M": 2 ** 20}
    text = CACHE.read_text().strip() if CACHE.is_file() else "0K"
    return float(text[:-1]) * units[text[-1]]


def table(rows: list[Row]) -> str:
    """The page of docs/."""
    lines = [
        "# Where an iteration's time goes", "",
        "A row is one decode iteration of the engine in bf16: `Batch` sequences that hold `Context` tokens each get one token more, and",
        "nothing else is computed. Times in ms, as the engine itself took them (the mean of the middle half of some twenty such iterations);",
        "`part / limit` where the machine sets one: products at their measured rate or weights from DRAM, attention the same with keys",
        "and values, logits read once (what fits the last-level cache is free). Rowwise: norms, rotary, SwiGLU. Overhead: everything",
        "outside kernels. A row with a part far below its limit would contradict itself and is not printed. Printed by", "",
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
