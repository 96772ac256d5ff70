"""`rft bench optimizer`: one optim_step as memory traffic.

Rows optimizer/<kind>/<model>: GB/s of everything a step has to move (the norm reads the gradients; AdamW reads weights, gradients
and two moments and writes weights and moments; the compute copy is read and written; the gradients are cleared), limit: what this
machine's memory streams.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model
from rft.bench.roofline import Machine

# Float32 numbers per parameter: the norm 1, the update (below), clearing 1, packing reads 1 and writes half (bf16).
UPDATE = {"adamw": 7.0, "sgd": 5.0}
BESIDES = 1 + 1 + 1.5
ROUNDS = 7


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per optimizer and model."""
    from rft import _native

    native = _native.load()
    machine = None
    for name in ("M", "135M"):
        for kind, numbers in UPDATE.items():
            label = f"optimizer/{kind}/{name}"
            if options.only not in label:
                continue
            machine = machine or Machine.measure(log)
            model = native.Model.load(str(bench_model(name, options, log)), dtype="bf16")
            trainer = native.Trainer(model, optimizer=kind)
            seconds = []
            for _ in range(ROUNDS + 1):
                trainer.forward_backward([native.Datum([1, 2, 3], [0.0, 1.0, 1.0])], loss="cross-entropy")
                start = time.perf_counter()
                trainer.optim_step(learning_rate=1e-7, grad_clip_norm=1.0)
                seconds.append(time.perf_counter() - start)
            middle = statistics.median(seconds[1:])
            moved = 4 * (numbers + BESIDES) * model.num_parameters
            log(f"{label}: {middle * 1e3:.0f} ms for {moved / 1e9:.2f} GB")
            yield row(label, moved / middle / 1e9, None, "GB/s", machine.dram_gbps, seconds=round(middle, 4))
