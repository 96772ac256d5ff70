"""`rft.check_loss(fn)`: does a policy loss of your own keep what every policy loss must keep?

    def my_loss(logprobs, old_logprobs, advantages, mask):        # [B, T] each; any subset of the names below
        live = lambda x: torch.where(mask > 0, x, 0.0)            # what a masked token holds must not matter, not even NaN
        ratio = live(logprobs - old_logprobs).clamp(-20, 20).exp()
        return -(ratio * live(advantages) * mask).sum(), mask.sum()

    rft.check_loss(my_loss)
    trainer.forward_backward_custom(datums, my_loss)              # in a loop of your own

The function is called with the keyword arguments that its signature names: logprobs (float64, with gradient), old_logprobs,
sampling_logprobs, ref_logprobs, entropy, advantages, mask. It returns a scalar tensor, (sum, denominator), or a LossResult.
The name of a registered loss or preset is checked too: rft.check_loss("trl.dapo").

Each property is one line of the report:
    mask       what a masked token holds changes nothing, and it gets no gradient
    nan        not even if it holds NaN or infinity
    padding    more padding on the right changes nothing
    order      the order of the rows changes nothing
    split      micro-batches add up to the step, once the denominators are added up first
    slope      the gradient is the slope of the value, with everything detached held still
    extreme    log-probabilities that moved by 20 to 200 nats leave loss and gradient finite
    empty      nothing to train on is a loss of 0 with gradient 0
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NAMES = ("logprobs", "old_logprobs", "sampling_logprobs", "ref_logprobs", "entropy", "advantages", "mask")
TOLERANCE = 1e-9
# What to do about a broken property.
HINTS = {
    "mask": "multiply every token's loss by `mask`, and divide by mask.sum() instead of taking a mean",
    "nan": "read masked tokens through torch.where(mask > 0, x, 0.0): 0 * NaN is NaN, and so is its gradient",
    "padding": "divide by what `mask` counts, not by the shape: mean() counts padding",
    "order": "use nothing that depends on a row's position in the batch",
    "split": "return (sum, denominator), each a plain sum over rows, and let the step divide once",
    "slope": "some of the value does not reach the gradient: look for .data, .item(), numpy or an in-place change",
    "extreme": "clamp the log ratio before exp, for example to +-20",
    "empty": "divide by mask.sum().clamp(min=1)",
}


@dataclass(frozen=True)
class Finding:
    """One property: kept or not, and by how much."""

    name: str
    ok: bool
    detail: str


@dataclass
class LossReport:
    """What check_loss found; true if nothing is broken."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(one.ok for one in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = []
        for one in self.findings:
            lines.append(f"{'ok    ' if one.ok else 'BROKEN'} {one.name:8s} {one.detail}")
            if not one.ok:
                lines.append(f"{'':15s} -> {HINTS[one.name]}")
        return "\n".join(lines)


def check_loss(fn: Callable[..., Any] | str, *, seed: int = 0, quiet: bool = False) -> LossReport:
    """Checks every property on random rows, prints the report unless `quiet`, and returns it."""
    subject = _Registered(fn) if isinstance(fn, str) else _Function(fn)
    report = LossReport()
    for name, check in _CHECKS.items():
        try:
            finding = check(subject, _Batch.random(seed))
        except Exception as error:  # whatever a loss raises is its own kind of broken
            finding = Finding(name, False, f"raised {type(error).__name__}: {error}")
        report.findings.append(finding)
    if not quiet:
        print(report)
    return report


class _Batch:
    """Six ragged rows, padded; moderate ratios, holes in the mask, one advantage per row."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.tensors = tensors

    @staticmethod
    def random(seed: int) -> _Batch:
        import torch

        generator = torch.Generator().manual_seed(seed)

        def normal() -> Any:
            return torch.randn(6, 9, generator=generator, dtype=torch.float64)

        lengths = torch.tensor([9, 3, 7, 1, 8, 5])
        mask = ((torch.rand(6, 9, generator=generator) > 0.25) & (torch.arange(9) < lengths[:, None])).double()
        mask[:, 0] = 1.0
        logprobs = -normal().abs() - 0.1
        old = logprobs - 0.3 * normal()
        return _Batch({"logprobs": logprobs, "old_logprobs": old, "sampling_logprobs": old - 0.3 * normal(),
                       "ref_logprobs": logprobs - 0.5 * normal(), "entropy": normal().abs() + 0.1,
                       "advantages": torch.randn(6, 1, generator=generator, dtype=torch.float64).expand(6, 9).contiguous(), "mask": mask})

    def change(self, change: Callable[[str, Any], Any]) -> _Batch:
        return _Batch({name: change(name, tensor) for name, tensor in self.tensors.items()})

    @property
    def mask(self) -> Any:
        return self.tensors["mask"]


@dataclass(frozen=True)
class _Outcome:
    value: Any  # the loss: sum / denominator where there is one
    gradient: Any
    sum: Any  # None when the function returns only a scalar
    denominator: float


class _Function:
    """A torch function of the user's."""

    splits = True

    def __init__(self, fn: Callable[..., Any]) -> None:
        parameters = inspect.signature(fn).parameters.values()
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
            self._names = list(NAMES)
        else:
            self._names = [one.name for one in parameters if one.name in NAMES]
            unknown = [one.name for one in parameters if one.name not in NAMES and one.default is inspect.Parameter.empty]
            if unknown:
                raise TypeError(f"check_loss: the loss takes {', '.join(unknown)}; known arguments are {', '.join(NAMES)}")
        if "logprobs" not in self._names:
            raise TypeError("check_loss: the loss must take an argument `logprobs`")
        self._fn = fn

    def __call__(self, batch: _Batch) -> _Outcome:
        import torch

        given = {name: batch.tensors[name].detach().clone() for name in self._names}
        given["logprobs"].requires_grad_(True)
        value, total, denominator = _parse(self._fn(**given))
        (gradient,) = torch.autograd.grad(value, given["logprobs"], allow_unused=True) if value.requires_grad else (None,)
        return _Outcome(value.detach(), torch.zeros_like(given["logprobs"]) if gradient is None else gradient,
                        None if total is None else total.detach(), denominator)

    def held(self, batch: _Batch) -> Callable[[Any], float]:
        """The value as a function of logprobs, with what the loss detaches kept as it is at `batch`."""
        memory = _Memory()
        given = {name: batch.tensors[name] for name in self._names}

        def value(logprobs: Any) -> float:
            with memory:
                loss = _parse(self._fn(**{**given, "logprobs": logprobs.clone().requires_grad_(True)}))[0]
            return float(loss.detach())

        value(given["logprobs"])
        return value


class _Registered:
    """A loss of ours, by name."""

    def __init__(self, name: str) -> None:
        from rft import _native

        self._name = name
        self.splits = bool(_native.load().loss_info(name)["splits_over_calls"])

    def _compute(self, tensors: dict[str, Any], **more: Any) -> Any:
        from rft import losses

        return losses.compute(self._name, **tensors, **more)

    def __call__(self, batch: _Batch) -> _Outcome:
        import torch

        logprobs = batch.tensors["logprobs"].detach().clone().requires_grad_(True)
        out = self._compute({**batch.tensors, "logprobs": logprobs})
        (gradient,) = torch.autograd.grad(out.loss, logprobs)
        return _Outcome(out.loss.detach(), gradient, out.sum.detach(), out.denominator)

    def held(self, batch: _Batch) -> Callable[[Any], float]:
        base = batch.tensors["logprobs"]
        return lambda logprobs: float(self._compute({**batch.tensors, "logprobs": logprobs}, held_logprobs=base).loss.detach())


def _memory_mode() -> type:
    import torch
    from torch.overrides import TorchFunctionMode

    class Memory(TorchFunctionMode):
        """Remembers what a first run detached or computed without gradient, and gives it again in later runs."""

        def __init__(self) -> None:
            super().__init__()
            self._known: list[Any] = []
            self._next: int | None = None

        def __enter__(self) -> Any:
            self._next = 0 if self._known else None
            return super().__enter__()

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            held = func in (torch.Tensor.detach, torch.detach) or not torch.is_grad_enabled()
            result = func(*args, **(kwargs or {}))
            if not held or not isinstance(result, torch.Tensor):
                return result
            if self._next is None:
                self._known.append(result)
                return result
            self._next += 1
            return self._known[self._next - 1] if self._next <= len(self._known) else result

    return Memory


def _Memory() -> Any:  # noqa: N802 - stands for the class, which needs torch
    return _memory_mode()()


def _parse(returned: Any) -> tuple[Any, Any, float]:
    """(loss, sum or None, denominator)."""
    if hasattr(returned, "loss") and hasattr(returned, "denominator"):
        return returned.loss, returned.sum, float(returned.denominator)
    if isinstance(returned, tuple):
        if len(returned) != 2:
            raise TypeError("the loss must return a scalar tensor, (sum, denominator) or a LossResult")
        total, denominator = returned[0], float(returned[1])
        return (total / denominator if denominator else total), total, denominator
    return returned, None, 0.0


def _difference(a: Any, b: Any) -> float:
    """Largest difference relative to the larger of 1 and the value; NaN counts as infinite."""
    import torch

    scale = torch.maximum(torch.ones_like(b), b.abs())
    worst = float(((a - b).abs() / scale).max())
    return worst if worst == worst else float("inf")


def _same(name: str, what: str, a: _Outcome, b: _Outcome, columns: int | None = None) -> Finding:
    gradient = a.gradient if columns is None else a.gradient[:, :columns]
    value, slope = _difference(a.value, b.value), _difference(gradient, b.gradient)
    ok = value <= TOLERANCE and slope <= TOLERANCE
    changed = "the loss or its gradient to NaN or infinity" if max(value, slope) == float("inf") else (
        f"the loss by {value:.1e}, a gradient by {slope:.1e}")
    return Finding(name, ok, f"{what} changes {'nothing' if ok else changed}")


def _fill(batch: _Batch, fill: Callable[[str, Any], Any]) -> _Batch:
    import torch

    hole = batch.mask == 0
    return batch.change(lambda name, x: x if name == "mask" else torch.where(hole, fill(name, x), x))


def _check_mask(subject: Any, batch: _Batch) -> Finding:
    finding = _same("mask", "what masked tokens hold", subject(_fill(batch, lambda _, x: x * 0.5 - 1.0)), subject(batch))
    leak = float((subject(batch).gradient * (batch.mask == 0)).abs().max())
    if finding.ok and leak != 0.0:
        return Finding("mask", False, f"a masked token has gradient {leak:.1e}")
    return finding


def _check_nan(subject: Any, batch: _Batch) -> Finding:
    import torch

    def poison(name: str, x: Any) -> Any:
        return torch.full_like(x, float("nan") if name != "logprobs" else float("-inf"))

    return _same("nan", "NaN or infinity in masked tokens", subject(_fill(batch, poison)), subject(batch))


def _check_padding(subject: Any, batch: _Batch) -> Finding:
    import torch

    wide = batch.change(lambda name, x: torch.nn.functional.pad(x, (0, 5), value=0.0 if name == "mask" else -0.7))
    return _same("padding", "more padding", subject(wide), subject(batch), columns=batch.mask.shape[1])


def _check_order(subject: Any, batch: _Batch) -> Finding:
    order = [4, 0, 5, 2, 1, 3]
    back = [order.index(i) for i in range(6)]
    turned = subject(batch.change(lambda _, x: x[order]))
    turned = _Outcome(turned.value, turned.gradient[back], turned.sum, turned.denominator)
    return _same("order", "another order of rows", turned, subject(batch))


def _check_split(subject: Any, batch: _Batch) -> Finding:
    whole = subject(batch)
    parts = [subject(batch.change(lambda _, x, rows=rows: x[rows])) for rows in ([0, 3], [1], [2, 4, 5])]
    if not subject.splits:
        return Finding("split", True, "ranks the tokens of a call against each other: never split a step (as documented)")
    if whole.sum is not None:
        total, denominator = sum(float(p.sum) for p in parts), sum(p.denominator for p in parts)
        worst = abs(total - float(whole.sum)) + abs(denominator - whole.denominator)
        return Finding("split", worst <= TOLERANCE * max(1.0, abs(total)),
                       f"sums and denominators of micro-batches add up (to {worst:.1e})")
    counts = [batch.mask[rows].sum().item() for rows in ([0, 3], [1], [2, 4, 5])]
    for meaning, weights in (("a sum", [1.0, 1.0, 1.0]), ("a mean over active tokens", counts), ("a mean over rows", [2.0, 1.0, 3.0])):
        scale = 1.0 if meaning == "a sum" else sum(weights)
        total = sum(w * float(p.value) for w, p in zip(weights, parts, strict=True)) / scale
        if abs(total - float(whole.value)) <= TOLERANCE * max(1.0, abs(total)):
            return Finding("split", True, f"it is {meaning}: weigh micro-batches accordingly, or return (sum, denominator)")
    return Finding("split", False, "micro-batches do not add up to the step under any usual denominator")


def _check_slope(subject: Any, batch: _Batch) -> Finding:
    step = 1e-6
    value, gradient = subject.held(batch), subject(batch).gradient
    base, worst = batch.tensors["logprobs"], 0.0
    for i, t in batch.mask.nonzero().tolist():
        up, down = base.clone(), base.clone()
        up[i, t] += step
        down[i, t] -= step
        slope = (value(up) - value(down)) / (2 * step)
        worst = max(worst, abs(slope - float(gradient[i, t])) / max(1.0, abs(slope)))
    ok = worst <= 1e-6
    return Finding("slope", ok, f"gradient and finite differences {'agree to' if ok else 'differ by'} {worst:.1e}")


def _check_extreme(subject: Any, batch: _Batch) -> Finding:
    import torch

    for nats in (20.0, 100.0, 200.0):
        for sign in (1.0, -1.0):
            moved = batch.change(lambda name, x, by=sign * nats: x + by * torch.eye(6, 9) if name == "old_logprobs" else x)
            out = subject(moved.change(lambda _, x: x.float()))
            if not bool(torch.isfinite(out.value)) or not bool(torch.isfinite(out.gradient).all()):
                return Finding("extreme", False, f"old_logprobs moved by {sign * nats:+.0f} nats make the float32 loss or gradient "
                                                 "infinite or NaN")
    return Finding("extreme", True, "moves of up to 200 nats stay finite in float32")


def _check_empty(subject: Any, batch: _Batch) -> Finding:
    out = subject(batch.change(lambda name, x: x * 0 if name == "mask" else x))
    ok = float(out.value) == 0.0 and float(out.gradient.abs().max()) == 0.0
    return Finding("empty", ok, "an all-masked batch is 0" if ok else f"an all-masked batch gives {float(out.value)}, not 0")


_CHECKS: dict[str, Callable[[Any, _Batch], Finding]] = {
    "mask": _check_mask, "nan": _check_nan, "padding": _check_padding, "order": _check_order, "split": _check_split,
    "slope": _check_slope, "extreme": _check_extreme, "empty": _check_empty,
}
