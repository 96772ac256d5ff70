"""`rft bench engine`: sampling 64 sequences at once, against transformers' generate().

Row decode/transformers/<size>/<dtype>/b64: 64 prompts of 32 random tokens, 128 new tokens each, temperature 1 over the whole
vocabulary, no end token. tokens/s counts new tokens over the whole wall time of the call: prefill, decode, sampling.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from rft.bench import BenchOptions, Log, Row, row, size_label
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, decode_seconds

BATCH, PROMPT, NEW = 64, 32, 128


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per compute type."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    for dtype in ("fp32", "bf16"):
        model = native.Model.load(str(options.model_dir()), dtype=dtype)
        name = f"decode/transformers/{size_label(model.num_parameters)}/{dtype}/b{BATCH}"
        if options.only not in name:
            continue
        engine = native.Engine(model, max_batch=BATCH)
        prompts = random_prompts(model.vocab_size)
        with ExitStack() as stack:
            peer = None
            if options.peers:
                peer = stack.enter_context(Peer("hf_generate.py", [str(options.model_dir()), "--dtype", dtype, "--batch", str(BATCH),
                                                                   "--prompt-len", str(PROMPT), "--new-tokens", str(NEW)], log))
                peer.measure()
            measure(engine, prompts, 0)
            ours, theirs = [], []
            for index in range(options.rounds):
                ours.append(measure(engine, prompts, index + 1))
                if peer:
                    theirs.append(float(peer.measure()["tokens_per_s"]))
                log(f"{name}: round {index + 1}: ours {ours[-1]:.0f}" + (f", peer {theirs[-1]:.0f}" if theirs else "") + " tokens/s")
        engine.close()
        limit = BATCH * NEW / decode_seconds(machine, model.config, dtype, BATCH, PROMPT, NEW)
        yield row(name, statistics.median(ours), statistics.median(theirs) if theirs else None, "tokens/s", limit,
                  ours_all=[round(x, 1) for x in ours], peer_all=[round(x, 1) for x in theirs])


def random_prompts(vocab_size: int) -> list[list[int]]:
    """The same prompts as the peer's script draws."""
    rng = random.Random(0)
    return [[rng.randrange(3, vocab_size) for _ in range(PROMPT)] for _ in range(BATCH)]


def measure(engine: Any, prompts: list[list[int]], seed: int) -> float:
    """New tokens per second of one call."""
    start = time.perf_counter()
    done = engine.generate(prompts, temperature=1.0, max_tokens=NEW, ignore_eos=True, seed=seed)
    seconds = time.perf_counter() - start
    made = sum(len(sample.ids) for samples in done for sample in samples)
    if made != BATCH * NEW:
        raise RuntimeError(f"the engine made {made} tokens instead of {BATCH * NEW}")
    return made / seconds
