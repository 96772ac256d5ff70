"""Time to a held-out reward on the demo's task: rft against TRL, with the same model, data, rewards, group size and optimizer settings.

    .venv/bin/python tests/bench/time_to_reward.py [--target 0.5] [--every 5] [--max-steps 45] [--side both|ours|trl] [--dtype bf16]

Both train until the reward on the held-out rows reaches the target, looked at every --every steps by the same evaluator (rft's
engine, the same random numbers). The clock counts training steps only: no loading, no evaluation. Prints one JSON line per look and
one at the end. TRL runs in .venv-peers (`make peers`), with its micro-batches of 8 and no gradient checkpointing. Both use the loss
"grpo" with advantages of the group's mean and deviation. Ours samples other prompts in place of groups of equal rewards, as `rft train`
does by default, and the clock counts that too; TRL trains on such groups with zeros.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rft.bench import DEFAULT_MODEL
from rft.bench.grpo_step import EXTRACT
from rft.bench.peer import Peer
from rft.run import Run
from rft.tasks.arithmetic import generate

PROMPTS, GROUP, MAX_TOKENS = 8, 8, 24
OPTIMIZER = {"learning_rate": 5e-5, "warmup_steps": 2, "schedule": "constant", "beta1": 0.9, "beta2": 0.95, "eps": 1e-8,
             "weight_decay": 0.0, "grad_clip_norm": 1.0}
Look = tuple[int, float, float]  # steps done, seconds of training, held-out reward


def run_file(scratch: Path, model: Path, data: tuple[Path, Path], steps: int, seed: int, name: str) -> Path:
    """The run of both sides: TRL's checkpoints are evaluated with it, too."""
    file = scratch / f"{name}.json"
    file.write_text(json.dumps({
        "name": name, "model": str(model), "run_dir": str(scratch / name), "seed": seed,
        "data": {"train": str(data[0]), "heldout": str(data[1])},
        "graders": [{"name": "format", "type": "regex_match", "pattern": EXTRACT, "weight": 0.2},
                    {"name": "correct", "type": "number_match", "extract": EXTRACT, "weight": 0.8}],
        "rollout": {"prompts_per_step": PROMPTS, "group_size": GROUP, "max_tokens": MAX_TOKENS},
        "losses": {"name": "grpo"}, "eval": {"samples": 2}, "trainer": {"steps": steps, **OPTIMIZER}}))
    return file


def ours(file: Path, every: int) -> Iterator[Look]:
    """rft train."""
    seconds = 0.0
    run = Run.from_file(file)
    yield 0, 0.0, run.evaluate().reward_mean
    for step in run:
        seconds += step.seconds
        if (step.index + 1) % every == 0:
            yield step.index + 1, seconds, run.evaluate().reward_mean
    run.close()


def trl(file: Path, model: Path, train: Path, every: int, steps: int, dtype: str, seed: int) -> Iterator[Look]:
    """GRPOTrainer; its weights are saved for each look."""
    seconds = 0.0
    arguments = [str(model), str(train), "--dtype", dtype, "--prompts", str(PROMPTS), "--group", str(GROUP), "--max-tokens",
                 str(MAX_TOKENS), "--steps", str(steps + 2), "--lr", str(OPTIMIZER["learning_rate"]), "--warmup", str(OPTIMIZER["warmup_steps"]), "--seed", str(seed)]
    yield 0, 0.0, held_out(file, model, file.parent / "trl-0")
    with Peer("trl_grpo.py", arguments, lambda line: print(line, file=sys.stderr)) as peer:
        peer.measure()  # transformers' warm-up begins with a step at a rate of 0, which changes nothing: not counted
        for done in range(1, steps + 1):
            seconds += float(peer.measure()["seconds"])
            if done % every == 0:
                saved = file.parent / f"trl-{done}"
                peer.measure("save", saved)
                yield done, seconds, held_out(file, saved, saved / "run")


def held_out(file: Path, model: Path, run_dir: Path) -> float:
    """The reward that our side's evaluation gives this model."""
    run_dir.parent.mkdir(exist_ok=True)
    evaluation = run_dir.with_suffix(".json")
    evaluation.write_text(json.dumps(json.loads(file.read_text()) | {"model": str(model), "run_dir": str(run_dir)}))
    with Run.from_file(evaluation) as run:
        return float(run.evaluate().reward_mean)


def reach(name: str, looks: Iterator[Look], target: float) -> dict[str, Any]:
    """Until a look is at the target."""
    for done, seconds, reward in looks:
        print(json.dumps({"side": name, "steps": done, "seconds": round(seconds, 2), "reward": round(reward, 4)}), flush=True)
        if reward >= target:
            return {"steps": done, "seconds": round(seconds, 2), "reward": round(reward, 4)}
    return {"steps": None, "seconds": None, "reward": None}


def main() -> None:
    """Ours, theirs, the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--max-steps", type=int, default=45)
    parser.add_argument("--side", choices=["both", "ours", "trl"], default="both")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="TRL's precision")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = args.model.resolve()
    result: dict[str, Any] = {"target": args.target}
    with tempfile.TemporaryDirectory(prefix="rft-time-to-reward-") as folder:
        scratch = Path(folder)
        data = generate(scratch, args.seed, 600, 80)
        file = run_file(scratch, model, data, args.max_steps, args.seed, "ours")
        if args.side != "trl":
            result["ours"] = reach("ours", ours(file, args.every), args.target)
        if args.side != "ours":
            result["trl"] = reach("trl", trl(file, model, data[0], args.every, args.max_steps, args.dtype, args.seed), args.target)
    if args.side == "both" and result["ours"]["seconds"] and result["trl"]["seconds"]:
        result["ratio"] = round(result["trl"]["seconds"] / result["ours"]["seconds"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
