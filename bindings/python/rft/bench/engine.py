"""`rft bench engine`: sampling whole batches, against transformers' generate() and llama.cpp.

Rows decode/<peer>/<model>/<dtype>/b<batch>: prompts of 32 random tokens, 128 new tokens each, temperature 1 over the whole
vocabulary, the log-probability of every token, no end token. tokens/s counts new tokens over the whole wall time of the call:
prefill, decode, sampling. Models: S (5 M), M (88 M), random weights; 135M, the real one. Our side is measured once per
round and stands in the rows of both peers.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model, gguf
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, decode_seconds

MODELS, DTYPES, BATCHES = ("135M", "M", "S"), ("fp32", "bf16"), (64, 32, 8, 1)
PEERS = ("transformers", "llama.cpp")
PROMPT, NEW = 32, 128


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per peer, model, compute type and batch size."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    for name in MODELS:
        for dtype in DTYPES:
            wanted = {batch: [peer for peer in PEERS if options.only in row_name(peer, name, dtype, batch)] for batch in BATCHES}
            batches = [batch for batch in BATCHES if wanted[batch]]
            if not batches:
                continue
            folder = bench_model(name, options, log)
            model = native.Model.load(str(folder), dtype=dtype)
            engine = native.Engine(model, max_batch=max(batches))
            with ExitStack() as stack:
                peers = {peer: stack.enter_context(start_peer(peer, folder, dtype, max(batches), log))
                         for peer in PEERS if options.peers and any(peer in names for names in wanted.values())}
                for batch in batches:
                    rates = interleaved(engine, model.vocab_size, {peer: peers[peer] for peer in wanted[batch] if peer in peers},
                                        batch, options.rounds, f"{name}/{dtype}/b{batch}", log)
                    limit = batch * NEW / decode_seconds(machine, model.config, dtype, batch, PROMPT, NEW)
                    for peer in wanted[batch]:
                        theirs = rates.get(peer, [])
                        yield row(row_name(peer, name, dtype, batch), statistics.median(rates["ours"]),
                                  statistics.median(theirs) if theirs else None, "tokens/s", limit,
                                  ours_all=[round(x, 1) for x in rates["ours"]], peer_all=[round(x, 1) for x in theirs])
            engine.close()


def row_name(peer: str, model: str, dtype: str, batch: int) -> str:
    """decode/llama.cpp/135M/bf16/b64"""
    return f"decode/{peer}/{model}/{dtype}/b{batch}"


def start_peer(peer: str, folder: Path, dtype: str, max_batch: int, log: Log) -> Peer:
    """Loads the model and warms up."""
    if peer == "transformers":
        return Peer("hf_generate.py", [str(folder), "--dtype", dtype, "--max-batch", str(max_batch), "--prompt-len", str(PROMPT),
                                       "--new-tokens", str(NEW)], log)
    return Peer(".venv-peers/llama.cpp/llamacpp_generate",
                [str(gguf(folder, dtype, log)), str(max_batch), str(PROMPT), str(NEW), str(len(os.sched_getaffinity(0)))], log)


def interleaved(engine: Any, vocab_size: int, peers: dict[str, Peer], batch: int, rounds: int, label: str,
                log: Log) -> dict[str, list[float]]:
    """tokens/s of every round: "ours" and each peer's, taken in turn."""
    rates: dict[str, list[float]] = {"ours": [], **{peer: [] for peer in peers}}
    prompts = random_prompts(vocab_size, batch)
    measure(engine, prompts, 0, 16)
    for index in range(rounds):
        rates["ours"].append(measure(engine, prompts, index + 1, NEW))
        for peer, process in peers.items():
            rates[peer].append(float(process.measure(batch)["tokens_per_s"]))
        log(f"{label}: round {index + 1}: " + ", ".join(f"{who} {values[-1]:.0f}" for who, values in rates.items()) + " tokens/s")
    return rates


def random_prompts(vocab_size: int, batch: int) -> list[list[int]]:
    """The same prompts as the peers' scripts draw."""
    rng = random.Random(0)
    return [[rng.randrange(3, vocab_size) for _ in range(PROMPT)] for _ in range(batch)]


def measure(engine: Any, prompts: list[list[int]], seed: int, new_tokens: int) -> float:
    """New tokens per second of one call."""
    start = time.perf_counter()
    # The peers compute the prompts of every round, so ours are not taken from the round before.
    done = engine.generate(prompts, temperature=1.0, max_tokens=new_tokens, ignore_eos=True, seed=seed, use_prefix_cache=False)
    seconds = time.perf_counter() - start
    made = sum(len(sample.ids) for samples in done for sample in samples)
    if made != len(prompts) * new_tokens:
        raise RuntimeError(f"the engine made {made} tokens instead of {len(prompts) * new_tokens}")
    return made / seconds
