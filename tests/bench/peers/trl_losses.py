"""TRL's own GRPO losses on given log-probabilities (see rft/bench/peer.py and check_trl.py). Runs in .venv-peers.

One "run JSON" per line on stdin: {"options": fields of GRPOConfig, "correction": mode or null, and [B, T] lists logprobs, old, sampling,
ref, entropy, mask, valid; advantages: one per row}. The answer: {"loss": x, "gradient": [B, T]}.
GRPOTrainer._compute_loss runs as it is; the model's forward is replaced by the given values, and the trainer around it by what
that method reads of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
import trl
from trl import GRPOConfig, GRPOTrainer

CORRECTION_CAP = 3.0  # GRPOConfig's default


def trainer(config: GRPOConfig, forward: tuple[Any, Any, None], corrected: bool) -> Any:
    """What _compute_loss reads of a trainer, set from the configuration as GRPOTrainer does."""
    one_process = SimpleNamespace(num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, reduction="sum": x,
                                  sync_gradients=True, pad_across_processes=lambda x, dim=0, pad_index=0: x)
    held = SimpleNamespace(
        args=config, accelerator=one_process, model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False, _entropy_bonus_enabled=False, current_gradient_accumulation_steps=1,
        beta=config.beta, loss_type=config.loss_type, importance_sampling_level=config.importance_sampling_level,
        epsilon_low=config.epsilon, epsilon_high=config.epsilon if config.epsilon_high is None else config.epsilon_high,
        top_entropy_quantile=config.top_entropy_quantile, off_policy_mask_threshold=config.off_policy_mask_threshold,
        max_completion_length=config.max_completion_length, use_vllm=corrected, vllm_importance_sampling_correction=corrected,
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: forward,
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask, get_gamma_weights=GRPOTrainer.get_gamma_weights)
    held.get_high_entropy_mask = lambda *args: GRPOTrainer.get_high_entropy_mask(held, *args)
    return held


def weights(mode: str, old: Any, sampling: Any, mask: Any) -> Any:
    """The importance weights of TRL's rollout step, which _compute_loss is given."""
    difference = (old - sampling) * mask
    if mode.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    return ratio.clamp(max=CORRECTION_CAP) if mode.endswith("truncate") else ratio.masked_fill(ratio > CORRECTION_CAP, 0.0)


def answer(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """TRL's loss and its gradient."""
    def tensor(key: str) -> Any:
        return torch.tensor(request[key], dtype=torch.float64)

    logprobs, mask, valid = tensor("logprobs").requires_grad_(True), tensor("mask"), tensor("valid")
    config = GRPOConfig(output_dir=folder, bf16=False, use_cpu=True, report_to=[], steps_per_generation=1, **request["options"])
    mode = request["correction"]
    inputs = {"prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long), "prompt_mask": torch.ones(len(mask), 1),
              "completion_ids": torch.zeros(mask.shape, dtype=torch.long), "completion_mask": valid, "tool_mask": mask + (1 - valid),
              "advantages": tensor("advantages"), "old_per_token_logps": tensor("old"), "ref_per_token_logps": tensor("ref"),
              "sampling_per_token_logps": tensor("sampling"), "num_items_in_batch": mask.sum()}
    if mode:
        inputs["importance_sampling_ratio"] = weights(mode, inputs["old_per_token_logps"], inputs["sampling_per_token_logps"], mask)
    compute = getattr(GRPOTrainer._compute_loss, "__wrapped__", GRPOTrainer._compute_loss)
    loss = compute(trainer(config, (logprobs, tensor("entropy"), None), bool(mode)), None, inputs)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {"loss": float(loss.detach()), "gradient": gradient.tolist()}


def main() -> None:
    """Answers until stdin ends."""
    print(json.dumps({"ready": True, "trl": trl.__version__}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line.removeprefix("run ")), folder)), flush=True)


if __name__ == "__main__":
    main()
