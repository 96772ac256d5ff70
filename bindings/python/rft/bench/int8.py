"""`rft bench int8`: decoding with int8 weights (`dtype="int8"`, for judges and references) against bf16, in turn.

Rows, prompts of 32 random tokens, 64 new tokens each:
    int8/decode/<model>/b<batch>   tokens/s; `peer`: the same model in bf16
    int8/logprob_error/135M        nats, mean over 8 greedy answers of bf16's; against fp32. `peer`: bf16's
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.check_model import PROMPTS
from rft.bench.models import bench_model
from rft.codec import load_codec

MODELS, BATCHES, PROMPT, NEW = ("135M", "M"), (1, 8, 64), 32, 64
ANSWERS = 8


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """The rows whose name contains options.only."""
    from rft import _native

    native = _native.load()
    for name in MODELS:
        batches = [batch for batch in BATCHES if options.only in f"int8/decode/{name}/b{batch}"]
        if batches:
            folder = str(bench_model(name, options, log))
            models = [native.Model.load(folder, dtype=dtype) for dtype in ("int8", "bf16")]
            for batch in batches:
                yield decode(native, models, f"int8/decode/{name}/b{batch}", batch, options.rounds)
    if options.only in "int8/logprob_error/135M":
        yield logprob_error(native, options)


def decode(native: Any, models: list[Any], name: str, batch: int, rounds: int) -> Row:
    """Medians of interleaved rounds; prefill is part of neither: its time is taken off."""
    rng = random.Random(0)
    prompts = [[rng.randrange(3, models[0].vocab_size) for _ in range(PROMPT)] for _ in range(batch)]
    rates: list[list[float]] = [[], []]
    engines = [native.Engine(model, max_batch=batch) for model in models]
    for index in range(rounds + 1):  # the first round warms up
        for engine, rate in zip(engines, rates, strict=True):
            seconds = [spent(engine, prompts, new) for new in (1, NEW + 1)]
            if index:
                rate.append(batch * NEW / (seconds[1] - seconds[0]))
    for engine in engines:
        engine.close()
    return row(name, *(statistics.median(rate) for rate in rates), "tokens/s", None)


def spent(engine: Any, prompts: list[list[int]], new: int) -> float:
    """Seconds until every prompt has `new` tokens more."""
    start = time.perf_counter()
    engine.generate(prompts, max_tokens=new, ignore_eos=True, seed=1)
    return time.perf_counter() - start


def logprob_error(native: Any, options: BenchOptions) -> Row:
    """Of the same texts, teacher-forced."""
    folder = options.model_dir()
    codec = load_codec(folder)
    prompts = [codec.encode_chat([{"role": "user", "content": text}]) for text in PROMPTS[:ANSWERS]]
    scored: dict[str, list[float]] = {}
    texts: list[list[int]] = []
    for dtype in ("bf16", "fp32", "int8"):
        with native.Engine(native.Model.load(str(folder), dtype=dtype)) as engine:
            texts = texts or [[*prompt, *map(int, answer.ids)]
                              for prompt, (answer,) in zip(prompts, engine.generate(prompts, temperature=0.0, max_tokens=NEW), strict=True)]
            scored[dtype] = [float(value) for (done,) in engine.generate(texts, max_tokens=1, prompt_logprobs=0)
                             for value in done.prompt_logprobs[1:]]
    errors = [statistics.fmean(abs(a - b) for a, b in zip(scored[dtype], scored["fp32"], strict=True)) for dtype in ("int8", "bf16")]
    return row("int8/logprob_error/135M", *errors, "nats", None, smaller_is_better=True, tokens=len(scored["fp32"]))
