"""Fixtures: tiny random Hugging Face models with a tokenizer, made at test time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402

if TYPE_CHECKING:
    import torch

FAMILIES = ("llama", "qwen3", "qwen3_moe")


def make_model(folder: Path, family: str) -> Path:
    """A random model of `family`, two layers wide enough to have GQA, behind a byte-level BPE made from a few texts."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    from rft.tasks import arithmetic
    from rft.tiny import save_tokenizer

    train, _ = arithmetic.split(0, 200, 2)
    texts = [text for question in train for text in (question.text, arithmetic.tagged(question.answer), "user\n", "assistant\n")]
    size = -(-save_tokenizer(folder, texts) // 64) * 64
    dims = {"vocab_size": size, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": 0, "tie_word_embeddings": family == "qwen3"}
    experts = {"num_hidden_layers": 3, "moe_intermediate_size": 40, "num_experts": 10, "num_experts_per_tok": 3,
               "norm_topk_prob": True, "mlp_only_layers": [1]}
    torch.manual_seed(0)
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**dims))
    elif family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**dims))
    else:
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**dims | experts))
    model.save_pretrained(folder)
    return folder


def by_checkpoint_name(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' own parameter names to those of hub checkpoints: its stacked experts are one tensor per expert there."""
    named = {}
    for name, tensor in tensors.items():
        prefix, found, kind = name.partition(".experts.")
        if not found or kind not in ("gate_up_proj", "down_proj"):
            named[name] = tensor
            continue
        for i, expert in enumerate(tensor):
            parts = zip(("gate_proj", "up_proj"), expert.chunk(2), strict=True) if kind == "gate_up_proj" else [("down_proj", expert)]
            named |= {f"{prefix}.experts.{i}.{part}.weight": value for part, value in parts}
    return named


def logprobs_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Log-probabilities in nats of every token after the first under a model of transformers, with gradient."""
    import torch

    scores = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return scores[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@pytest.fixture(scope="session", params=FAMILIES)
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model folder, once per family."""
    return make_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama where the family does not matter."""
    return make_model(tmp_path_factory.mktemp("llama"), "llama")
