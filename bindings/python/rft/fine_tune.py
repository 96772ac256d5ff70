"""Fine-tuning from a run file without rewards: `rft sft run.yaml`, `rft dpo run.yaml` and `rft distill run.yaml`.

    step:  rows of data.train, in an order that depends on the seed and the step only  ->  gradient  ->  optimizer
    every eval.every steps, and at the end: the loss on data.heldout; the best weights are kept (model/), and stop.patience
    evaluations without a better one end the run

The run folder: config.json (resolved), metrics.jsonl, state/ (weights, optimizer, data cursor: what --resume reads),
best/ (while there is a data.heldout), model/, adapter/ (with lora:), summary.json; not-finite-STEP.json for each step that was given
up because of NaN or infinity (`rft replay`).
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rft import _native
from rft.codec import Codec, load_codec
from rft.conversations import (
    Line,
    Message,
    check_conversation,
    completion_datum,
    fitting,
    parse_labelled,
    parse_lines,
    parse_pair,
    read_files,
    to_datums,
)
from rft.replay import Batch, Call
from rft.run import config_of
from rft.run_folder import read_json, write_json

if TYPE_CHECKING:
    from rft._rft import Datum, FBResult, RunConfig, Trainer

Metrics = dict[str, float]
MAX_NOT_FINITE = 10  # steps in a row


class Objective(Protocol):
    """What is learned from rows. A row is a list of datums that belong together."""

    rows_per_step: int
    calls: list[Call]  # what the last accumulate asked of the trainer

    def rows(self, lines: Sequence[Line[Any]]) -> list[list[Datum]]:
        """The rows of a dataset, from its lines as FineTune has parsed them."""

    def accumulate(self, rows: Sequence[list[Datum]]) -> Metrics:
        """Adds the gradient of these rows; means over them, `loss` among them."""

    def evaluate(self, rows: Sequence[list[Datum]]) -> Metrics:
        """The same means without a gradient."""


class Sft:
    """Cross-entropy on the assistant's messages, each by its weight."""

    def __init__(self, config: RunConfig, trainer: Trainer, codec: Codec) -> None:
        self.rows_per_step: int = config.get("sft.rows_per_step")
        self.calls: list[Call] = []
        self._train_on: str = config.get("sft.train_on")
        self._trainer, self._codec = trainer, codec

    def rows(self, lines: Sequence[Line[Any]]) -> list[list[Datum]]:
        context = self._trainer.model.max_context
        return [row for _, row in parse_lines(lines, lambda row: fitting(to_datums(self._codec, row, self._train_on), context))]

    def accumulate(self, rows: Sequence[list[Datum]]) -> Metrics:
        self.calls = [Call("forward_backward", [datum for row in rows for datum in row], {"loss": "cross-entropy"}, [len(row) for row in rows])]
        result = self.calls[0].run(self._trainer)
        return {"loss": result.loss_sum / max(1, result.num_tokens), "num_tokens": result.num_tokens}

    def evaluate(self, rows: Sequence[list[Datum]]) -> Metrics:
        datums = [datum for row in rows for datum in row]
        total = tokens = 0.0
        for datum, logprobs in zip(datums, self._trainer.forward(datums), strict=True):
            total -= float((logprobs.astype("float64") * datum.weights).sum())
            tokens += float((datum.weights != 0).sum())
        return {"loss": total / max(1.0, tokens), "num_tokens": tokens}


class Preference:
    """A preference loss on pairs, or on labelled completions (kto)."""

    def __init__(self, config: RunConfig, trainer: Trainer, codec: Codec, reference: Callable[[], Trainer]) -> None:
        knobs = dict(config.get("preference"))
        self.rows_per_step: int = knobs.pop("rows_per_step")
        self.calls: list[Call] = []
        self._loss: str = knobs.pop("loss")
        self._knobs = {name: value for name, value in knobs.items() if value is not None}
        self._trainer, self._codec, self._reference = trainer, codec, reference
        self._paired, self._scored = self._loss != "kto", self._loss in ("dpo", "ipo", "kto")
        self._prefixes = 0

    def rows(self, lines: Sequence[Line[Any]]) -> list[list[Datum]]:
        datums_of, context = self._pair if self._paired else self._labelled, self._trainer.model.max_context
        rows = [row for _, row in parse_lines(lines, lambda parts: fitting(datums_of(*parts), context))]
        if self._scored:  # the reference never changes: its log-probabilities are computed once, while it is all there is
            reference = self._reference()
            datums = [datum for row in rows for datum in row]
            for datum, logprobs in zip(datums, reference.forward(datums), strict=True):
                datum.ref_logprobs = logprobs
        return rows

    def _pair(self, prompt: list[Message], chosen: list[Message], rejected: list[Message], tools: Any) -> list[Datum]:
        pair = [completion_datum(self._codec, prompt, answer, tools) for answer in (chosen, rejected)]
        shared = min(int(next(i for i, w in enumerate(datum.weights) if w)) for datum in pair)
        if shared > 0 and list(pair[0].ids[:shared]) == list(pair[1].ids[:shared]):  # the prompt is computed once
            self._prefixes += 1
            for datum in pair:
                datum.prefix_id, datum.prefix_length = self._prefixes, shared
        return pair

    def _labelled(self, prompt: list[Message], completion: list[Message], label: bool, tools: Any) -> list[Datum]:
        datum = completion_datum(self._codec, prompt, completion, tools)
        datum.advantages = [1.0 if label else -1.0] * len(datum.ids)
        return [datum]

    def accumulate(self, rows: Sequence[list[Datum]]) -> Metrics:
        return self._means(rows, True)

    def evaluate(self, rows: Sequence[list[Datum]]) -> Metrics:
        return self._means(rows, False)

    def _means(self, rows: Sequence[list[Datum]], gradient: bool) -> Metrics:
        datums = [datum for row in rows for datum in row]
        kl = 0.0 if self._paired else self._mismatched_kl(datums)
        self.calls = [Call("forward_backward_preference", datums, {"loss": self._loss, "gradient": gradient, "kl": kl, **self._knobs},
                           [len(row) for row in rows])]
        result: FBResult = self.calls[0].run(self._trainer)
        return {**result.metrics, **({} if self._paired else {"kl": kl}), "num_tokens": result.num_tokens}

    def _mismatched_kl(self, datums: Sequence[Datum]) -> float:
        """kto's z0: each prompt with the next row's completion, policy against reference; at least 0."""
        native = _native.load()
        split = [next(i for i, w in enumerate(datum.weights) if w) for datum in datums]
        crossed = []
        for i, datum in enumerate(datums):
            other, at = datums[(i + 1) % len(datums)], split[(i + 1) % len(datums)]
            prompt, answer = list(datum.ids[:split[i]]), list(other.ids[at:])
            crossed.append(native.Datum([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer)))
        policy, reference = self._trainer.forward(crossed), self._reference().forward(crossed)
        total = sum(float(p.astype("float64").sum() - r.astype("float64").sum()) for p, r in zip(policy, reference, strict=True))
        return max(0.0, total / len(crossed))


def load_trainer(config: RunConfig, temperature: float = 1.0) -> Trainer:
    """The trainer of a run file: its model, or a fresh adapter of it."""
    native, get = _native.load(), config.get
    model = native.Model.load(get("model"), dtype=get("trainer.dtype"), threads=get("trainer.threads"), device=get("trainer.device"),
                              offload=get("trainer.offload"))
    lora = dict(get("lora"))
    adapter = native.Adapter(model, seed=get("seed"), **lora) if lora["rank"] > 0 else None
    return native.Trainer(model, adapter, token_budget=get("trainer.token_budget"), checkpoint_every=get("trainer.checkpoint_every"),
                          optimizer=get("trainer.optimizer"), decay_vectors=get("trainer.decay_vectors"),
                          optimizer_state=get("trainer.optimizer_state"), temperature=temperature)


class FineTune:
    """One run folder. `step()` until it returns None, then `finish()`."""

    def __init__(self, config: RunConfig, kind: str, resume: str | Path | None = None) -> None:
        self.config, self.kind = config, kind
        self.dir = config_of(resume).parent if resume else self._new_folder()
        files = read_files([path for path in (config.get("data.train"), config.get("data.heldout")) if path], self._parse)
        self.codec = load_codec(config.get("model"))
        self._temperature = float(config.get("rollout.temperature")) if kind == "distill" else 1.0
        self.trainer = load_trainer(config, self._temperature)
        self._reference: Trainer | None = None
        self.objective: Objective = self._objective()
        self.rows, self.heldout = self.objective.rows(files[0]), self.objective.rows(files[1]) if len(files) > 1 else []
        self.memory_plan = self._plan_memory()
        self.num_steps: int = config.get("trainer.steps")
        self.state: dict[str, Any] = {"step": 0, "best_loss": None, "best_step": None, "bad_evaluations": 0, "train_seconds": 0.0,
                                      "not_finite": 0}
        self.stop_reason = ""
        self.not_finite = ""  # of the last step, if that was given up: "row 17 of data.train: ref_logprobs[3] is nan", where that is known
        if resume:
            self._load()
        else:
            self.dir.mkdir(parents=True, exist_ok=True)
            (self.dir / "config.json").write_text(config.to_json())

    def _parse(self, row: dict[str, Any]) -> Any:
        """What can be found wrong with a row before there is a model."""
        if self.kind == "sft":
            return check_conversation(row)
        if self.kind == "distill":
            return row["messages"]
        return (parse_labelled if self.config.get("preference.loss") == "kto" else parse_pair)(row)

    def _objective(self) -> Objective:
        if self.kind == "distill":
            from rft.distill import Distill

            return Distill(self.config, self.trainer, self.codec)
        if self.kind == "sft":
            return Sft(self.config, self.trainer, self.codec)
        return Preference(self.config, self.trainer, self.codec, self._get_reference)

    def _get_reference(self) -> Trainer:
        if self._reference is None:
            self._reference = _native.load().Trainer(self.trainer.model, frozen=True, token_budget=self.config.get("trainer.token_budget"))
        return self._reference

    def _plan_memory(self) -> dict[str, Any]:
        """What the steps will use memory for; makes the micro-batches fit."""
        datums = [datum for row in self.rows for datum in row]
        lengths = [len(datum.ids) for datum in datums]
        total, longest, get = sum(lengths), max(lengths, default=0), self.config.get
        wanted = sum(int((datum.weights != 0).sum()) for datum in datums)
        samples = self.kind == "distill"
        if samples:  # rows are prompts: completions, of unknown length, come to them
            wanted = len(datums) * get("rollout.group_size") * get("rollout.max_tokens")
            total, longest = total + wanted, longest + get("rollout.max_tokens")
        per_step = self.objective.rows_per_step * total / max(1, len(self.rows))
        return self.trainer.plan_memory(tokens_per_step=int(per_step) + 1, longest_row=longest, kept_versions=self._reference is not None,
                                        sampled_from=samples, predicted_part=wanted / max(1, total), limit_mb=get("trainer.memory_mb"))

    def _new_folder(self) -> Path:
        config = self.config
        given = config.get("run_dir") or f"runs/{config.get('name')}/{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path(config.get("base_dir")) / given
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"run_dir: {folder} holds something already; choose another, or --resume it")
        return folder

    @property
    def step_index(self) -> int:
        """Steps done."""
        return int(self.state["step"])

    def _rows_of(self, step: int) -> list[int]:
        """Which rows a step has: epochs in random order, a function of the seed and the step only."""
        count, first = self.objective.rows_per_step, step * self.objective.rows_per_step
        chosen: list[int] = []
        orders: dict[int, list[int]] = {}
        for position in range(first, first + count):
            epoch, at = divmod(position, len(self.rows))
            if epoch not in orders:
                order = list(range(len(self.rows)))
                if self.config.get("data.shuffle"):
                    random.Random(f"{self.kind}/{self.config.get('seed')}/{epoch}").shuffle(order)
                orders[epoch] = order
            chosen.append(orders[epoch][at])
        return chosen

    def step(self) -> Metrics | None:
        """One optimizer step and what is due after it; None when the run is over (`stop_reason` says why)."""
        index = self.step_index
        if not self.stop_reason and index >= self.num_steps:
            self.stop_reason = f"all {self.num_steps} steps are done"
        if self.stop_reason:
            return None
        start = time.perf_counter()
        rows, get = self._rows_of(index), self.config.get
        metrics = self.objective.accumulate([self.rows[row] for row in rows])
        rate = self.config.learning_rate(index)
        done = self.trainer.optim_step(
            learning_rate=rate, beta1=get("trainer.beta1"), beta2=get("trainer.beta2"), eps=get("trainer.eps"),
            weight_decay=get("trainer.weight_decay"), grad_clip_norm=get("trainer.grad_clip_norm"))
        self.state["train_seconds"] += time.perf_counter() - start
        self.state["step"] = index + 1
        metrics |= {"learning_rate": rate, "grad_norm": done.grad_norm, "skipped": float(done.skipped)}
        self._count_not_finite(done.skipped, rows)
        every = get("eval.every")
        if self.heldout and ((every and (index + 1) % every == 0) or index + 1 == self.num_steps):
            metrics |= {f"heldout/{name}": value for name, value in self._evaluate().items()}
        with (self.dir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": index, **metrics}) + "\n")
        if get("checkpoint.every") and (index + 1) % get("checkpoint.every") == 0:
            self.save()
        return metrics

    def _count_not_finite(self, skipped: bool, rows: Sequence[int]) -> None:
        """A skipped step's batch is kept for replay; several in a row end the run."""
        self.not_finite = next((f"row {rows[call.row_of(datum)]} of data.train: {what}" for call in self.objective.calls
                                for datum, what in call.not_finite), "")
        if not skipped:
            self.state["not_finite"] = 0
            return
        self.state["not_finite"] += 1
        step = self.step_index - 1
        Batch(step, self._temperature, self.objective.calls).save(self.dir / f"not-finite-{step}.json")
        if self.state["not_finite"] >= MAX_NOT_FINITE:
            self.stop_reason = (f"NaN or Inf in the gradient of {MAX_NOT_FINITE} steps in a row; their batches are in not-finite-*.json: "
                                f"rft replay {self.dir}")

    def _evaluate(self) -> Metrics:
        metrics = self.objective.evaluate(self.heldout)
        best = self.state["best_loss"]
        if best is None or metrics["loss"] < best:
            self.state |= {"best_loss": metrics["loss"], "best_step": self.step_index, "bad_evaluations": 0}
            self._replace("best", lambda folder: self.trainer.save_state(str(folder)))
        else:
            self.state["bad_evaluations"] += 1
            patience = self.config.get("stop.patience")
            if patience and self.state["bad_evaluations"] >= patience:
                self.stop_reason = f"the held-out loss has not improved in {patience} evaluations"
        return metrics

    def _replace(self, name: str, write: Callable[[Path], None]) -> None:
        """A folder that is there completely: written beside the old one, then renamed."""
        new, old = self.dir / f"{name}.tmp", self.dir / f"{name}.old"  # as FolderCommit names them (rft/io/manifest.h)
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
        new.mkdir()
        write(new)
        if (self.dir / name).exists():
            (self.dir / name).rename(old)
        new.rename(self.dir / name)
        shutil.rmtree(old, ignore_errors=True)

    def save(self) -> None:
        """Weights, optimizer and data cursor, for --resume."""
        def write(folder: Path) -> None:
            self.trainer.save_state(str(folder))
            write_json(folder / "cursor.json", self.state)

        self._replace("state", write)

    def _load(self) -> None:
        folder = self.dir / "state"
        if not folder.is_dir() and (self.dir / "state.old").is_dir():
            folder = self.dir / "state.old"  # killed between two renames
        if folder.is_dir():
            self.trainer.load_state(str(folder))
            self.state = read_json(folder / "cursor.json")
        path = self.dir / "metrics.jsonl"
        if path.is_file():  # what came after the checkpoint happens again
            path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:self.step_index]))

    def finish(self) -> dict[str, Any]:
        """Checkpoint, the best weights as model/ (the last ones without data.heldout), loaded again and compared, summary.json."""
        self.save()
        if self.state["best_step"] not in (None, self.step_index):
            self.trainer.load_state(str(self.dir / "best"))
        scored = [datum for row in (self.heldout or self.rows)[:8] for datum in row]
        summary = {"name": self.config.get("name"), "kind": self.kind, "steps": self.step_index, "stop_reason": self.stop_reason,
                   "best_step": self.state["best_step"], "best_loss": self.state["best_loss"],
                   "train_seconds": self.state["train_seconds"]}

        def write(folder: Path) -> None:
            self.trainer.save_model(str(folder))
            summary["export_difference"] = self.trainer.check_export(str(folder), scored)
            (folder / "README.md").write_text(self.config.model_card(self.kind, json.dumps(summary, indent=2)))

        if self.trainer.adapter is not None:
            self._replace("adapter", lambda folder: self.trainer.save_adapter(str(folder)))
        self._replace("model", write)
        write_json(self.dir / "summary.json", summary)
        return summary
