"""A small model from scratch: Llama-type, about a million parameters, with a tokenizer made from given texts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
MAX_CONTEXT = 512


def save_tokenizer(folder: Path, texts: Sequence[str], vocab_size: int = 384) -> int:
    """A byte-level BPE in `folder` with every digit a token of its own and a ChatML template; returns its size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False,
        special_tokens=[AddedToken(text, normalized=False, special=True) for text in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": SPECIAL[2], "pad_token": SPECIAL[0],
        "unk_token": None, "model_max_length": MAX_CONTEXT, "clean_up_tokenization_spaces": False})
    return int(backend.get_vocab_size())


def config(vocab_size: int, *, hidden: int = 128, layers: int = 4, heads: int = 4, kv_heads: int = 2) -> dict[str, Any]:
    """config.json of a Llama of this size; the vocabulary is rounded up to a multiple of 64."""
    if hidden % heads or heads % kv_heads:
        raise ValueError(f"hidden ({hidden}) must be a multiple of heads ({heads}), and heads of kv_heads ({kv_heads})")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": -(-vocab_size // 64) * 64, "hidden_size": hidden, "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads, "max_position_embeddings": MAX_CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "initializer_range": 0.02,
        "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def init(folder: str | Path, texts: Sequence[str], *, seed: int = 0, vocab_size: int = 384, **dims: int) -> int:
    """Makes `folder` a Hugging Face model with random weights; returns the number of parameters."""
    from rft import _native

    with tempfile.TemporaryDirectory(prefix="rft-tokenizer-") as scratch:
        settings = config(save_tokenizer(Path(scratch), texts, vocab_size), **dims)
        _write(Path(scratch) / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
        model = _native.load().Model.create(json.dumps(settings), dtype="fp32", seed=seed)
        model.tokenizer_dir = scratch
        model.save(str(folder), dtype="fp32")
    return int(model.num_parameters)


def texts_of(path: str | Path) -> list[str]:
    """What the messages of a JSONL dataset say, one string per message, with the template's own words."""
    texts = []
    for line in filter(str.strip, Path(path).read_text(encoding="utf-8").split("\n")):
        for message in json.loads(line)["messages"]:
            texts += [message["content"], f"{message['role']}\n"]
    return texts


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
