"""TRL's GRPOTrainer, one optimizer step per "run" on stdin (see rft/bench/peer.py). Runs in .venv-peers.

    python trl_grpo.py MODEL_DIR TRAIN.jsonl --dtype fp32|bf16 --prompts 8 --group 8 --max-tokens 32 --steps 4

Dataset rows are OpenAI chat messages with a column `answer`. beta = 0, one update per rollout, AdamW, temperature 1,
micro-batches of 8 (TRL's default), no gradient checkpointing (its default costs time and this model needs no memory).
A step is timed from before its sampling to after its optimizer update; between steps a callback waits for the next word.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

ANSWER = re.compile(r"<answer>\s*(-?\d+)\s*</answer>")
lengths: list[float] = []


def text_of(completion: Any) -> str:
    """Chat completions arrive as a list of messages."""
    return completion if isinstance(completion, str) else completion[0]["content"]


def form(completions: list[Any], **columns: Any) -> list[float]:
    """First reward: is there an <answer>?"""
    lengths.append(sum(map(len, columns["completion_ids"])) / len(completions))
    return [0.2 * bool(ANSWER.search(text_of(item))) for item in completions]


def correct(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """Second reward: is the last one right?"""
    found = [ANSWER.findall(text_of(item)) for item in completions]
    return [0.8 * bool(numbers and int(numbers[-1]) == int(wanted)) for numbers, wanted in zip(found, answer, strict=True)]


class OneStepPerWord(TrainerCallback):
    """Waits for "run" before a step, answers after it. Closing stdin ends the training."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._ready = False
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Blocks until it is our turn."""
        if not self._ready:
            self._ready = True
            self._say({"ready": True, "threads": torch.get_num_threads(), "torch": torch.__version__})
        if sys.stdin.readline().strip() != "run":
            sys.exit(0)
        lengths.clear()
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says how long it took."""
        self._say({"seconds": time.perf_counter() - self._start, "length": sum(lengths) / max(1, len(lengths))})

    def _say(self, content: dict[str, Any]) -> None:
        print(json.dumps(content), file=self._answers, flush=True)


def main() -> None:
    """Builds the trainer and lets the callback hold it between steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-7)
    args = parser.parse_args()
    with open(args.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    total, micro = args.prompts * args.group, 8
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        config = GRPOConfig(
            output_dir=scratch, use_cpu=True, bf16=args.dtype == "bf16", loss_type="grpo", beta=0.0, num_iterations=1,
            per_device_train_batch_size=micro, gradient_accumulation_steps=total // micro, steps_per_generation=total // micro,
            num_generations=args.group, max_completion_length=args.max_tokens, temperature=1.0, top_k=0, top_p=1.0,
            learning_rate=args.lr, lr_scheduler_type="constant", gradient_checkpointing=False, report_to=[], logging_steps=1000,
            save_strategy="no", max_steps=args.steps, disable_tqdm=True, dataloader_num_workers=0, seed=0)
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa"),
            reward_funcs=[form, correct], args=config, processing_class=AutoTokenizer.from_pretrained(args.model),
            train_dataset=Dataset.from_list([{"prompt": row["messages"], "answer": row["answer"]} for row in rows]))
        trainer.add_callback(OneStepPerWord(sys.__stdout__))
        trainer.train()


if __name__ == "__main__":
    main()
