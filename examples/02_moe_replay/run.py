"""Routing replay: a small mixture of experts, made by SFT from random weights, then fine-tuned with a sampler in bf16 and a
trainer in fp32, once with the sampler's experts replayed and once without.

    python examples/02_moe_replay/run.py            # many minutes on two cores; writes out/moe_replay/{curves.png,curves.json}
    python examples/02_moe_replay/run.py --fast     # seconds: everything runs, nothing is learned to speak of

The task is addition of two numbers as digits, answered in reverse; the reward is the share of right digits. Sampler and trainer
differ in precision, so they disagree a little on every log-probability, and now and then on which experts a token goes to.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import rft

PLUS, EQUALS, END, VOCAB = 10, 11, 12, 16
CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": VOCAB, "hidden_size": 64,
    "intermediate_size": 128, "moe_intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_experts": 16, "num_experts_per_tok": 4, "norm_topk_prob": True, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": END, "initializer_range": 0.06}


def question(rng: random.Random, digits: int) -> tuple[list[int], list[int]]:
    """Prompt "a + b =" and the answer's digits, lowest first, then the end."""
    a, b = (rng.randrange(10**digits) for _ in range(2))
    write = [[int(c) for c in str(n).zfill(digits)] for n in (a, b)]
    return [*write[0], PLUS, *write[1], EQUALS], [int(c) for c in reversed(str(a + b).zfill(digits + 1))] + [END]


def reward(completion: list[int], answer: list[int]) -> float:
    """Share of the positions that are right; what is too long or too short is wrong there."""
    right = sum(x == y for x, y in zip(completion, answer, strict=False))
    return right / max(len(completion), len(answer))


def pretrain(model: Any, steps: int, digits: int, seed: int) -> float:
    """SFT with a load-balancing loss; the last loss in nats per token."""
    rng, trainer, loss = random.Random(seed), rft.Trainer(model, router_load_balance_coef=0.01), 0.0
    for step in range(steps):
        rows = []
        for _ in range(64):
            prompt, answer = question(rng, digits)
            rows.append(rft.Datum(prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer)))
        result = trainer.forward_backward(rows, loss="cross-entropy")
        trainer.optim_step(learning_rate=3e-3 * min(1.0, (step + 1) / 20), eps=1e-8, grad_clip_norm=1.0)
        loss = result.loss_sum / result.num_tokens
    return loss


def finetune(start: Path, replay: bool, steps: int, digits: int, seed: int, learning_rate: float) -> list[dict[str, float]]:
    """GRPO on groups of 8: sampled in bf16, trained in fp32. What each step measured."""
    model = rft.Model.load(str(start), dtype="fp32")
    trainer, rng, curve = rft.Trainer(model), random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(steps):
            model.save(folder, dtype="fp32")  # the same master weights; only the arithmetic differs
            questions = [question(rng, digits) for _ in range(16)]
            with rft.Engine(rft.Model.load(folder, dtype="bf16"), max_batch=128) as engine:
                groups = engine.generate([prompt for prompt, _ in questions], n=8, max_tokens=digits + 4, seed=seed * 100_003 + step,
                                         routes="completion")
            rows, rewards, sampled = [], [], []
            for index, ((prompt, answer), group) in enumerate(zip(questions, groups, strict=True)):
                scores = [reward(list(c.ids), answer) for c in group]
                mean, deviation = statistics.mean(scores), statistics.pstdev(scores)
                rewards += scores
                if deviation == 0.0:
                    continue
                for completion, score in zip(group, scores, strict=True):
                    rows.append(row(prompt, completion, (score - mean) / (deviation + 1e-6), index, replay))
                    sampled.append(completion.logprobs)
            result = trainer.forward_backward(rows, loss="grpo", aggregation="token-mean")
            trainer.optim_step(learning_rate=learning_rate, eps=1e-8, grad_clip_norm=1.0)
            difference = np.concatenate([ours[len(ours) - len(theirs):] - theirs
                                         for ours, theirs in zip(result.logprobs, sampled, strict=True)]).astype(np.float64)
            curve.append({"step": step, "reward": statistics.mean(rewards),
                          "mismatch_kl": float(np.mean(np.exp(difference) - 1.0 - difference)),
                          "mismatch_max": float(np.abs(difference).max()),
                          "changed": result.metrics.get("routing_changed", float("nan"))})
    return curve


def row(prompt: list[int], completion: Any, advantage: float, group: int, replay: bool) -> Any:
    """A training row; with the sampler's experts if they are replayed."""
    ids = prompt + list(completion.ids)
    given = {}
    if replay:
        unknown = np.zeros((len(prompt), completion.routes.shape[1]), np.uint8)
        given = {"routes": np.concatenate([unknown, completion.routes]), "routed": [0] * len(prompt) + [1] * len(completion)}
    return rft.Datum(ids, [0.0] * len(prompt) + [1.0] * len(completion), [0.0] * len(prompt) + [advantage] * len(completion),
                     prefix_id=group, prefix_length=len(prompt), **given)


def draw(curves: dict[str, list[list[dict[str, float]]]], path: Path) -> None:
    """Mismatch and reward side by side, a thin line per seed and a thick one for the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for name, color in (("without replay", "#e8710a"), ("with replay", "#2f6fde")):
        for axis, key in zip(axes, ("mismatch_kl", "reward"), strict=True):
            values = np.array([[point[key] for point in curve] for curve in curves[name]])
            axis.plot(values.T, color=color, linewidth=0.5, alpha=0.4)
            axis.plot(values.mean(0), color=color, linewidth=1.8, label=name)
    axes[0].set_title("KL between sampler (bf16) and trainer (fp32), nats per token", loc="left", fontsize=9)
    axes[0].set_yscale("log")
    axes[1].set_title("reward (share of right digits)", loc="left", fontsize=9)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(color="#e4e7eb")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """SFT once, then both kinds of fine-tuning for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/moe_replay"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sft-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--fast", action="store_true", help="one seed, few steps")
    args = parser.parse_args()
    digits, seeds, sft_steps, steps = (2, 1, 20, 4) if args.fast else (3, args.seeds, args.sft_steps, args.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    model = rft.Model.create(json.dumps(CONFIG), dtype="fp32", seed=1)
    print(f"SFT: {pretrain(model, sft_steps, digits, 0):.3f} nats per token after {sft_steps} steps", flush=True)
    start = args.out / "sft"
    model.save(str(start), dtype="fp32")
    curves: dict[str, list[list[dict[str, float]]]] = {"without replay": [], "with replay": []}
    for seed in range(1, seeds + 1):
        for name, found in curves.items():
            found.append(finetune(start, name == "with replay", steps, digits, seed, args.learning_rate))
            last = found[-1][-min(10, steps):]
            kl = [point["mismatch_kl"] for point in found[-1]]
            print(f"seed {seed}, {name}: reward {found[-1][0]['reward']:.3f} -> {statistics.mean(p['reward'] for p in last):.3f}, "
                  f"mismatch KL {statistics.mean(kl):.2e} mean, {max(kl):.2e} max, "
                  f"largest difference {max(p['mismatch_max'] for p in found[-1]):.3f} nats", flush=True)
    (args.out / "curves.json").write_text(json.dumps(curves))
    draw(curves, args.out / "curves.png")
    print(f"curves: {args.out / 'curves.png'}")


if __name__ == "__main__":
    main()
