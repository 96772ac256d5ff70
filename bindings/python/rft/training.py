"""The Training API's verbs from Python: `rft.Trainer`, plus losses of your own, written with torch and differentiated by autograd."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rft import _native, loss_check
from rft.losses import LossResult

if TYPE_CHECKING:
    import numpy as np

    from rft._rft import Completion, Datum, FBResult
    from rft._rft import Trainer as NativeTrainer
else:
    NativeTrainer = _native.load().Trainer

_STARTING = threading.Lock()
CURSOR = "cursor.json"
TorchLoss = Callable[[list[torch.Tensor]], Any]


class Trainer(NativeTrainer):
    """The C++ trainer, `forward_backward_custom` with a loss written with torch, `sample`, and verbs as futures (`submit`).

    def loss(logprobs):                       # one 1-D float32 tensor per datum, 0 where its weights are 0
        return -sum((lp * w).sum() for lp, w in zip(logprobs, weights))

    trainer.forward_backward_custom(datums, loss)
    trainer.optim_step(learning_rate=1e-4)

    `datums` is always a list. Errors: ConfigError names the datum and the field, TypeError the argument.
    """

    def forward_backward_custom(self, datums: Sequence[Datum], fn: Callable[..., Any], backend: str = "torch") -> FBResult:
        """One forward, your loss on the log-probabilities, one backward; the gradient is added to the accumulated one.

        backend "torch": `fn(list[Tensor])` returns a scalar tensor, or (scalar tensor, dict of metrics). A function that takes more
        by name (old_logprobs, advantages, mask, ...) gets padded [rows, tokens] tensors made from the datums, as rft.check_loss
        calls it. Either may return (sum, denominator) or what rft.losses returns: the sum is what is differentiated, and optim_step
        divides by the denominators of all calls.
        backend "numpy": `fn(list[ndarray])` returns (loss sum, list of d loss / d logprob[, metrics[, denominator]]).
        """
        if backend not in ("torch", "numpy"):
            raise ValueError(f"backend is {backend!r}; it can be 'torch' or 'numpy'")
        if not callable(fn):
            raise TypeError(f"fn: is {fn!r}, not a function; forward_backward(datums, loss=NAME) takes a loss's name")
        result: FBResult = super().forward_backward_custom(datums, with_autograd(by_name(fn, datums)) if backend == "torch" else fn)
        return result

    def save_state(self, dir: str | Path, cursor: Any = None, shard: tuple[int, int] = (0, 1)) -> None:  # noqa: A002 - the verb's own word
        """Weights, optimizer state and step count into a folder, and where your data loop is: anything that JSON can hold.

        shard (i, n): only the i-th of n parts of every tensor. load_state reads what n such calls, or processes, have left.
        """
        super().save_state(str(dir), shard)
        if shard[0] > 0:
            return
        path = Path(dir) / CURSOR
        path.unlink(missing_ok=True)
        if cursor is not None:
            path.write_text(json.dumps(cursor))

    def load_state(self, dir: str | Path) -> Any:  # noqa: A002
        """What save_state wrote; returns its cursor, None where there was none."""
        super().load_state(str(dir))
        path = Path(dir) / CURSOR
        return json.loads(path.read_text()) if path.is_file() else None

    def save_weights_for_sampler(self, dir: str | Path, kind: str = "base") -> Path:  # noqa: A002
        """What another sampler loads: "base", a whole model (a trained adapter merged in), checked as check_export does; "delta", for
        one that has the base: the trained adapter in PEFT's format, or, where the whole model is trained, the numbers that have
        changed in bf16 with a checksum of the result. An engine in this process takes weights() instead.
        """
        if kind == "base":
            self.save_model(str(dir))
            self.check_export(str(dir))
        elif kind == "delta":
            self.save_delta(str(dir))
        else:
            raise ValueError(f"kind is {kind!r}; it can be 'base' or 'delta'")
        return Path(dir)

    def sample(self, prompts: Iterable[Sequence[int]], **options: Any) -> list[list[Completion]]:
        """Completions of the weights as they are now: Engine.generate with its options, on an engine that is made at the first call and
        shares this trainer's weights. Make an rft.Engine of your own for its settings, or to sample while this trains.
        """
        engine = self.__dict__.get("_engine")
        if engine is None:
            engine = self.__dict__["_engine"] = _native.load().Engine(self.sampler_model)
        engine.publish(self.weights())
        completions: list[list[Completion]] = engine.generate(prompts, **options)
        return completions

    def submit(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Starts `verb` ("forward_backward", "optim_step", ...) and returns a future of what it returns.

        Calls of one trainer run one after another in the order submitted; those of different trainers run side by side.
        In async code: `await asyncio.wrap_future(trainer.submit("forward", datums))`.
        """
        if verb.startswith("_") or not callable(getattr(self, verb, None)):
            raise AttributeError(f"a trainer has no verb {verb!r}")
        with _STARTING:
            pool = self.__dict__.setdefault("_pool", None) or ThreadPoolExecutor(1, thread_name_prefix="rft-trainer")
            self.__dict__["_pool"] = pool
        return pool.submit(getattr(self, verb), *args, **kwargs)



def forward_backward_custom(trainer: NativeTrainer, datums: Sequence[Datum], fn: TorchLoss) -> FBResult:
    """As `Trainer.forward_backward_custom`, for a trainer that came from elsewhere."""
    return NativeTrainer.forward_backward_custom(trainer, datums, with_autograd(by_name(fn, datums)))


def by_name(fn: Callable[..., Any], datums: Sequence[Datum]) -> TorchLoss:
    """`fn` itself if it takes log-probabilities alone; one that names more of a datum's columns gets them, padded."""
    names = [name for name in inspect.signature(fn).parameters if name in loss_check.NAMES]
    if set(names) <= {"logprobs"}:
        return fn

    def column(name: str, logprobs: list[torch.Tensor]) -> list[torch.Tensor]:
        if name == "logprobs":
            return logprobs
        if name == "mask":
            return [torch.tensor(datum.weights != 0, dtype=torch.float32) for datum in datums]
        if name == "entropy":
            raise TypeError("entropy: is not computed for losses of your own; use losses.entropy_coef of a registered loss")
        found = []
        for i, datum in enumerate(datums):
            values = getattr(datum, name)
            if len(values) == 0 and name in ("old_logprobs", "sampling_logprobs"):  # on-policy
                values = logprobs[i].detach() if name == "old_logprobs" or len(datum.old_logprobs) == 0 else datum.old_logprobs
            if len(values) == 0:
                raise ValueError(f"datums[{i}].{name}: is empty; the loss asks for it")
            found.append(values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=torch.float32))
        return found

    def run(logprobs: list[torch.Tensor]) -> Any:
        given = {name: torch.nn.utils.rnn.pad_sequence(column(name, logprobs), batch_first=True) for name in names}
        return fn(**given)

    return run


def of_datums(fn: Callable[..., Any]) -> Callable[[list[Datum], list[np.ndarray]], tuple[Any, ...]]:
    """A loss as `forward_backward_custom` takes it, as a run calls it."""
    return lambda datums, logprobs: with_autograd(by_name(fn, datums))(logprobs)


def with_autograd(fn: TorchLoss) -> Callable[[list[np.ndarray]], tuple[Any, ...]]:
    """Turns a torch loss into what C++ calls: log-probabilities in, loss and its derivative by each of them out."""

    def run(logprobs: list[np.ndarray]) -> tuple[Any, ...]:
        leaves = [torch.tensor(row, dtype=torch.float32, requires_grad=True) for row in logprobs]
        with torch.enable_grad():
            result = fn(leaves)
        denominator = None
        if isinstance(result, LossResult):
            loss, metrics, denominator = result.sum, result.metrics, result.denominator
        else:
            loss, metrics = result if isinstance(result, tuple) else (result, {})
        if not isinstance(metrics, dict):
            denominator, metrics = float(metrics), {"denominator": float(metrics)}
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise TypeError(f"the loss must be one scalar tensor, not {type(loss).__name__}"
                            + (f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""))
        if not loss.requires_grad:
            raise TypeError("the loss does not depend on the log-probabilities: nothing to differentiate")
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        rows = [(torch.zeros_like(leaf) if grad is None else grad).numpy() for leaf, grad in zip(leaves, grads, strict=True)]
        found = float(loss.detach()), rows, {name: float(value) for name, value in metrics.items()}
        return found if denominator is None else (*found, denominator)

    return run
