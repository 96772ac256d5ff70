"""`rft bench invariance`: what it costs that a token's bits do not depend on the batch it is computed in.

Rows invariance/M/<dtype>/b<batch>: `ours` is the ms that the products of one decode iteration take in the engine, whose sums have
the same order whatever the batch; `peer` the same products (all layers' projections and the head, each with weights of its own)
through torch's linear, which is free to choose a kernel by shape: `peer_invariant` says whether its first row came out with the
bits that it has alone, in every product. A ratio above 1: the property costs nothing. Interleaved; medians.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.engine import random_prompts
from rft.bench.engine_costs import decode_iterations, middle_half
from rft.bench.engine_shapes import interleaved_medians, milliseconds
from rft.bench.models import bench_model

MODEL, DTYPES, BATCHES = "M", ("bf16", "fp32"), (1, 8, 64)


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per compute type and batch."""
    from rft import _native

    native = _native.load()
    for dtype in DTYPES:
        batches = [batch for batch in BATCHES if options.only in row_name(dtype, batch)]
        if not batches:
            continue
        folder = bench_model(MODEL, options, log)
        model = native.Model.load(str(folder), dtype=dtype)
        torch_products = TorchProducts(json.loads((folder / "config.json").read_text()), dtype)
        with native.Engine(model, max_batch=max(BATCHES)) as engine:
            for batch in batches:
                prompts = random_prompts(model.vocab_size, batch)
                ours, theirs = interleaved_medians(
                    options.rounds, lambda prompts=prompts: 1e3 * middle_half(decode_iterations(engine, prompts))["matmul_s"],
                    lambda batch=batch: torch_products.ms(batch))
                log(f"{row_name(dtype, batch)}: ours {ours:.2f} ms, torch {theirs:.2f} ms")
                yield row(row_name(dtype, batch), ours, theirs, "ms", None, smaller_is_better=True,
                          peer_invariant=torch_products.invariant(batch))


def row_name(dtype: str, batch: int) -> str:
    """invariance/M/bf16/b64"""
    return f"invariance/{MODEL}/{dtype}/b{batch}"


class TorchProducts:
    """The products of one decode iteration with random weights, queries with keys and values and gate with up as one, as in the engine."""

    def __init__(self, config: dict[str, Any], dtype: str) -> None:
        import torch

        hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
        head_dim = config.get("head_dim") or hidden // heads
        kv_heads = config.get("num_key_value_heads") or heads
        layer = [((heads + 2 * kv_heads) * head_dim, hidden), (hidden, heads * head_dim), (2 * inner, hidden), (hidden, inner)]
        shapes = [*layer * config["num_hidden_layers"], (config["vocab_size"], hidden)]
        self._dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
        generator = torch.Generator().manual_seed(1)
        self._weights = [torch.randn(shape, generator=generator).to(self._dtype) for shape in shapes]

    def ms(self, batch: int) -> float:
        """Median of a few iterations."""
        import torch
        from torch.nn.functional import linear

        inputs = {weight.shape[1]: self._input(batch, weight.shape[1]) for weight in self._weights}
        with torch.inference_mode():
            return statistics.median(milliseconds(lambda: [linear(inputs[weight.shape[1]], weight) for weight in self._weights]) for _ in range(9))

    def invariant(self, batch: int) -> bool:
        """Whether the first row has the bits that it has alone, in every product."""
        import torch
        from torch.nn.functional import linear

        with torch.inference_mode():
            return all(torch.equal(linear(x, weight)[:1], linear(x[:1], weight))
                       for weight in self._weights for x in [self._input(batch, weight.shape[1])])

    def _input(self, batch: int, width: int) -> Any:
        import torch

        return torch.randn((batch, width), generator=torch.Generator().manual_seed(width)).to(self._dtype)
