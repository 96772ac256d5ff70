"""Supervised fine-tuning on the Trainer's verbs: cross-entropy on the last assistant message of each conversation."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft import _native
from rft.codec import Codec
from rft.conversations import read_rows

if TYPE_CHECKING:
    from rft._rft import Datum, Trainer


@dataclass(frozen=True)
class SftConfig:
    """Knobs of :func:`sft`."""

    steps: int = 100
    rows_per_step: int = 64
    learning_rate: float = 1e-3
    min_lr_ratio: float = 0.1      # of the cosine's end
    warmup_steps: int = 5
    token_budget: int = 8192       # tokens per forward_backward call
    grad_clip_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class SftStep:
    """What one step did."""

    index: int
    loss: float            # nats per assistant token
    grad_norm: float
    learning_rate: float
    num_tokens: int


def read_conversations(path: str | Path) -> list[list[dict[str, Any]]]:
    """`messages` of every line; each must end with an assistant message. All bad lines are reported together."""
    def ending_with_the_assistant(row: dict[str, Any]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = row["messages"]
        if messages[-1]["role"] != "assistant":
            raise ValueError("messages: the last one is not the assistant's")
        return messages

    return read_rows(path, ending_with_the_assistant)


def to_datum(codec: Codec, messages: list[dict[str, Any]]) -> Datum:
    """Prompt, the last assistant message and an end token; only what comes after the prompt has weight."""
    prompt = codec.encode_chat(messages[:-1])
    end = codec.tokenizer.eos_token_id
    if end is None:
        end = codec.end_ids[0]
    target = [*codec.encode(messages[-1]["content"]), end]
    return _native.load().Datum([*prompt, *target], [0.0] * len(prompt) + [1.0] * len(target))


def pack(datums: Sequence[Datum], token_budget: int) -> Iterator[list[Datum]]:
    """Consecutive datums in calls of at most `token_budget` tokens (a longer datum gets a call of its own)."""
    call: list[Datum] = []
    size = 0
    for datum in datums:
        length = len(datum.ids)
        if call and size + length > token_budget:
            yield call
            call, size = [], 0
        call.append(datum)
        size += length
    if call:
        yield call


def learning_rate_at(config: SftConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to min_lr_ratio."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    part = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * part)))


def sft(trainer: Trainer, codec: Codec, conversations: Sequence[list[dict[str, Any]]], config: SftConfig | None = None,
        on_step: Callable[[SftStep], None] | None = None) -> float:
    """Trains in place; returns the seconds spent training. Rows are visited in random epochs derived from the seed."""
    config = config or SftConfig()
    datums = [to_datum(codec, messages) for messages in conversations]
    rng = random.Random(f"sft/{config.seed}")
    order: list[int] = []
    start = time.perf_counter()
    for index in range(config.steps):
        while len(order) < config.rows_per_step:
            order += rng.sample(range(len(datums)), len(datums))
        chosen, order = [datums[i] for i in order[:config.rows_per_step]], order[config.rows_per_step:]
        loss_sum, num_tokens = 0.0, 0
        for call in pack(chosen, config.token_budget):
            result = trainer.forward_backward(call, loss="cross-entropy")
            loss_sum += result.loss_sum
            num_tokens += result.num_tokens
        rate = learning_rate_at(config, index)
        done = trainer.optim_step(learning_rate=rate, eps=1e-8, grad_clip_norm=config.grad_clip_norm)
        if on_step:
            on_step(SftStep(index, loss_sum / max(1, num_tokens), done.grad_norm, rate, num_tokens))
    return time.perf_counter() - start
