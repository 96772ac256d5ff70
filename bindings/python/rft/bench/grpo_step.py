"""`rft bench grpo-step`: one whole GRPO step against TRL's GRPOTrainer.

Rows grpo-step/trl/<model>/<TRL's precision>/p32 and p256: rft/bench/grpo_loop.py. Rows grpo-step/trl/<size>/<TRL's precision>/demo: 8 prompts x 8 completions, the demo's prompts, rewards and token limit;
sampling, grading, forward, backward, AdamW. Ours is bf16 with fp32 master weights in both rows; TRL runs with bf16=True and
in its fp32 default. The learning rate is so small that both sample from the base model throughout.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rft.bench import BenchOptions, Log, Row, row, size_label
from rft.bench.grpo_loop import GROUP, LEARNING_RATE, PRECISIONS, PROMPTS, loop_rows
from rft.bench.peer import Peer
from rft.bench.roofline import Machine, grpo_seconds

MAX_TOKENS = 32
EXTRACT = r"<answer>\s*(-?\d+)\s*</answer>"


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per model, precision of TRL and kind of step."""
    yield from demo_rows(options, log)
    yield from loop_rows(options, log)


def demo_rows(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per precision of TRL, with the demo's model."""
    from rft.tasks.arithmetic import generate

    model = options.model_dir().resolve()
    names = {precision: f"grpo-step/trl/{size_label(count_parameters(model))}/{precision}/demo" for precision in PRECISIONS}
    wanted = {precision: name for precision, name in names.items() if options.only in name}
    if not wanted:
        return
    machine = Machine.measure(log)
    config = json.loads((model / "config.json").read_text())
    with tempfile.TemporaryDirectory(prefix="rft-bench-") as scratch:
        train, _ = generate(Path(scratch), seed=0, num_train=600, num_heldout=2)
        for precision, name in wanted.items():
            with ExitStack() as stack:
                ours = stack.enter_context(Ours(Path(scratch) / precision, model, train, options.rounds))
                peer = None
                if options.peers:
                    peer = stack.enter_context(Peer("trl_grpo.py", [
                        str(model), str(train), "--dtype", precision, "--prompts", str(PROMPTS), "--group", str(GROUP),
                        "--max-tokens", str(MAX_TOKENS), "--steps", str(options.rounds + 1), "--lr", str(LEARNING_RATE)], log))
                    peer.measure()
                ours.step()
                mine, theirs = [], []
                for index in range(options.rounds):
                    mine.append(ours.step())
                    if peer:
                        theirs.append(peer.measure())
                    log(f"{name}: round {index + 1}: ours {mine[-1]['seconds']:.2f} s, {mine[-1]['length']:.1f} tokens"
                        + (f"; peer {theirs[-1]['seconds']:.2f} s, {theirs[-1]['length']:.1f} tokens" if theirs else ""))
            length = statistics.median(step["length"] for step in mine)
            limit = grpo_seconds(machine, config, PROMPTS, mine[-1]["prompt_tokens"], PROMPTS * GROUP, length)
            yield row(name, statistics.median(step["seconds"] for step in mine),
                      statistics.median(step["seconds"] for step in theirs) if theirs else None, "s/step", limit,
                      smaller_is_better=True, ours_length=round(length, 1),
                      peer_length=round(statistics.median(step["length"] for step in theirs), 1) if theirs else None,
                      ours_all=[round(step["seconds"], 3) for step in mine],
                      peer_all=[round(step["seconds"], 3) for step in theirs])


class Ours:
    """The same step through rft.Run, with C++ graders for the two rewards."""

    def __init__(self, scratch: Path, model: Path, train: Path, rounds: int) -> None:
        from rft.run import Run

        scratch.mkdir(parents=True)
        run_file = scratch / "run.yaml"
        # JSON is YAML: no quoting questions.
        run_file.write_text(json.dumps({
            "name": "bench-grpo-step", "model": str(model), "run_dir": str(scratch / "run"), "seed": 1,
            "data": {"train": str(train)},
            "graders": [{"name": "format", "type": "regex_match", "pattern": EXTRACT, "weight": 0.2},
                        {"name": "correct", "type": "number_match", "extract": EXTRACT, "weight": 0.8}],
            "rollout": {"prompts_per_step": PROMPTS, "group_size": GROUP, "max_tokens": MAX_TOKENS, "max_refill_rounds": 0},
            # TRL trains on every group: so do we here.
            "filter": {"zero_variance": False},
            "trainer": {"dtype": "bf16", "steps": rounds + 1, "learning_rate": LEARNING_RATE},
        }))
        self._run = Run.from_file(run_file)
        self._prompt_tokens = self._mean_prompt(train)

    def step(self) -> dict[str, float]:
        """Wall time, mean completion length and prompt length of the next step."""
        start = time.perf_counter()
        report = self._run.step()
        seconds = time.perf_counter() - start
        if report is None:
            raise RuntimeError(f"the run ended early: {self._run.stop_reason}")
        return {"seconds": seconds, "length": report.completion_length_mean, "prompt_tokens": self._prompt_tokens}

    def _mean_prompt(self, train: Path) -> float:
        rows = [json.loads(line) for line in train.read_text().splitlines()[:32]]
        return statistics.mean(len(self._run.codec.encode_chat(row["messages"])) for row in rows)

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        self._run.close()


def count_parameters(model: Path) -> int:
    """Numbers in the model's safetensors files."""
    from safetensors import safe_open

    total = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                size = 1
                for extent in file.get_slice(key).get_shape():
                    size *= extent
                total += size
    return total
