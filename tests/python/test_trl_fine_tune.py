"""Ten optimizer steps of TRL's SFTTrainer and DPOTrainer (with torch's AdamW) and of ours on the same rows end at the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import rft

STEPS, LEARNING_RATE, BETAS, EPS, DECAY, CLIP = 10, 0.01, (0.9, 0.95), 1e-3, 0.1, 0.5
# Every step sees all rows: TRL's order doesn't matter then.
ARGUMENTS: dict[str, Any] = {
    "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant",
    "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "adam_epsilon": EPS, "weight_decay": DECAY, "max_grad_norm": CLIP, "report_to": [],
    "save_strategy": "no", "logging_strategy": "no", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}


def rows() -> list[tuple[list[int], list[int], list[int]]]:
    """Prompts with two answers each."""
    rng = np.random.default_rng(3)
    return [tuple(rng.integers(3, 60, n).tolist() for n in (5, 4 + i, 7 - i)) for i in range(4)]  # type: ignore[misc]


def trained(trainer: Any) -> dict[str, torch.Tensor]:
    trainer.train()
    return dict(trainer.model.state_dict())


def step(trainer: rft.Trainer) -> None:
    """TRL takes its defaults from transformers, which don't decay norms: decay_vectors=False."""
    trainer.optim_step(learning_rate=LEARNING_RATE, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, weight_decay=DECAY, grad_clip_norm=CLIP)


def check(model: rft.Model, theirs: dict[str, torch.Tensor], start: rft.Model) -> None:
    for name in model.parameter_names():
        moved = np.abs(theirs[name].numpy() - start.parameter(name)).max()
        assert moved > 1e-3, name
        np.testing.assert_allclose(model.parameter(name), theirs[name].numpy(), atol=1e-3 * moved, rtol=0, err_msg=name)


def test_ten_steps_of_sft_are_those_of_trl(llama_dir: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list([{"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + answer} for prompt, answer, _ in rows()])
    theirs = trained(SFTTrainer(model=AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32), train_dataset=data,
                                args=SFTConfig(output_dir=str(tmp_path), **ARGUMENTS), processing_class=AutoTokenizer.from_pretrained(llama_dir)))
    model = rft.Model.load(str(llama_dir), dtype="fp32")
    trainer = rft.Trainer(model, decay_vectors=False)
    datums = [rft.Datum([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer)) for prompt, answer, _ in rows()]
    for _ in range(STEPS):
        trainer.forward_backward(datums, loss="cross-entropy")
        step(trainer)
    check(model, theirs, rft.Model.load(str(llama_dir), dtype="fp32"))


def test_ten_steps_of_dpo_are_those_of_trl(llama_dir: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class OfIds(DPOTrainer):
        """Rows that are ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    data = Dataset.from_list([{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected} for prompt, chosen, rejected in rows()])
    theirs = trained(OfIds(model=AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32), train_dataset=data,
                           ref_model=AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32),
                           args=DPOConfig(output_dir=str(tmp_path), beta=0.3, **ARGUMENTS), processing_class=AutoTokenizer.from_pretrained(llama_dir)))
    model = rft.Model.load(str(llama_dir), dtype="fp32")
    trainer, reference = rft.Trainer(model, decay_vectors=False), rft.Trainer(model, frozen=True)
    datums = [rft.Datum([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer), prefix_id=i, prefix_length=len(prompt))
              for i, (prompt, *answers) in enumerate(rows()) for answer in answers]
    for datum, known in zip(datums, reference.forward(datums), strict=True):
        datum.ref_logprobs = known
    for _ in range(STEPS):
        trainer.forward_backward_preference(datums, "dpo", beta=0.3)
        step(trainer)
    check(model, theirs, rft.Model.load(str(llama_dir), dtype="fp32"))
