"""`rft bench moe`: the mixture-of-experts model E (15 M parameters, 16 experts, 4 per token), decoding and training.

Rows decode_moe/<peer>/E/<dtype>/b<batch> as in engine.py, train_moe/transformers/E/<dtype> as the plain step of train.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.engine import NEW, PEERS, interleaved, start_peer
from rft.bench.engine import PROMPT as DECODE_PROMPT
from rft.bench.models import bench_model
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, decode_seconds, train_seconds
from rft.bench.train import LENGTH, PROMPT, ROWS, interleaved_steps, plain

MODEL, DTYPES, BATCHES = "E", ("fp32", "bf16"), (32, 8)


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """Decoding, then training, per compute type."""
    from rft import _native

    native = _native.load()
    machine = Machine.measure(log)
    for dtype in DTYPES:
        yield from decode(native, machine, dtype, options, log)
        yield from train(native, machine, dtype, options, log)


def decode(native: Any, machine: Machine, dtype: str, options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per peer and batch size."""
    names = {(peer, batch): f"decode_moe/{peer}/{MODEL}/{dtype}/b{batch}" for batch in BATCHES for peer in PEERS}
    names = {key: name for key, name in names.items() if options.only in name}
    if not names:
        return
    folder = bench_model(MODEL, options, log)
    model = native.Model.load(str(folder), dtype=dtype)
    with native.Engine(model, max_batch=max(BATCHES)) as engine, ExitStack() as stack:
        peers = {peer: stack.enter_context(start_peer(peer, folder, dtype, max(BATCHES), log))
                 for peer in PEERS if options.peers and any(peer == wanted for wanted, _ in names)}
        for batch in BATCHES:
            wanted = [peer for peer, size in names if size == batch]
            if not wanted:
                continue
            rates = interleaved(engine, model.vocab_size, {peer: peers[peer] for peer in wanted if peer in peers}, batch,
                                options.rounds, f"{MODEL}/{dtype}/b{batch}", log)
            limit = batch * NEW / decode_seconds(machine, model.config, dtype, batch, DECODE_PROMPT, NEW)
            for peer in wanted:
                theirs = rates.get(peer, [])
                yield row(names[peer, batch], statistics.median(rates["ours"]), statistics.median(theirs) if theirs else None,
                          "tokens/s", limit, ours_all=[round(x, 1) for x in rates["ours"]], peer_all=[round(x, 1) for x in theirs])


def train(native: Any, machine: Machine, dtype: str, options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row."""
    name = f"train_moe/transformers/{MODEL}/{dtype}"
    if options.only not in name:
        return
    folder = bench_model(MODEL, options, log)
    model = native.Model.load(str(folder), dtype=dtype)
    trainer, rows = native.Trainer(model), plain(native.Datum, model.vocab_size)
    with ExitStack() as stack:
        peer = stack.enter_context(Peer("train_step.py", [str(folder), "--dtype", dtype], log)) if options.peers else None
        ours, theirs, _ = interleaved_steps(trainer, rows, "plain", peer, options.rounds, name, log)
    tokens = sum(len(datum) for datum in rows)
    limit = tokens / train_seconds(machine, model.config, dtype, tokens, ROWS * (LENGTH - PROMPT))
    yield row(name, tokens / statistics.median(ours), tokens / statistics.median(theirs) if theirs else None, "tokens/s", limit,
              ours_s=[round(x, 3) for x in ours], peer_s=[round(x, 3) for x in theirs])
