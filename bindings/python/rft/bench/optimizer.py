"""`rft bench optimizer`: one optim_step as memory traffic.

Rows optimizer/<kind>/<model>: GB/s of everything a step has to move (the norm reads the gradients; AdamW reads weights, gradients
and two moments, writes weights and moments and clears the gradients; the compute copy is written, from weights that are still in
the cache). limit: the time of the
same bytes at what passes like these stream here, measured between the steps: a plain read for the norm, and an update in place
(x *= c over four arrays in huge pages) for the rest. Reading alone is not the limit of a stream that also writes: a core moves more
when both directions are busy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model

# Float32 numbers per parameter: what the norm reads, the update with the gradient's clearing, the compute copy (bf16: half).
NORM = 1.0
UPDATE = {"adamw": 8.0, "sgd": 6.0}
PACKING = 0.5
ROUNDS = 7


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per optimizer and model."""
    from rft import _native

    native = _native.load()
    for name in ("M", "135M"):
        for kind, update in UPDATE.items():
            label = f"optimizer/{kind}/{name}"
            if options.only not in label:
                continue
            model = native.Model.load(str(bench_model(name, options, log)), dtype="bf16")
            trainer = native.Trainer(model, optimizer=kind)
            step, limit = [], []
            for _ in range(ROUNDS + 1):
                trainer.forward_backward([native.Datum([1, 2, 3], [0.0, 1.0, 1.0])], loss="cross-entropy")
                start = time.perf_counter()
                trainer.optim_step(learning_rate=1e-7, grad_clip_norm=1.0)
                step.append(time.perf_counter() - start)
                rates = native.memory_roofline()
                limit.append(4e-9 * model.num_parameters * (NORM / rates["read_gbps"] + (update + PACKING) / rates["update_gbps"]))
            seconds, least = statistics.median(step[1:]), statistics.median(limit[1:])
            moved = 4e-9 * (NORM + update + PACKING) * model.num_parameters
            log(f"{label}: {seconds * 1e3:.0f} ms for {moved:.2f} GB, at least {least * 1e3:.0f} ms")
            yield row(label, moved / seconds, None, "GB/s", moved / least, seconds=round(seconds, 4))
