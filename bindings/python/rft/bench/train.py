"""`rft bench train`: a training step, against PyTorch + transformers.

Rows train/pytorch/<model>/<dtype>: 8 rows of 256 tokens without shared prompts, policy loss on the last 192 of each, backward,
AdamW; tokens/s counts all 2,048. Rows train-group/pytorch/<model>/<dtype>: the training half of a GRPO step with 8 prompts of 256
tokens x 8 ragged completions (mean about 48, at most 256 tokens): theirs padded, ours packed with each prompt once. bf16 is autocast
over float32 weights there, bf16 compute with float32 master weights here.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, train_seconds

MODELS, DTYPES = ("135M", "M", "S"), ("bf16", "fp32")
ROWS, LENGTH, PROMPT = 8, 256, 64
SHORT_STEP = 1.0  # seconds
GROUPS, GROUP_SIZE, GROUP_PROMPT, MEAN, LONGEST = 8, 8, 256, 48, 256


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """Two rows per model and compute type."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    lengths = completion_lengths()
    for name in MODELS:
        for dtype in DTYPES:
            names = {"plain": f"train/pytorch/{name}/{dtype}", "group": f"train-group/pytorch/{name}/{dtype}"}
            kinds = [kind for kind in names if options.only in names[kind]]
            if not kinds:
                continue
            folder = bench_model(name, options, log)
            model = native.Model.load(str(folder), dtype=dtype)
            trainer = native.Trainer(model)
            work = {"plain": plain(native.Datum, model.vocab_size), "group": group(native.Datum, model.vocab_size, lengths)}
            with ExitStack() as stack:
                peer = None
                if options.peers:
                    peer = stack.enter_context(Peer("train_step.py", [str(folder), "--dtype", dtype,
                                                                      "--lengths", ",".join(map(str, lengths))], log))
                for kind in kinds:
                    ours, theirs, computed = interleaved_steps(trainer, work[kind], kind, peer, options.rounds, names[kind], log)
                    tokens = sum(len(datum) for datum in work[kind])
                    wanted = ROWS * (LENGTH - PROMPT) if kind == "plain" else sum(lengths)
                    limit = tokens / train_seconds(machine, model.config, dtype, computed, wanted)
                    yield row(names[kind], tokens / statistics.median(ours), tokens / statistics.median(theirs) if theirs else None,
                              "tokens/s", limit, ours_s=[round(x, 3) for x in ours], peer_s=[round(x, 3) for x in theirs])


def completion_lengths() -> list[int]:
    """Ragged: exponential with the given mean, cut at the longest, the same for both sides."""
    rng = random.Random(0)
    return [min(LONGEST, 1 + int(rng.expovariate(1 / (MEAN - 1)))) for _ in range(GROUPS * GROUP_SIZE)]


def plain(datum: Any, vocab_size: int) -> list[Any]:
    """Rows that share nothing."""
    rng = random.Random(1)
    return [datum([rng.randrange(3, vocab_size) for _ in range(LENGTH)], [0.0] * PROMPT + [1.0] * (LENGTH - PROMPT),
                  advantages=[1.0 if index % 2 == 0 else -1.0] * LENGTH) for index in range(ROWS)]


def group(datum: Any, vocab_size: int, lengths: list[int]) -> list[Any]:
    """Rows of a group share their prompt."""
    rng = random.Random(2)
    rows = []
    for first in range(0, len(lengths), GROUP_SIZE):
        prompt = [rng.randrange(3, vocab_size) for _ in range(GROUP_PROMPT)]
        for index, length in enumerate(lengths[first:first + GROUP_SIZE]):
            ids = prompt + [rng.randrange(3, vocab_size) for _ in range(length)]
            rows.append(datum(ids, [0.0] * GROUP_PROMPT + [1.0] * length, advantages=[1.0 if index % 2 == 0 else -1.0] * len(ids),
                              prefix_id=first // GROUP_SIZE, prefix_length=GROUP_PROMPT))
    return rows


def interleaved_steps(trainer: Any, rows: list[Any], kind: str, peer: Peer | None, rounds: int, name: str,
                      log: Log) -> tuple[list[float], list[float], int]:
    """Seconds of a step in each round, ours and the peer's, after one round that doesn't count; positions computed.

    Steps of under a second are made as training makes them, one after another: a round is one untimed step, which finds the caches
    as the other side left them, and the median of the next five.
    """
    first, computed = step(trainer, rows)
    count = 1 if first >= SHORT_STEP else 5
    if peer:
        peer.measure(kind, 1)
    ours, theirs = [], []
    for index in range(rounds):
        if count > 1:
            step(trainer, rows)
        ours.append(statistics.median(step(trainer, rows)[0] for _ in range(count)))
        if peer:
            theirs.append(float(peer.measure(kind, count)["seconds"]))
        log(f"{name}: round {index + 1}: ours {ours[-1]:.3f} s" + (f", peer {theirs[-1]:.3f} s" if theirs else ""))
    return ours, theirs, computed


def step(trainer: Any, rows: list[Any]) -> tuple[float, int]:
    """Seconds of one forward, backward and AdamW; positions computed."""
    start = time.perf_counter()
    result = trainer.forward_backward(rows, loss="grpo")
    trainer.optim_step(learning_rate=1e-6)
    return time.perf_counter() - start, result.num_computed_tokens
