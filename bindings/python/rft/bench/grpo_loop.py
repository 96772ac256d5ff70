"""Rows grpo-step/trl/<model>/<TRL's precision>/p32 and p256 of `rft bench grpo-step`: a whole GRPO step, 8 prompts x 8 completions.

p32   prompts of 32 tokens, completions of exactly 128
p256  prompts of 256 tokens, ragged completions (mean about 48, at most 256), the same lengths on both sides
Sampling at temperature 1, a reward in Python on the text, advantages, forward, backward, AdamW, the weights published. Ours is
the loop of examples/one_file_loop.py, always bf16 compute with float32 master weights; TRL runs in its fp32 default or with
bf16=True, micro-batches of 8, no gradient checkpointing. The large p256 rows take minutes per step of TRL's: no warm-up there.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.models import bench_model
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, grpo_seconds
from rft.bench.train import completion_lengths

MODELS, PRECISIONS = ("S", "M", "135M"), ("fp32", "bf16")
PROMPTS, GROUP, LEARNING_RATE = 8, 8, 1e-7  # a step of every row, the demo's too
FULL = 128
WORDS = "the model reads a line of text and writes the next word for each of them in turn".split()
KINDS = {"p32": 32, "p256": 256}


def loop_rows(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per model, precision and kind."""
    machine = None
    for model in MODELS:
        for precision in PRECISIONS:
            for kind in KINDS:
                name = f"grpo-step/trl/{model}/{precision}/{kind}"
                if options.only not in name:
                    continue
                machine = machine or Machine.measure(log)
                yield measure(name, model, precision, kind, machine, options, log)


def measure(name: str, model: str, precision: str, kind: str, machine: Machine, options: BenchOptions, log: Log) -> Row:
    """Interleaved steps of both."""
    folder = bench_model(model, options, log)
    lengths = completion_lengths() if kind == "p256" else [FULL] * (PROMPTS * GROUP)
    warm_up = 0 if kind == "p256" and model != "S" else 1
    with ExitStack() as stack:
        ours = Ours(folder, KINDS[kind], lengths)
        stack.callback(ours.close)
        peer = None
        if options.peers:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rft-bench-")))
            data = scratch / "prompts.jsonl"
            rows = [{"prompt": ours.text(seed)} for seed in range(PROMPTS * (options.rounds + warm_up + 1))]
            data.write_text("\n".join(map(json.dumps, rows)) + "\n")
            peer = stack.enter_context(Peer("trl_grpo.py", [
                str(folder), str(data), "--dtype", precision, "--prompts", str(PROMPTS), "--group", str(GROUP), "--max-tokens",
                str(max(lengths)), "--lengths", ",".join(map(str, lengths)), "--steps", str(options.rounds + warm_up),
                "--lr", str(LEARNING_RATE)], log))
            for _ in range(warm_up):
                peer.measure()
        ours.step()
        mine, theirs = [], []
        for index in range(options.rounds):
            mine.append(ours.step())
            if peer:
                theirs.append(peer.measure())
            log(f"{name}: round {index + 1}: ours {mine[-1]['seconds']:.2f} s" + (f"; peer {theirs[-1]['seconds']:.2f} s, "
                f"{theirs[-1]['length']:.1f} tokens" if theirs else ""))
    config = json.loads((folder / "config.json").read_text())
    return row(name, statistics.median(step["seconds"] for step in mine),
               statistics.median(step["seconds"] for step in theirs) if theirs else None, "s/step",
               grpo_seconds(machine, config, PROMPTS, KINDS[kind], len(lengths), statistics.mean(lengths)), smaller_is_better=True,
               ours_sampling_s=round(statistics.median(step["sampling_s"] for step in mine), 3),
               length=round(statistics.mean(lengths), 1), ours_all=[round(step["seconds"], 3) for step in mine],
               peer_length=round(theirs[-1]["length"], 1) if theirs else None, peer_all=[round(step["seconds"], 3) for step in theirs])


def reward(text: str) -> float:
    """Part of the characters that are digits; the runner of TRL has the same."""
    return sum(ch.isdigit() for ch in text) / (1 + len(text))


class Ours:
    """The loop on the engine's and the trainer's verbs."""

    def __init__(self, folder: Path, prompt_tokens: int, lengths: list[int]) -> None:
        from rft import _native
        from rft.codec import load_codec

        self._native, self._codec = _native.load(), load_codec(folder)
        model = self._native.Model.load(str(folder), dtype="bf16")
        self._engine, self._trainer = self._native.Engine(model), self._native.Trainer(model)
        self._prompt_tokens, self._lengths, self._steps = prompt_tokens, lengths, 0

    def text(self, seed: int) -> str:
        """Words that make `prompt_tokens` tokens, or one or two more."""
        rng, words = random.Random(seed), [WORDS[seed % len(WORDS)]]
        while len(self._codec.encode(" ".join(words))) < self._prompt_tokens:
            words.append(rng.choice(WORDS))
        return " ".join(words)

    def step(self) -> dict[str, float]:
        """Wall time of one step, and of its sampling."""
        texts = [self.text(self._steps * PROMPTS + index) for index in range(PROMPTS)]
        start = time.perf_counter()
        prompts = [self._codec.encode(text) for text in texts]
        groups = self._sample(prompts)
        sampled = time.perf_counter()
        datums = []
        for index, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
            scores = np.array([reward(self._codec.decode([int(i) for i in sample.ids])) for sample in group])
            # Rewards that are all equal teach nothing; both sides train on every group all the same.
            for sample, advantage in zip(group, (scores - scores.mean()) / (scores.std() + 1e-4), strict=True):
                mask = [0.0] * len(prompt) + [1.0] * len(sample.ids)
                logprobs = [0.0] * len(prompt) + [float(x) for x in sample.sampling_logprobs]
                datums.append(self._native.Datum(
                    [*prompt, *(int(i) for i in sample.ids)], mask, advantages=[float(advantage) * m for m in mask],
                    old_logprobs=logprobs, sampling_logprobs=logprobs, prefix_id=index, prefix_length=len(prompt)))
        self._trainer.forward_backward(datums, loss="grpo")
        self._trainer.optim_step(learning_rate=LEARNING_RATE, grad_clip_norm=1.0)
        self._engine.publish(self._trainer.weights())
        self._steps += 1
        return {"seconds": time.perf_counter() - start, "sampling_s": sampled - start}

    def _sample(self, prompts: list[list[int]]) -> list[list[Any]]:
        """Completions of exactly the wanted lengths, by prompt."""
        if len(set(self._lengths)) == 1:
            return self._engine.generate(prompts, n=GROUP, max_tokens=self._lengths[0], ignore_eos=True, seed=self._steps)
        # A length of its own for each: requests of one sample. The first of every group comes first, the others find its prompt.
        order = sorted(range(len(self._lengths)), key=lambda i: i % GROUP)
        done = self._engine.generate([prompts[i // GROUP] for i in order], max_tokens=[self._lengths[i] for i in order],
                                     ignore_eos=True, seed=self._steps)
        by_index = {i: samples[0] for i, samples in zip(order, done, strict=True)}
        return [[by_index[p * GROUP + g] for g in range(GROUP)] for p in range(len(prompts))]

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()
