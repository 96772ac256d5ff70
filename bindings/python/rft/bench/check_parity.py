"""`rft check parity [--family F]`: the sampler's log-probabilities against the trainer's, bit for bit.

Rows parity/<family>/<case>-<dtype>: `ours` is the largest absolute difference over all sampled tokens, and must be exactly 0.
64 requests of 1 to 96 prompt tokens and 1 to 32 new ones join and leave the batch while others run; a case is one way of
arranging the work (CASES below); joins-and-leaves draws prefill chunk, batch size and threads. The trainer scores them in one packed forward, prompts shared and not. Mixtures of experts are
scored with the sampler's recorded experts replayed (R3: of all tokens, of the completions only) and with the router's own choice.
Families are models of two or three layers with random weights (parity_families.py). --model DIR checks that model instead.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.parity_families import FAMILIES

NUM_REQUESTS, MAX_PROMPT, MAX_NEW = 64, 96, 32


@dataclass
class Request:
    """One prompt and how it is sampled."""

    prompt: list[int]
    sampling: dict[str, Any]
    completions: list[Any] = field(default_factory=list)


class Subject:
    """A model, its trainer, and one engine after the other around it."""

    def __init__(self, native: Any, model: Any, seed: int) -> None:
        self.native, self.model, self.trainer = native, model, native.Trainer(model, token_budget=1500)
        self.random = random.Random(seed)
        self.stats: dict[str, Any] = {}
        self.replays = ("none", "completion", "all") if model.route_bytes else ("none",)

    def requests(self, count: int = NUM_REQUESTS, prefix: int = 0) -> list[Request]:
        """Ragged requests; with `prefix` tokens that four of them each have in common."""
        rng, made = self.random, []
        shared = [self._ids(prefix) for _ in range(max(1, count // 4))]
        for index in range(count):
            sampling = {"n": rng.randint(1, 3), "max_tokens": rng.randint(1, MAX_NEW), "temperature": rng.choice([1.0, 1.0, 0.0, 0.7]),
                        "top_p": rng.choice([1.0, 0.9]), "seed": rng.getrandbits(32)}
            made.append(Request(shared[index % len(shared)] + self._ids(rng.randint(1, MAX_PROMPT)), sampling))
        return made

    def sample(self, requests: list[Request], threads: int = 1, **engine_options: int) -> None:
        """Runs them all, 16 at a time: when one is finished the next joins."""
        self.native.set_threads(threads)
        with self.native.Engine(self.model, **engine_options) as engine, ThreadPoolExecutor(16) as pool:
            for request, done in zip(requests, pool.map(lambda r: engine.generate([r.prompt], deadline_s=60, routes="all",
                                                                                          **r.sampling)[0], requests), strict=True):
                request.completions = done
            self.stats = engine.stats()

    def difference(self, requests: list[Request], threads: int = 1) -> float:
        """Largest |sampler - trainer|; NaN where either is no number."""
        self.native.set_threads(threads)
        worst = 0.0
        for shared, replay in itertools.product((True, False), self.replays):
            datums = self.datums(requests, shared, replay)
            flat = [(r.prompt, c) for r in requests for c in r.completions]
            for (prompt, completion), logprobs in zip(flat, self.trainer.forward(datums), strict=True):
                worst = worse(worst, np.abs(logprobs[len(prompt):] - completion.logprobs).max())
        return worst

    def datums(self, requests: list[Request], shared: bool, replay: str = "none") -> list[Any]:
        """Training rows of all completions, with alternating advantages."""
        return [self.native.Datum(r.prompt + c.ids.tolist(), [0.0] * len(r.prompt) + [1.0] * len(c.ids),
                                  [(-1.0) ** s] * (len(r.prompt) + len(c.ids)),
                                  prefix_id=i if shared else -1, prefix_length=len(r.prompt) if shared else 0,
                                  **replayed(len(r.prompt), c, replay))
                for i, r in enumerate(requests) for s, c in enumerate(r.completions)]

    def _ids(self, count: int) -> list[int]:
        return [self.random.randrange(3, self.model.vocab_size) for _ in range(count)]


def replayed(prompt_length: int, completion: Any, replay: str) -> dict[str, Any]:
    """The recorded experts as a datum takes them: of all tokens but the first, or of the completion's."""
    if replay == "none":
        return {}
    routes = np.concatenate([completion.prompt_routes, completion.routes])
    known = np.arange(len(routes)) >= (1 if replay == "all" else prompt_length)
    return {"routes": routes, "routed": known.astype(np.uint8)}


def worse(a: float, b: Any) -> float:
    """The larger one; NaN when either is."""
    return float(np.maximum(a, b))


def _batch_size(subject: Subject) -> float:
    requests, worst = subject.requests(), 0.0
    for max_batch in (1, 3, 64):
        subject.sample(requests, max_batch=max_batch)
        worst = worse(worst, subject.difference(requests))
    return worst


def _joins_and_leaves(subject: Subject) -> float:
    requests, rng, cores = subject.requests(), subject.random, min(8, os.cpu_count() or 1)
    subject.sample(requests, threads=rng.randint(1, cores), max_batch=rng.randint(4, 40), max_batch_tokens=rng.randint(40, 200))
    return subject.difference(requests, rng.randint(1, cores))


def _prefill_chunk(subject: Subject) -> float:
    requests, worst = subject.requests(), 0.0
    for tokens in (3, 7, 23):
        subject.sample(requests, max_batch=3, max_batch_tokens=tokens)
        worst = worse(worst, subject.difference(requests))
    return worst


def _prefix(subject: Subject) -> float:
    requests = subject.requests(prefix=70)
    subject.sample(requests, max_batch=8)
    if subject.stats["prefix_hit_tokens"] == 0:
        raise RuntimeError("no prompt began like another: this case has lost its meaning")
    return subject.difference(requests)


def _preemption(subject: Subject) -> float:
    page = subject.native.Engine(subject.model, kv_memory_mb=64).stats()["page_bytes"]
    requests = subject.requests()
    subject.sample(requests, kv_memory_bytes=12 * page)
    if subject.stats["preemptions"] == 0:
        raise RuntimeError("no sequence was preempted: this case has lost its meaning")
    return subject.difference(requests)


def _threads(subject: Subject) -> float:
    requests, worst = subject.requests(24), 0.0
    cores = min(8, os.cpu_count() or 1)
    for _ in range(2):
        subject.sample(requests, threads=subject.random.randint(1, cores), max_batch=subject.random.randint(1, 24))
        worst = worse(worst, worse(subject.difference(requests, 1), subject.difference(requests, cores)))
    return worst


def _optimizer_steps(subject: Subject) -> float:
    worst = 0.0
    for _ in range(3):
        subject.trainer.forward_backward(subject.datums(first := _sampled(subject), shared=True), loss="grpo")
        worst = worse(worst, subject.difference(first))
        if subject.trainer.optim_step(learning_rate=0.01).skipped:
            raise RuntimeError("the optimizer step was skipped: this case has lost its meaning")
    return worse(worst, subject.difference(_sampled(subject)))


def _sampled(subject: Subject) -> list[Request]:
    requests = subject.requests()
    subject.sample(requests)
    return requests


def _fork(subject: Subject) -> float:
    requests = subject.requests(8)
    for request in requests:
        request.sampling["n"] = 16
    subject.sample(requests, max_batch=40)
    return subject.difference(requests)


def _greedy_unique(subject: Subject) -> float:
    """Completions that are not like the first, of 1,000 greedy ones of one prompt among others, threads drawn at random."""
    rng, cores, seen, made = subject.random, min(8, os.cpu_count() or 1), set(), 0
    (question,) = subject.requests(1)
    question.sampling = {"temperature": 0.0, "max_tokens": 16, "ignore_eos": True}
    while made < 1000:
        asked = [Request(question.prompt, {**question.sampling, "n": rng.randint(1, 40)}) for _ in range(8)]
        others = subject.requests(8)
        subject.sample(rng.sample(asked + others, len(asked + others)), threads=rng.randint(1, cores), max_batch=rng.randint(1, 64),
                       max_batch_tokens=rng.randint(64, 300))
        seen |= {(tuple(c.ids), c.logprobs.tobytes()) for r in asked for c in r.completions}
        made += sum(len(r.completions) for r in asked)
    return float(len(seen) - 1)


CASES: dict[str, Callable[[Subject], float]] = {
    "batch-size": _batch_size, "joins-and-leaves": _joins_and_leaves, "prefill-chunk": _prefill_chunk, "shared-prefix": _prefix,
    "preemption": _preemption, "threads": _threads, "fork": _fork, "greedy-unique": _greedy_unique, "optimizer-steps": _optimizer_steps}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per family, case and compute type."""
    from rft import _native

    native = _native.load()
    if options.family and options.family not in FAMILIES:
        raise ValueError(f"unknown family {options.family!r}; known are {', '.join(FAMILIES)} (or --model DIR)")
    for dtype in ("fp32", "bf16"):
        for family in [options.model.resolve().name] if options.model else [options.family] if options.family else list(FAMILIES):
            if options.model:
                model = native.Model.load(str(options.model_dir()), dtype=dtype)
            else:
                model = native.Model.create(json.dumps(FAMILIES[family]), dtype=dtype, seed=1)
            for index, (case, measure) in enumerate(CASES.items()):
                name = f"parity/{family}/{case}-{dtype}"
                if options.only not in name:
                    continue
                log(name)
                worst = measure(Subject(native, model, index))
                unit = "different completions" if measure is _greedy_unique else "nats"
                yield row(name, worst, None, unit, 0.0)
    native.set_threads(0)
