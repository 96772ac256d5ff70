"""`rft bench losses`: value and gradient of a loss over 1 M tokens, against the same formula in eager PyTorch.

Rows losses/<name>/fused, in ms: forward and backward, float32, rows of 300 to 1700 tokens; ratios spread so that clipping happens,
a sampler that differs from the trainer. Ours also computes its metrics in that time; the formula in PyTorch does not.
`difference` is the largest one of value and gradient, relative to the largest gradient.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from rft.bench import BenchOptions, Log, Row, row

TOKENS = 1_000_000
NAMES = ("grpo", "dapo", "gspo-token")
WARMUP = 2


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per loss; both sides run in this process, in turns."""
    import torch

    from rft import losses

    data = batch(torch.Generator().manual_seed(0))
    for name in NAMES:
        label = f"losses/{name}/fused"
        if options.only not in label:
            continue
        sides: dict[str, Callable[[], tuple[Any, Any]]] = {
            "ours": lambda name=name: ours(losses, name, data), "peer": lambda name=name: eager(name, data)}  # type: ignore[misc]
        times: dict[str, list[float]] = {side: [] for side in sides}
        results = {}
        for index in range(WARMUP + 3 * options.rounds):
            for side, compute in sides.items():
                start = time.perf_counter()
                results[side] = compute()
                if index >= WARMUP:
                    times[side].append((time.perf_counter() - start) * 1e3)
        (value, gradient), (expected, expected_gradient) = results["ours"], results["peer"]
        difference = max(abs(float(value) - float(expected)) / max(1.0, abs(float(expected))),
                         float((gradient - expected_gradient).abs().max() / expected_gradient.abs().max()))
        mine, theirs = statistics.median(times["ours"]), statistics.median(times["peer"])
        log(f"{label}: {mine:.2f} ms, eager {theirs:.2f} ms, difference {difference:.1e}")
        yield row(label, mine, theirs, "ms", None, smaller_is_better=True, difference=difference, tokens=TOKENS,
                  threads=torch.get_num_threads())


def batch(generator: Any) -> dict[str, Any]:
    """Packed rows with everything the losses read."""
    import torch

    lengths = []
    while sum(lengths) < TOKENS:
        lengths.append(min(int(torch.randint(300, 1701, (1,), generator=generator)), TOKENS - sum(lengths)))
    offsets = torch.tensor([0, *lengths]).cumsum(0)

    def normal() -> Any:
        return torch.randn(TOKENS, generator=generator)

    logprobs = -normal().abs()
    old = logprobs - 0.1 * normal()
    per_row = torch.randn(len(lengths), generator=generator)
    return {"logprobs": logprobs, "old": old, "sampling": old - 0.1 * normal(), "offsets": offsets,
            "lengths": torch.tensor(lengths), "advantages": per_row.repeat_interleave(torch.tensor(lengths)),
            "mask": (torch.rand(TOKENS, generator=generator) > 0.05).float(), "row": torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))}


def ours(losses: Any, name: str, data: dict[str, Any]) -> tuple[Any, Any]:
    """Loss and gradient by rft.losses."""
    logprobs = data["logprobs"].detach().requires_grad_(True)
    out = losses.compute(name, logprobs, old_logprobs=data["old"], sampling_logprobs=data["sampling"], advantages=data["advantages"],
                         mask=data["mask"], row_offsets=data["offsets"])
    out.loss.backward()
    return out.loss.detach(), logprobs.grad


def eager(name: str, data: dict[str, Any]) -> tuple[Any, Any]:
    """The same formula, as one would write it in PyTorch on the same packed tokens."""
    import torch

    logprobs = data["logprobs"].detach().requires_grad_(True)
    old, mask, advantages, rows, count = data["old"], data["mask"], data["advantages"], data["row"], len(data["lengths"])

    def row_sum(x: Any) -> Any:
        return torch.zeros(count).index_add(0, rows, x)

    active = row_sum(mask)
    low, high = {"grpo": (0.2, 0.2), "dapo": (0.2, 0.28), "gspo-token": (3e-4, 4e-4)}[name]
    if name == "gspo-token":
        held = logprobs.detach()
        mean = row_sum((held - old) * mask) / active.clamp(min=1)
        log_ratio = (logprobs - held + mean[rows]).clamp(max=10.0)
    else:
        log_ratio = (logprobs - old).clamp(-20.0, 20.0)
    ratio = log_ratio.exp()
    loss = torch.maximum(-ratio * advantages, -ratio.clamp(1 - low, 1 + high) * advantages)
    loss = loss * (old - data["sampling"]).clamp(-20.0, 20.0).exp().clamp(max=5.0) * mask
    total = loss.sum() / mask.sum() if name == "dapo" else (row_sum(loss) / active.clamp(min=1)).sum() / (active > 0).sum()
    total.backward()
    return total.detach(), logprobs.grad
