"""`rft bench engine-shapes`: what batching, sharing and caching are worth, ours against ours without them, interleaved.

Model S (5 M parameters, random weights) in bf16 unless --model says otherwise. Rows:
    engine/ragged           tokens/s of 64 requests of 32 to 1,024 new tokens; `peer` is the uniform case: 64 x their mean
    engine/shared_prefill   ms for a prompt of 256 tokens in a group of 8; `peer`: each sample prefills it for itself
    engine/prefix_cache     ms for 16 prompts of 512 common and 16 own tokens; `peer`: without the cache
    engine/kv_memory        resident bytes per byte of the pages in use; `limit` 1.05
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row

MODEL_S: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 688,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": True}
SLOTS, REQUESTS, SHORTEST, LONGEST = 16, 64, 32, 1024


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """The rows whose name contains options.only."""
    from rft import _native

    native = _native.load()
    model = native.Model.load(str(options.model_dir()), dtype="bf16") if options.model else native.Model.create(
        json.dumps(MODEL_S), dtype="bf16", seed=1)
    for name, measure in (("engine/ragged", _ragged), ("engine/shared_prefill", _shared_prefill), ("engine/prefix_cache", _prefix_cache),
                          ("engine/kv_memory", _kv_memory)):
        if options.only in name:
            log(name)
            yield measure(native, model, name, options.rounds)


def _ragged(native: Any, model: Any, name: str, rounds: int) -> Row:
    """As many tokens either way; the long ones come in random order, and slots are filled again as short ones end."""
    rng = random.Random(1)
    lengths = [SHORTEST + (LONGEST - SHORTEST) * i // (REQUESTS - 1) for i in range(REQUESTS)]
    rng.shuffle(lengths)
    mean = sum(lengths) // REQUESTS
    prompts = [_ids(rng, model, 32) for _ in lengths]

    def rate(wanted: list[int]) -> Callable[[], float]:
        def measure() -> float:
            with native.Engine(model, max_batch=SLOTS) as engine:
                start = time.perf_counter()
                made = engine.generate(prompts, max_tokens=wanted, ignore_eos=True)
                if [len(c) for (c,) in made] != wanted:
                    raise RuntimeError("the engine made fewer tokens than it was asked for")
                return sum(wanted) / (time.perf_counter() - start)
        return measure

    ours, uniform = interleaved_medians(rounds, rate(lengths), rate([mean] * REQUESTS))
    return row(name, ours, uniform, "tokens/s", None, slots=SLOTS)


def _shared_prefill(native: Any, model: Any, name: str, rounds: int) -> Row:
    rng = random.Random(2)
    engine = native.Engine(model, prefix_cache=False)
    prompts = [_ids(rng, model, 256) for _ in range(4)]
    shared, alone = interleaved_medians(
        rounds, lambda: milliseconds(lambda: engine.generate(prompts, n=8, max_tokens=1)),
        lambda: milliseconds(lambda: engine.generate([p for p in prompts for _ in range(8)], max_tokens=1)))
    engine.close()
    return row(name, shared / 4, alone / 4, "ms", None, smaller_is_better=True)


def _prefix_cache(native: Any, model: Any, name: str, rounds: int) -> Row:
    rng = random.Random(3)
    system = _ids(rng, model, 512)
    prompts = [system + _ids(rng, model, 16) for _ in range(16)]

    def ask(cached: bool) -> Callable[[], float]:
        def measure() -> float:
            with native.Engine(model, prefix_cache=cached) as engine:
                return milliseconds(lambda: engine.generate(prompts, max_tokens=1))
        return measure

    ours, without = interleaved_medians(rounds, ask(True), ask(False))
    return row(name, ours, without, "ms", None, smaller_is_better=True)


def _kv_memory(native: Any, model: Any, name: str, rounds: int) -> Row:
    """Everything but pages is there after a first round of the same shape in another engine."""
    rng = random.Random(4)
    prompts = [_ids(rng, model, 700) for _ in range(64)]

    def grown() -> tuple[int, int]:
        with native.Engine(model, kv_memory_mb=4096, max_batch=64) as engine:
            engine.generate(prompts[:1], max_tokens=1)
            before, first = _resident(), _pages(engine)
            engine.generate(prompts, max_tokens=200, ignore_eos=True)
            stats = engine.stats()
            return _resident() - before, (_pages(engine) - first) * stats["page_bytes"]

    grown()
    bytes_, pages = grown()
    return row(name, bytes_ / pages, None, "bytes/byte", 1.05, page_bytes=pages)


def _pages(engine: Any) -> int:
    stats = engine.stats()
    return int(stats["pages_used"] + stats["pages_cached"])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _ids(rng: random.Random, model: Any, count: int) -> list[int]:
    return [rng.randrange(3, model.vocab_size) for _ in range(count)]


def milliseconds(work: Callable[[], Any]) -> float:
    """What it took."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def interleaved_medians(rounds: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Medians, after one round that is not counted."""
    ours(), other()
    pairs = [(ours(), other()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
