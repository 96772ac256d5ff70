"""TRL's GRPOTrainer, one optimizer step per "run" on stdin (see rft/bench/peer.py). Runs in .venv-peers.

    python trl_grpo.py MODEL_DIR TRAIN.jsonl --dtype fp32|bf16 --prompts 8 --group 8 --max-tokens 32 --steps 4

Dataset rows are OpenAI chat messages with a column `answer`, or {"prompt": text}: then the reward is the part of digits. With
--lengths, completion i of a step (8 per prompt, in order) has exactly that many tokens: its end token is forbidden before and
forced then; equal lengths are TRL's own min_new_tokens. beta = 0, one update per rollout, AdamW, temperature 1,
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
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList, TrainerCallback
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


def digits(completions: list[Any], **columns: Any) -> list[float]:
    """The reward of plain prompts."""
    lengths.append(sum(map(len, columns["completion_ids"])) / len(completions))
    return [sum(ch.isdigit() for ch in text) / (1 + len(text)) for text in map(text_of, completions)]


class EndAt(LogitsProcessor):
    """Ends row i of a batch at its own length."""

    def __init__(self, wanted: list[int], end_id: int) -> None:
        self._wanted, self._end_id, self._prompt = torch.tensor(wanted), end_id, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of the next token of every row."""
        if self._prompt == 0:
            self._prompt = input_ids.shape[1]
        last = self._wanted == input_ids.shape[1] - self._prompt + 1
        end = scores[:, self._end_id].clone()
        scores[:, self._end_id] = -torch.inf
        scores[last] = -torch.inf
        scores[last, self._end_id] = end[last]
        return scores


def end_at(model: Any, wanted: list[int], end_id: int) -> None:
    """Every generate() of the model ends its rows at these lengths."""
    plain = model.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, logits_processor=LogitsProcessorList([EndAt(wanted, end_id)]), **kwargs)

    model.generate = generate


class OneStepPerWord(TrainerCallback):
    """Waits for "run" before a step, answers after it; "run save DIR" saves the model. Closing stdin ends the training."""

    def __init__(self, answers: Any, tokenizer: Any) -> None:
        self._answers, self._tokenizer = answers, tokenizer
        self._ready = False
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Blocks until it is our turn."""
        if not self._ready:
            self._ready = True
            self._say({"ready": True, "threads": torch.get_num_threads(), "torch": torch.__version__})
        while (words := sys.stdin.readline().split())[:2] == ["run", "save"]:
            kwargs["model"].save_pretrained(words[2])
            self._tokenizer.save_pretrained(words[2])
            self._say({"saved": words[2]})
        if words != ["run"]:
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
    parser.add_argument("--warmup", type=int, default=0, help="steps of linear warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lengths", default="", help="tokens of each completion, comma separated")
    args = parser.parse_args()
    with open(args.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    total, micro = args.prompts * args.group, 8
    wanted = [int(n) for n in args.lengths.split(",") if n]
    chat = "messages" in rows[0]
    data = [{"prompt": row["messages"], "answer": row["answer"]} if chat else {"prompt": row["prompt"]} for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
    if len(set(wanted)) > 1:
        end_at(model, wanted, tokenizer.eos_token_id)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        config = GRPOConfig(
            output_dir=scratch, use_cpu=True, bf16=args.dtype == "bf16", loss_type="grpo", beta=0.0, num_iterations=1,
            per_device_train_batch_size=micro, gradient_accumulation_steps=total // micro, steps_per_generation=total // micro,
            num_generations=args.group, max_completion_length=args.max_tokens, temperature=1.0, top_k=0, top_p=1.0,
            learning_rate=args.lr, lr_scheduler_type="constant_with_warmup", warmup_steps=args.warmup, adam_beta1=0.9, adam_beta2=0.95,
            adam_epsilon=1e-8, weight_decay=0.0, max_grad_norm=1.0, gradient_checkpointing=False, report_to=[], logging_steps=1000,
            save_strategy="no", max_steps=args.steps, disable_tqdm=True, dataloader_num_workers=0, seed=args.seed,
            generation_kwargs={"min_new_tokens": wanted[0]} if len(set(wanted)) == 1 else None)
        trainer = GRPOTrainer(
            model=model, reward_funcs=[form, correct] if chat else [digits], args=config, processing_class=tokenizer,
            train_dataset=Dataset.from_list(data))
        trainer.add_callback(OneStepPerWord(sys.__stdout__, tokenizer))
        trainer.train()


if __name__ == "__main__":
    main()
