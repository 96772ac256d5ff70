"""`rft check parity`: the sampler's log-probabilities against the trainer's, bit for bit.

Rows parity/<family>/<dtype>/<case>: `ours` is the largest absolute difference over all sampled tokens of 64 ragged requests
(prompts of 1 to 96 tokens, 1 to 48 new tokens, several samples each) that join and leave the batch; it must be exactly 0.
Families are tiny random models, and the demo model where it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from rft.bench import BenchOptions, Log, Row, row

REQUESTS, MAX_PROMPT, MAX_NEW = 64, 96, 48
TINY: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 24, "vocab_size": 512, "max_position_embeddings": 256, "eos_token_id": 2, "rope_theta": 10000.0}
FAMILIES = {"llama": ("LlamaForCausalLM", "llama", False), "qwen3": ("Qwen3ForCausalLM", "qwen3", True)}
# name -> settings of the engine; a small kv memory forces preemption and recomputation
CASES: dict[str, dict[str, int]] = {
    "one-at-a-time": {"max_batch": 1}, "batched": {"max_batch": 64}, "chunked-prefill": {"max_batch": 7, "max_batch_tokens": 11},
    "preempted": {"max_batch": 32, "max_batch_tokens": 64, "kv_memory_mb": 1}}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per family, compute type and case."""
    from rft import _native

    native = _native.load()
    for dtype in ("fp32", "bf16"):
        for family, (architecture, model_type, tied) in FAMILIES.items():
            config = {**TINY, "architectures": [architecture], "model_type": model_type, "tie_word_embeddings": tied}
            model = native.Model.create(json.dumps(config), dtype=dtype, seed=1)
            yield from check(native, model, f"parity/{family}/{dtype}", CASES, options, log)
        try:
            folder = options.model_dir()
        except FileNotFoundError:
            continue
        model = native.Model.load(str(folder), dtype=dtype)
        yield from check(native, model, f"parity/{folder.resolve().name}/{dtype}", {"batched": CASES["batched"]}, options, log)


def check(native: Any, model: Any, name: str, cases: dict[str, dict[str, int]], options: BenchOptions, log: Log) -> Iterator[Row]:
    """Samples under each case's settings, then scores the same tokens with the trainer, prompts shared and not."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, model.vocab_size, rng.integers(1, MAX_PROMPT + 1)).tolist() for _ in range(REQUESTS)]
    trainer = native.Trainer(model)
    for case, settings in cases.items():
        if options.only not in f"{name}/{case}":
            continue
        engine = native.Engine(model, **settings)
        samples = []
        for begin, new in ((0, MAX_NEW), (REQUESTS // 2, MAX_NEW // 3)):
            part = prompts[begin:begin + REQUESTS // 2]
            samples += engine.generate(part, n=3, max_tokens=new, seed=begin + 1)
        engine.close()
        worst, count = 0.0, 0
        for shared in (True, False):
            datums = [native.Datum(prompt + list(s.ids), [0.0] * len(prompt) + [1.0] * len(s.ids),
                                   prefix_id=i if shared else -1, prefix_length=len(prompt) if shared else 0)
                      for i, (prompt, group) in enumerate(zip(prompts, samples, strict=True)) for s in group]
            flat = [(prompt, s) for prompt, group in zip(prompts, samples, strict=True) for s in group]
            for (prompt, s), logprobs in zip(flat, trainer.forward(datums), strict=True):
                worst = max(worst, float(np.abs(logprobs[len(prompt):] - s.logprobs).max()))
                count += len(s.ids)
        log(f"{name}/{case}: {worst} over {count} tokens")
        yield row(f"{name}/{case}", worst, None, "nats", 0.0, tokens=count)
