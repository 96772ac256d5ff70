"""Training steps of plain PyTorch + transformers, for "run plain N" or "run group N" on stdin (see rft/bench/peer.py): N of them,
after an untimed one if N is more than 1; the median is reported.

    python train_step.py MODEL_DIR --dtype fp32|bf16        (bf16: autocast, float32 weights)

plain  8 rows of 256 tokens, all real: forward, clipped policy loss on the last 192 of each, backward, AdamW
group  8 prompts of 256 tokens x 8 completions of --lengths tokens in micro-batches of 8 rows padded to the longest, logits of
       the completions only, gradients accumulated over the micro-batches, one AdamW step. The peer's best case: no second
       forward for the old log-probabilities
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM

ROWS, LENGTH, PROMPT = 8, 256, 64
GROUPS, GROUP_PROMPT = 8, 256


class Step:
    """The model, its optimizer and the two kinds of batch."""

    def __init__(self, folder: str, dtype: str, lengths: list[int], rows: int = ROWS) -> None:
        torch.manual_seed(0)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
        self._model.config.use_cache = False
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-6, fused=True)
        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")
        vocab = self._model.config.vocab_size
        self._plain = [(torch.randint(3, vocab, (rows, LENGTH)), torch.ones(rows, LENGTH, dtype=torch.long), PROMPT)]
        self._group = []
        for first in range(0, len(lengths), ROWS):
            some = lengths[first:first + ROWS]
            prompt = torch.randint(3, vocab, (1, GROUP_PROMPT)).expand(len(some), -1)
            mask = torch.tensor([[1] * (GROUP_PROMPT + n) + [0] * (max(some) - n) for n in some])
            ids = torch.cat([prompt, torch.randint(3, vocab, (len(some), max(some)))], 1) * mask
            self._group.append((ids, mask, GROUP_PROMPT))

    def run(self, kind: str) -> int:
        """One optimizer step; the number of real tokens."""
        batches = self._plain if kind == "plain" else self._group
        wanted = sum(int(mask[:, prompt:].sum()) for _, mask, prompt in batches)
        for ids, mask, prompt in batches:
            with self._autocast:
                self._loss(ids, mask, prompt, wanted).backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return sum(int(mask.sum()) for _, mask, _ in batches)

    def _loss(self, ids: torch.Tensor, mask: torch.Tensor, prompt: int, wanted: int) -> torch.Tensor:
        keep = ids.shape[1] - prompt + 1
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits[:, :-1].float()
        targets = ids[:, prompt:]
        logprobs = torch.log_softmax(logits, -1).gather(-1, targets[..., None]).squeeze(-1)
        advantages = torch.where(torch.arange(ids.shape[0]) % 2 == 0, 1.0, -1.0)[:, None]
        ratio = torch.exp(logprobs - logprobs.detach())
        surrogate = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        return -(surrogate * mask[:, prompt:]).sum() / wanted


def main() -> None:
    """Loads, warms up, then answers until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--lengths", default="", help="completion lengths of `group`, comma separated, 8 per prompt")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of `plain`")
    args = parser.parse_args()
    step = Step(args.model, args.dtype, [int(n) for n in args.lengths.split(",") if n], args.rows)
    print(json.dumps({"ready": True, "threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        word, kind, count = line.split()
        if word == "run":
            if int(count) > 1:
                step.run(kind)
            times = []
            for _ in range(int(count)):
                start = time.perf_counter()
                tokens = step.run(kind)
                times.append(time.perf_counter() - start)
            seconds, peak = statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
