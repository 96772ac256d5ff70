"""Random-weight models for the benchmarks, as Hugging Face folders with a byte-level BPE tokenizer and a chat template.

    python make_models.py OUT_DIR S M E

S  Qwen3 dense, 5.2 M parameters    M  Qwen3 dense, 88 M    E  Qwen3-MoE, 14.7 M (16 experts, top 4)

float32, seeded, tied embeddings. The tokenizer is trained on Python's own standard library. A model that is there already
is left alone. Runs in .venv or .venv-peers.
"""

from __future__ import annotations

import argparse
import os
import sysconfig
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
COMMON: dict[str, Any] = {"max_position_embeddings": 8448, "tie_word_embeddings": True, "head_dim": 64, "bos_token_id": None,
                          "eos_token_id": 2, "pad_token_id": 0, "attention_bias": False}
SPECS: dict[str, tuple[type, Any]] = {
    "S": (Qwen3ForCausalLM, Qwen3Config(vocab_size=2048, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
                                        num_attention_heads=8, num_key_value_heads=4, **COMMON)),
    "M": (Qwen3ForCausalLM, Qwen3Config(vocab_size=16384, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
                                        num_attention_heads=12, num_key_value_heads=4, **COMMON)),
    "E": (Qwen3MoeForCausalLM, Qwen3MoeConfig(vocab_size=2048, hidden_size=256, intermediate_size=1024, moe_intermediate_size=256,
                                              num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4, num_experts=16,
                                              num_experts_per_tok=4, norm_topk_prob=True, decoder_sparse_step=1, **COMMON)),
}


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of exactly `vocab_size` tokens."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    tok.train(files, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False,
                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left")
    fast.chat_template = CHAT
    return fast


def make(name: str, folder: Path) -> None:
    """One model into `folder`."""
    kind, config = SPECS[name]
    torch.manual_seed(1234)
    model = kind(config).to(torch.float32)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    tokenizer(config.vocab_size).save_pretrained(folder)
    model.save_pretrained(folder)


def main() -> None:
    """Makes what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+", choices=sorted(SPECS))
    args = parser.parse_args()
    for name in args.names:
        if not (args.out / name / "config.json").is_file():
            make(name, args.out / name)


if __name__ == "__main__":
    main()
