"""rft.losses inside a loop that isn't ours: TRL's GRPOTrainer with its loss swapped for the preset of its name trains the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import rft


def train(model_dir: Path, folder: Path, preset: str | None) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights and ratios' extremes after two updates on one batch; `preset`: our loss in the place of TRL's."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    ratios: list[float] = []

    class WithOurLoss(GRPOTrainer):
        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            ids, attended = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
            logprobs, *_ = self._get_per_token_logps_and_entropies(model, ids, attended, inputs["completion_ids"].size(1))
            out = rft.losses.compute(preset, logprobs, old_logprobs=inputs.get("old_per_token_logps"), advantages=inputs["advantages"],
                                     mask=inputs["completion_mask"])
            ratios.append(out.metrics["ratio_max"])
            return out.loss

    def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [sum(i % 2 for i in ids) / len(ids) for ids in completion_ids]

    args = GRPOConfig(output_dir=str(folder), max_steps=2, num_iterations=2, per_device_train_batch_size=4, num_generations=4,
                      max_completion_length=8, learning_rate=0.02, beta=0.0, report_to=[], save_strategy="no", logging_strategy="no",
                      use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=3, loss_type="grpo")
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    trainer = (WithOurLoss if preset else GRPOTrainer)(
        model=model, reward_funcs=score, args=args, processing_class=AutoTokenizer.from_pretrained(model_dir),
        train_dataset=Dataset.from_list([{"prompt": "1 + 1"}, {"prompt": "2 + 3"}]))
    trainer.train()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}, ratios


def test_trls_trainer_with_our_loss_trains_the_same_weights(llama_dir: Path, tmp_path: Path) -> None:
    theirs, _ = train(llama_dir, tmp_path / "theirs", None)
    ours, ratios = train(llama_dir, tmp_path / "ours", "trl.grpo")
    assert len(ratios) == 2 and max(ratios) > 1.001  # the second update of a batch is off-policy
    for name, want in theirs.items():
        torch.testing.assert_close(ours[name], want, atol=2e-5, rtol=1e-4, msg=name)
