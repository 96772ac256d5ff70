"""Batches that a run gave up because of NaN or infinity, computed again: which row is it?

A fine-tuning run leaves not-finite-STEP.json for each such step: the verbs that were called, with their datums. A run with rewards
writes its groups into events.jsonl. Both are computed again with the run's nearest checkpoint, as a whole and row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rft import _native
from rft.run_folder import read_json, write_json

if TYPE_CHECKING:
    from rft._rft import Datum, RunConfig, Trainer

_VECTORS = ("weights", "advantages", "old_logprobs", "sampling_logprobs", "ref_logprobs", "sft_weights")


@dataclass(frozen=True)
class Call:
    """One verb of the trainer that adds to the gradient; `rows`: how many datums each row has, in order."""

    verb: str
    datums: list[Datum]
    arguments: dict[str, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    not_finite: list[tuple[int, str]] = field(default_factory=list)  # of what run() met: which of the datums, and what of it

    def run(self, trainer: Trainer, first: int = 0, count: int | None = None) -> Any:
        """The call on `trainer`; of `count` datums from `first` on."""
        end = len(self.datums) if count is None else first + count
        arguments = {name: value[first:end] if name in ("top_ids", "top_logprobs") else value for name, value in self.arguments.items()}
        result = getattr(trainer, self.verb)(self.datums[first:end], **arguments)
        if result.not_finite:
            self.not_finite.append((first + result.not_finite_datum, result.not_finite))
        return result

    def row_of(self, datum: int) -> int:
        """The row that a datum belongs to, counted from the call's first."""
        if not self.rows:
            return max(datum if self.datums[datum].prefix_id < 0 else self.datums[datum].prefix_id, 0)
        return next(row for row in range(len(self.rows)) if datum < sum(self.rows[:row + 1]))


@dataclass(frozen=True)
class Batch:
    """A step's calls, and the temperature of its trainer's log-probabilities."""

    step: int
    temperature: float
    calls: list[Call]

    def save(self, path: Path) -> None:
        """Everything that the calls were made of, as JSON; numbers come back bit for bit."""
        write_json(path, {"step": self.step, "temperature": self.temperature, "calls": [
            {"verb": call.verb, "rows": call.rows, "arguments": _plain(call.arguments), "datums": [_datum(datum) for datum in call.datums]}
            for call in self.calls]})

    @classmethod
    def load(cls, path: str | Path) -> Batch:
        """What save wrote."""
        content = read_json(path)
        try:
            return cls(content["step"], content["temperature"], [
                Call(call["verb"], [_native.load().Datum(**datum) for datum in call["datums"]], _arrays(call["arguments"]), call["rows"])
                for call in content["calls"]])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a batch that a run left for replay ({error})") from error


def replay(trainer: Trainer, calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    """The step again, then each row by itself: whether it is finite, its loss and its gradient's norm. Changes nothing but the
    accumulated gradient, which is cleared."""
    yield {"row": "all", **_measure(trainer, lambda: [call.run(trainer) for call in calls])}
    for number, call in enumerate(calls):
        first = 0
        for row, count in enumerate(call.rows or [1] * len(call.datums)):
            found = _measure(trainer, lambda: [call.run(trainer, first, count)])  # noqa: B023 - called at once
            yield {"row": row, **({"call": number} if len(calls) > 1 else {}), **found}
            first += count


def _measure(trainer: Trainer, call: Any) -> dict[str, Any]:
    trainer.zero_grad()
    results = call()
    norm = float(np.sqrt(sum(float(np.square(trainer.gradient(name), dtype=np.float64).sum()) for name in _trained(trainer))))
    trainer.zero_grad()
    logprobs = [np.asarray(row) for result in results for row in result.logprobs]
    lowest = min((float(row.min()) for row in logprobs if len(row)), default=0.0)
    return {"finite": all(result.finite for result in results) and bool(np.isfinite(norm)), "loss_sum": sum(r.loss_sum for r in results),
            "grad_norm": norm, "lowest_logprob": lowest, "tokens": sum(r.num_tokens for r in results)}


def _trained(trainer: Trainer) -> list[str]:
    names: list[str] = (trainer.adapter or trainer.model).parameter_names()
    return names


def _datum(datum: Datum) -> dict[str, Any]:
    fields: dict[str, Any] = {"ids": datum.ids.tolist(), "prefix_id": datum.prefix_id, "prefix_length": datum.prefix_length}
    fields |= {name: values.tolist() for name in _VECTORS if len(values := getattr(datum, name))}
    if datum.routes is not None:
        fields |= {"routes": datum.routes.tolist(), "routed": datum.routed.tolist()}
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": str(value.dtype), "shape": list(value.shape), "values": value.ravel().tolist()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _arrays(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        return np.array(value["values"], value["array"]).reshape(value["shape"])
    if isinstance(value, dict):
        return {name: _arrays(item) for name, item in value.items()}
    return [_arrays(item) for item in value] if isinstance(value, list) else value


# --- Run folders ---------------------------------------------------------------------------------------------------------
def batches_of(run_dir: Path) -> dict[int, Batch]:
    """The steps of a run folder that were given up, with what was computed in them."""
    found = {batch.step: batch for batch in map(Batch.load, run_dir.glob("not-finite-*.json"))}
    events = run_dir / "events.jsonl"
    if events.is_file():
        config = config_of(run_dir)
        for event in map(json.loads, filter(None, events.read_text().split("\n"))):
            if event.get("event") == "not_finite":
                step = event["step"]
                found[step] = Batch(step, config.get("rollout.temperature"), [_policy_call(config, event["groups"])])
    return found


def _policy_call(config: RunConfig, groups: list[dict[str, Any]]) -> Call:
    """The loss of a run with rewards on the groups of a step (as one update, without a KL that was in rewards or advantages)."""
    datums = _native.load().datums_of_groups([json.dumps(group) for group in groups], mask_truncated=config.get("rollout.mask_truncated"),
                                             replay_routes=config.get("trainer.routing_replay") == "rollout")
    knobs = {name: value for name, value in config.get("losses").items() if value is not None}
    if knobs.pop("kl_target", "loss") != "loss":
        knobs["kl_coef"] = 0.0
    return Call("forward_backward", datums, {"loss": knobs.pop("name"), **knobs})


def config_of(run_dir: Path) -> RunConfig:
    """The resolved config of a run folder."""
    return _native.load().RunConfig.from_file(str(run_dir / "config.json"))


def trainer_of(run_dir: Path, batch: Batch) -> tuple[Trainer, int]:
    """(a trainer of the run with its newest state that is not after the batch's step, else its first; the step of that state, 0 for
    the model as it was loaded). Datums of a policy loss get that model's log-probabilities as their reference's."""
    from rft.fine_tune import load_trainer

    trainer = load_trainer(config_of(run_dir), batch.temperature)
    for call in batch.calls:
        if call.verb == "forward_backward" and call.arguments["loss"] != "cross-entropy":
            for datum, logprobs in zip(call.datums, trainer.forward(call.datums), strict=True):
                datum.ref_logprobs = logprobs
    states = {int(folder.name.removeprefix("step-")): folder for folder in run_dir.glob("checkpoints/step-*")}
    if (run_dir / "state").is_dir():
        states[int(read_json(run_dir / "state" / "cursor.json")["step"])] = run_dir / "state"
    if not states:
        return trainer, 0
    best = max((at for at in states if at <= batch.step), default=min(states))
    trainer.load_state(str(states[best]))
    return trainer, best
