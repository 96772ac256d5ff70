"""On-policy distillation: the student samples, one or more teachers say what they would have said, the student learns from it.

    prompts -> completions of the student -> teachers' log-probabilities of them -> gradient       (`rft distill run.yaml`)

distill.objective "sampled": the reverse KL on the sampled tokens; a token's advantage is log p_teacher - log p_student, and the
loss that of importance sampling. "top-k": the divergence on each teacher's distill.top_k most likely tokens at every position
(Trainer.forward_backward_distillation). Teachers count alike and must have the student's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rft import _native
from rft.codec import Codec
from rft.conversations import Line, fitting, parse_lines
from rft.replay import Call

if TYPE_CHECKING:
    from rft._rft import Datum, RunConfig, Trainer

EVALUATION_SEED = 1 << 40


class Distill:
    """An objective of rft.fine_tune: a row is its prompt."""

    def __init__(self, config: RunConfig, trainer: Trainer, codec: Codec) -> None:
        native, get = _native.load(), config.get
        if not get("distill.teachers"):
            raise ValueError("distill.teachers: name at least one model folder")
        self.rows_per_step: int = get("rollout.prompts_per_step")
        self.calls: list[Call] = []
        self._config, self._trainer, self._codec = config, trainer, codec
        self._teachers = []
        for folder in get("distill.teachers"):
            model = native.Model.load(folder, dtype=get("trainer.dtype"), device=get("trainer.device"),
                                      offload=get("trainer.offload"))
            if model.vocab_size != trainer.model.vocab_size:
                raise ValueError(f"distill.teachers: {folder} has a vocabulary of {model.vocab_size}, the student of {trainer.model.vocab_size}")
            self._teachers.append(native.Trainer(model, frozen=True, token_budget=get("trainer.token_budget"),
                                                 temperature=get("rollout.temperature")))
        self._engine = native.Engine(trainer.sampler_model, max_batch=get("engine.max_batch"), kv_memory_mb=get("engine.kv_memory_mb"))

    def rows(self, lines: Sequence[Line[Any]]) -> list[list[Datum]]:
        """Messages up to where the assistant's last words would begin."""
        def prompt(messages: list[dict[str, Any]]) -> list[Datum]:
            if messages and messages[-1]["role"] == "assistant":
                messages = messages[:-1]
            ids = self._codec.encode_chat(messages)
            return fitting([_native.load().Datum(ids, [0.0] + [1.0] * (len(ids) - 1))], self._trainer.model.max_context,
                           self._config.get("rollout.max_tokens"))

        return [row for _, row in parse_lines(lines, prompt)]

    def accumulate(self, rows: Sequence[list[Datum]]) -> dict[str, float]:
        """Samples with the current weights, and adds the gradient."""
        get = self._config.get
        datums = self._sample(rows, self._trainer.num_steps)
        if get("distill.objective") == "sampled":
            metrics = self._compare(datums, [teacher.forward(datums) for teacher in self._teachers])
            self.calls = [Call("forward_backward", datums, {"loss": "importance-sampling"})]
            self.calls[0].run(self._trainer)
            return metrics
        said, self.calls = [], []
        divergence = 0.0
        for teacher in self._teachers:
            sampled, _, ids, logprobs = teacher.describe(datums, get("distill.top_k"))
            said.append(sampled)
            call = Call("forward_backward_distillation", datums,
                        {"top_ids": ids, "top_logprobs": logprobs, "direction": get("distill.direction")})
            divergence += call.run(self._trainer).metrics["divergence"] / len(self._teachers)
            self.calls.append(call)
        return self._compare(datums, said) | {"divergence": divergence}

    def evaluate(self, rows: Sequence[list[Datum]]) -> dict[str, float]:
        """The sampled reverse KL, with the same random numbers every time."""
        datums = self._sample(rows, EVALUATION_SEED)
        return self._compare(datums, [teacher.forward(datums) for teacher in self._teachers])

    def _sample(self, rows: Sequence[list[Datum]], number: int) -> list[Datum]:
        native, get = _native.load(), self._config.get
        self._engine.publish(self._trainer.weights())
        prompts = [[int(i) for i in row[0].ids] for row in rows]
        groups = self._engine.generate(prompts, n=get("rollout.group_size"), temperature=get("rollout.temperature"),
                                       max_tokens=get("rollout.max_tokens"), seed=(get("seed") << 20) + number)
        return [native.Datum([*prompt, *(int(i) for i in sample.ids)], [0.0] * len(prompt) + [1.0] * len(sample.ids),
                             old_logprobs=[0.0] * len(prompt) + [float(x) for x in sample.sampling_logprobs],
                             prefix_id=index, prefix_length=len(prompt))
                for index, (prompt, group) in enumerate(zip(prompts, groups, strict=True)) for sample in group if len(sample.ids)]

    @staticmethod
    def _compare(datums: list[Datum], teachers: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
        """Advantages from the teachers' log-probabilities; loss: the mean of log p_student - log p_teacher over the sampled tokens."""
        total = tokens = 0.0
        for index, datum in enumerate(datums):
            wanted = np.asarray(datum.weights) != 0
            said = np.mean([np.asarray(rows[index]) for rows in teachers], axis=0)
            difference = np.where(wanted, said - np.asarray(datum.old_logprobs), 0.0)
            datum.advantages = [float(x) for x in difference]
            total -= float(difference.sum())
            tokens += float(wanted.sum())
        return {"loss": total / max(1.0, tokens), "num_tokens": tokens}
