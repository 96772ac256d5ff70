"""Policy losses on any torch tensors, for loops of your own.

    import rft

    out = rft.losses.grpo(logprobs, old_logprobs=old, advantages=advantages, mask=mask, clip_high=0.28)
    out.loss.backward()
    print(out.metrics["clip_frac"], out.metrics["approx_kl_k3"])

    rft.losses.compute("trl.dapo", logprobs, ...)     # as TRL computes it: rft.losses.presets() lists such names

Shapes: [B, T] padded rows with a mask, a list of B ragged rows, or T packed tokens with `row_offsets` (R + 1 entries; row r is
[offsets[r], offsets[r + 1]); default: one row). Everything else has the shape of `logprobs`, `advantages` may also be one per
row. Floating dtypes are mixed freely: half precision is computed in float32, the gradient comes back in the input's dtype.
Formulas and knobs: docs/losses.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Rows = torch.Tensor | Sequence[torch.Tensor]


_TENSORS = ("old_logprobs", "advantages", "mask", "sampling_logprobs", "ref_logprobs", "entropy", "sft_weights", "row_offsets",
            "held_logprobs", "denominator")


@dataclass(frozen=True)
class LossResult:
    """What a loss gives: `loss` is `sum` over the denominator, a scalar whose gradient flows into the log-probabilities."""

    loss: torch.Tensor
    sum: torch.Tensor
    denominator: float  # this call's own: active tokens or rows; 0: a plain sum
    metrics: dict[str, float]  # token means over active tokens; *_min and *_max are extremes
    num_tokens: int
    num_rows: int


def names() -> list[str]:
    """Registered losses, as `losses.name` in run.yaml and `loss=` of forward_backward take them."""
    from rft import _native

    registered: list[str] = _native.load().registered()["losses"]
    return registered


def presets() -> list[str]:
    """Losses as other implementations compute them under their own names: trl.dapo, verl.gspo, tinker.cispo, ..."""
    from rft import _native

    found: list[str] = _native.load().loss_presets()
    return found


def compute(name: str, logprobs: Rows, *, old_logprobs: Rows | None = None, advantages: Rows | Any = None, mask: Rows | None = None,
            sampling_logprobs: Rows | None = None, ref_logprobs: Rows | None = None, entropy: Rows | None = None,
            sft_weights: Rows | None = None, row_offsets: Sequence[int] | torch.Tensor | None = None,
            held_logprobs: Rows | None = None, denominator: float | None = None, **knobs: Any) -> LossResult:
    """The loss or preset `name` of current `logprobs` (nats); a knob left out has that loss's own default.

    logprobs: [B, T], a list of B 1-D tensors, or T packed tokens with row_offsets. The other tensors: the same shape; advantages
    also one per row. mask: 1 = trained on; None: every token. Any floating dtype; the gradient goes into logprobs only.
    old_logprobs None: on-policy (the current values, held constant). sampling_logprobs None: equal to old_logprobs.
    denominator: what the sum is divided by when these rows are only a part of a step; None: this call's own; 0: nothing.
    ConfigError: unknown name or knob, shapes that do not fit. NaN in an active token comes out as NaN.
    """
    import torch

    from rft import _native

    native = _native.load()
    packed, offsets, shape = _pack(logprobs, row_offsets, native)
    work = packed.float() if packed.dtype in (torch.float16, torch.bfloat16) else packed

    def like(value: Any, what: str) -> torch.Tensor | None:
        if value is None:
            return None
        return _spread(value, offsets, shape, work, native, what)

    given = {"old_logprobs_T": like(old_logprobs, "old_logprobs"), "sampling_logprobs_T": like(sampling_logprobs, "sampling_logprobs"),
             "ref_logprobs_T": like(ref_logprobs, "ref_logprobs"), "advantages_T": like(advantages, "advantages"),
             "mask_T": like(mask, "mask"), "entropy_T": like(entropy, "entropy"), "sft_weights_T": like(sft_weights, "sft_weights"),
             "held_logprobs_T": like(held_logprobs, "held_logprobs")}
    if given["old_logprobs_T"] is None:
        given["old_logprobs_T"] = work.detach()
    if given["mask_T"] is None:
        given["mask_T"] = torch.ones_like(work, requires_grad=False)
    try:
        out = native.loss_forward(name, work, row_offsets=offsets, **given, **knobs)
    except native.ConfigError as error:
        for knob in knobs:  # not a knob, but one of the tensors
            if f" {knob}: unknown key" in str(error) and (meant := get_close_matches(knob, _TENSORS, 1, 0.8)):
                raise native.ConfigError(f"loss {name}: there is no argument {knob!r}; did you mean {meant[0]}?") from None
        raise
    divisor = out["denominator"] if denominator is None else denominator
    return LossResult(loss=out["sum"] / divisor if divisor else out["sum"], sum=out["sum"], denominator=out["denominator"],
                      metrics=out["metrics"], num_tokens=int(out["num_tokens"]), num_rows=int(out["num_rows"]))


def _pack(logprobs: Any, row_offsets: Any, native: Any) -> tuple[Any, Any, tuple[int, ...] | None]:
    """Packed tokens, their row offsets, and the padded shape if there was one."""
    import torch

    shapes = "expected a tensor [B, T], a list of 1-D tensors (rows), or a 1-D tensor with row_offsets"
    if not isinstance(logprobs, torch.Tensor):
        rows = list(logprobs) if isinstance(logprobs, list | tuple) else [logprobs]
        for row in rows or [None]:
            if not isinstance(row, torch.Tensor) or row.dim() != 1:
                what = f"a tensor of shape {tuple(row.shape)}" if isinstance(row, torch.Tensor) else type(row).__name__
                raise native.ConfigError(f"logprobs: {shapes}, got {what if rows else 'an empty list'}"
                                         + (" in a list" if rows and rows[0] is not logprobs else ""))
        lengths = torch.tensor([0] + [row.numel() for row in rows])
        return torch.cat(rows), lengths.cumsum(0), None
    if logprobs.dim() not in (1, 2):
        raise native.ConfigError(f"logprobs: {shapes}, got a tensor of shape {tuple(logprobs.shape)}")
    if logprobs.dim() == 2:
        count, width = logprobs.shape
        return logprobs.reshape(-1), torch.arange(count + 1) * width, (count, width)
    if row_offsets is None:
        row_offsets = [0, logprobs.numel()]
    offsets = torch.as_tensor(row_offsets, dtype=torch.int64)
    if offsets.dim() != 1 or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != logprobs.numel() or (offsets.diff() < 0).any():
        raise native.ConfigError(f"row_offsets: must rise from 0 to the {logprobs.numel()} tokens of logprobs, got {offsets.tolist()}")
    return logprobs, offsets, None


def _spread(value: Any, offsets: Any, shape: tuple[int, ...] | None, like: Any, native: Any, what: str) -> Any:
    """One value per token, packed, in `like`'s dtype; one value per row is spread over the row."""
    import torch

    if not isinstance(value, torch.Tensor):
        first = next(iter(value), None)
        value = torch.cat(list(value)) if isinstance(first, torch.Tensor) and first.dim() == 1 else torch.as_tensor(value)
    rows = len(offsets) - 1
    if shape is not None and value.dim() == 2:
        if any(have not in (1, want) for have, want in zip(value.shape, shape, strict=True)):
            raise native.ConfigError(f"{what}: expected the shape of logprobs, {list(shape)}, got {list(value.shape)}")
        value = value.expand(shape)
    value = value.reshape(-1).to(device=like.device, dtype=like.dtype)
    if what == "advantages" and value.numel() == rows != like.numel():
        value = value.repeat_interleave(torch.diff(offsets).to(value.device))
    if value.numel() != like.numel():
        per_row = f" (or one per row: {rows})" if what == "advantages" else ""
        raise native.ConfigError(f"{what}: expected {like.numel()} values like logprobs{per_row}, got {value.numel()}")
    return value


def __getattr__(name: str) -> Callable[..., LossResult]:
    if name.startswith("_"):
        raise AttributeError(name)
    known = names()
    if name.replace("_", "-") not in known:
        raise AttributeError(f"module 'rft.losses' has no loss {name!r}; known are {', '.join(known)}")

    def loss(logprobs: Rows, **given: Any) -> LossResult:
        return compute(name, logprobs, **given)

    loss.__name__ = loss.__qualname__ = name
    loss.__doc__ = f"compute({name.replace('_', '-')!r}, logprobs, ...). {compute.__doc__}"
    loss.__signature__ = _signature()  # type: ignore[attr-defined]
    return loss


def _signature() -> inspect.Signature:
    """That of `compute` without the loss's name."""
    whole = inspect.signature(compute)
    return whole.replace(parameters=[found for name, found in whole.parameters.items() if name != "name"])


def __dir__() -> list[str]:
    return sorted(["LossResult", "compute", "names", "presets", *(name.replace("-", "_") for name in names())])
