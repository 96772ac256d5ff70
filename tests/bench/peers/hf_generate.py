"""transformers' generate(), one measurement per "run BATCH" on stdin (see rft/bench/peer.py). Runs in .venv-peers.

    python hf_generate.py MODEL_DIR --dtype fp32|bf16 --max-batch 64 --prompt-len 32 --new-tokens 128

Temperature 1 over the whole vocabulary, no end token: exactly batch x new-tokens tokens per call.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time

import torch
from transformers import AutoModelForCausalLM, GenerationConfig


def main() -> None:
    """Loads the model, warms up, then answers until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=128)
    args = parser.parse_args()
    torch.manual_seed(0)
    dtype = torch.float32 if args.dtype == "fp32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    rng = random.Random(0)
    ids = torch.tensor([[rng.randrange(3, model.config.vocab_size) for _ in range(args.prompt_len)] for _ in range(args.max_batch)])

    def run(batch: int, new_tokens: int) -> int:
        config = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new_tokens,
                                  pad_token_id=0, eos_token_id=None, use_cache=True)
        with torch.inference_mode():
            out = model.generate(ids[:batch], attention_mask=torch.ones_like(ids[:batch]), generation_config=config)
        return out.shape[0] * (out.shape[1] - ids.shape[1])

    run(args.max_batch, 4)
    print(json.dumps({"ready": True, "threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        word, batch = line.split()
        if word != "run":
            continue
        start = time.perf_counter()
        tokens = run(int(batch), args.new_tokens)
        seconds = time.perf_counter() - start
        print(json.dumps({"tokens_per_s": tokens / seconds, "tokens": tokens, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
