"""A tiny model and adapters for it from numpy's random numbers: what tests/oracles/make_lora_golden.py showed to `peft`, and what
test_lora_golden.py shows to rft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

IDS = [5, 17, 3, 40, 22, 9, 31, 4, 12, 60, 7, 3]
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, WIDTH, VOCAB, LAYERS = 32, 4, 2, 8, 48, 64, 2
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# (targets, tied embeddings, PEFT's config)
CASES: dict[str, tuple[tuple[str, ...], bool, dict[str, Any]]] = {
    "layers": (PROJECTIONS, False, {"r": 4, "lora_alpha": 8}),
    "attention-rslora": (("q_proj", "v_proj"), False, {"r": 5, "lora_alpha": 9, "use_rslora": True}),
    "vocabulary": (("embed_tokens", "lm_head", "o_proj"), False, {"r": 3, "lora_alpha": 6}),
    "vocabulary-tied": (("embed_tokens", "lm_head", "o_proj"), True, {"r": 3, "lora_alpha": 6}),
}
STEPS, LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY = 10, 1e-2, (0.9, 0.95), 1e-8, 0.1


def shapes(tied: bool) -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors."""
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        result |= {prefix + "input_layernorm.weight": (HIDDEN,), prefix + "post_attention_layernorm.weight": (HIDDEN,)}
        for name, shape in (("q", (HEADS * HEAD_DIM, HIDDEN)), ("k", (KV_HEADS * HEAD_DIM, HIDDEN)),
                            ("v", (KV_HEADS * HEAD_DIM, HIDDEN)), ("o", (HIDDEN, HEADS * HEAD_DIM))):
            result[f"{prefix}self_attn.{name}_proj.weight"] = shape
        for name, shape in (("gate", (WIDTH, HIDDEN)), ("up", (WIDTH, HIDDEN)), ("down", (HIDDEN, WIDTH))):
            result[f"{prefix}mlp.{name}_proj.weight"] = shape
    return result if tied else result | {"lm_head.weight": (VOCAB, HIDDEN)}


def write_model(folder: Path, tied: bool) -> Path:
    """A Llama in float32."""
    random = np.random.default_rng(1)
    tensors = {name: (1.0 + 0.1 * random.standard_normal(shape) if len(shape) == 1 else 0.2 * random.standard_normal(shape)).astype(np.float32)
               for name, shape in shapes(tied).items()}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": tied, "initializer_range": 0.02, "torch_dtype": "float32", "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0}))
    return folder


def adapter_tensors(targets: tuple[str, ...], tied: bool, rank: int) -> dict[str, np.ndarray]:
    """A and B of every target, by PEFT's names; neither is 0."""
    random = np.random.default_rng(2)
    tensors = {}
    for name, shape in sorted((shapes(tied) | {"lm_head.weight": (VOCAB, HIDDEN)}).items()):
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] not in targets:
            continue
        embedding = module.endswith("embed_tokens")
        out, inputs = reversed(shape) if embedding else shape
        for kind, size in (("A", (rank, inputs)), ("B", (out, rank))):
            key = f"base_model.model.{module}." + (f"lora_embedding_{kind}" if embedding else f"lora_{kind}.weight")
            tensors[key] = (0.1 * random.standard_normal(size)).astype(np.float32)
    return tensors


def write_adapter(folder: Path, case: str) -> Path:
    """An adapter folder as PEFT's save_pretrained writes it, without the copies of the base that it puts beside embeddings."""
    targets, tied, config = CASES[case]
    folder.mkdir(parents=True)
    save_file(adapter_tensors(targets, tied, config["r"]), folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": sorted(targets), "lora_dropout": 0.0, "bias": "none",
        "inference_mode": False, **config}))
    return folder


def probe(values: np.ndarray) -> list[float]:
    """Norm, and projection on a fixed random direction: two numbers that a wrong element changes."""
    direction = np.random.default_rng(3).standard_normal(values.shape)
    return [float(np.linalg.norm(values)), float((values * direction).sum())]
