"""Language models that are a part of a checkpoint: the text path of models that see, whose other weights are kept as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import logprobs_of
from safetensors.torch import load_file, save_file
from test_moe import make_reference
from test_parity import datum, ids_of

import rft
from rft import _native

EXTENSION = _native.load()
VOCAB = 96


def make_qwen3_vl(folder: Path) -> torch.nn.Module:
    """A tiny Qwen3-VL, saved by transformers."""
    torch.manual_seed(3)
    text = {"vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_interleaved": True, "mrope_section": [4, 2, 2]}}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4, "out_hidden_size": 48,
              "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    model = transformers.Qwen3VLForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    return model


def make_kimi(folder: Path) -> torch.nn.Module:
    """A tiny DeepSeek-V3 under the names and the config of Kimi-K2.5, beside weights that are not the language model's."""
    reference = make_reference("sigmoid-latent", folder / "plain")
    text = json.loads((folder / "plain" / "config.json").read_text()) | {"model_type": "kimi_k2"}
    config = {"architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25", "tie_word_embeddings": False,
              "text_config": text, "vision_config": {"vt_hidden_size": 32}}
    tensors = {f"language_model.{name}": tensor for name, tensor in load_file(folder / "plain" / "model.safetensors").items()}
    tensors |= {"vision_tower.patch_embed.proj.weight": torch.randn(3, 4), "mm_projector.pre_norm.bias": torch.randn(5).bfloat16()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return reference


MAKERS = {"qwen3_vl": make_qwen3_vl, "kimi_k25": make_kimi}


@pytest.fixture(scope="module", params=MAKERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """(transformers' model, the folder)"""
    folder = tmp_path_factory.mktemp(request.param)
    return MAKERS[request.param](folder), folder


def test_text_has_the_logprobs_and_the_continuation_of_transformers(pair: tuple[torch.nn.Module, Path]) -> None:
    reference, folder = pair
    model = rft.Model.load(str(folder), dtype="fp32")
    batch = [ids_of(VOCAB, n, 1) for n in (40, 7)]
    for ids, got in zip(batch, EXTENSION.Trainer(model).forward([datum(ids) for ids in batch]), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(got[1:], logprobs_of(reference, ids).numpy(), atol=1e-4)
        want = list(ids)
        for _ in range(8):
            with torch.no_grad():
                want.append(int(reference(torch.tensor([want])).logits[0, -1].argmax()))
        made = rft.Engine(model).generate([ids], temperature=0.0, max_tokens=8, ignore_eos=True)[0][0]
        assert made.ids.tolist() == want[len(ids):]


def test_a_saved_model_keeps_every_tensor_and_every_setting(pair: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    _, folder = pair
    model = rft.Model.load(str(folder), dtype="fp32")
    model.save(str(tmp_path / "same"), dtype="fp32")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "same"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    config, saved = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "same"))
    assert config["vision_config"] == saved["vision_config"] and saved["text_config"]["dtype"] == "float32"

    trainer = EXTENSION.Trainer(model)
    trainer.forward_backward([datum(ids_of(VOCAB, 30, 2))], loss="cross-entropy")
    trainer.optim_step(learning_rate=0.01)
    model.save(str(tmp_path / "trained"), dtype="fp32")
    changed = load_file(tmp_path / "trained" / "model.safetensors")
    assert changed.keys() == before.keys()
    ours = set(model.parameter_names())
    assert all(torch.equal(changed[name], before[name]) for name in before if name not in ours)
    assert any(not torch.equal(changed[name], before[name]) for name in ours)
    with pytest.raises(rft.ConfigError, match="save the model elsewhere"):
        model.save(str(folder), dtype="fp32")


def test_adapters_carry_the_names_of_the_checkpoint(pair: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    _, folder = pair
    model = rft.Model.load(str(folder), dtype="fp32")
    adapter = rft.Adapter(model, rank=2, alpha=4, seed=1, targets=["attention", "lm_head"])
    names = set(load_file(folder / "model.safetensors")) | {"lm_head.weight"}
    for name in adapter.parameter_names():
        plain = name.removeprefix("base_model.model.").replace(".lora_A", "").replace(".lora_B", "")
        assert plain in names, name
    trainer = EXTENSION.Trainer(model, adapter)
    trainer.forward_backward([datum(ids_of(VOCAB, 30, 2))], loss="cross-entropy")
    trainer.optim_step(learning_rate=0.01)
    adapter.save_merged(str(tmp_path / "merged"), dtype="fp32")
    row = [datum(ids_of(VOCAB, 20, 3))]
    merged = EXTENSION.Trainer(rft.Model.load(str(tmp_path / "merged"), dtype="fp32")).forward(row)[0]
    np.testing.assert_allclose(merged, trainer.forward(row)[0], atol=1e-4)
