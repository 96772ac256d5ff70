"""Checkpoints that store their linear layers as fp8 blocks or int4 groups, against torch's own arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model
from safetensors.torch import load_file, save_file

import rft

FP8: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [16, 24]}
INT4: dict[str, Any] = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights": {
    "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 8}}}}


def fp8(name: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What is stored, and what it stands for: blocks at the edges are partial."""
    rows, columns = weight.shape
    scale = torch.rand(-(-rows // 16), -(-columns // 24)) + 0.01
    wide = scale.repeat_interleave(16, 0)[:rows].repeat_interleave(24, 1)[:, :columns]
    stored = (weight / wide).to(torch.float8_e4m3fn)
    return {name: stored, f"{name}_scale_inv": scale}, stored.float() * wide


def int4(name: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    rows, columns = weight.shape
    scale = (torch.rand(rows, columns // 8) + 0.01).bfloat16()
    levels = torch.randint(-8, 8, weight.shape)
    words = ((levels + 8).reshape(rows, -1, 8) << (4 * torch.arange(8))).sum(-1)
    packed = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
    return ({f"{name}_packed": packed, f"{name}_scale": scale, f"{name}_shape": torch.tensor([rows, columns])},
            levels * scale.float().repeat_interleave(8, 1))


KINDS: dict[str, tuple[Any, dict[str, Any], str]] = {"fp8": (fp8, FP8, "_scale_inv"), "int4": (int4, INT4, "_scale")}


def quantise(kind: str, plain: Path, folder: Path, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """A copy of the folder with its linear layers quantised; the values that they stand for."""
    make, settings, _ = KINDS[kind]
    torch.manual_seed(5)
    stored, values = {}, {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            parts, values[name] = make(name, tensor)
            stored |= parts
        else:
            stored[name] = values[name] = tensor
    folder.mkdir()
    save_file(stored | changes, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text()) | {"quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_its_stored_value_times_its_scale(kind: str, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain", "qwen3_moe")
    values = quantise(kind, plain, tmp_path / "stored")
    model = rft.Model.load(str(tmp_path / "stored"), dtype="fp32")
    assert set(model.parameter_names()) == set(values)
    for name in model.parameter_names():
        np.testing.assert_array_equal(model.parameter(name), values[name].numpy(), err_msg=name)
    model.save(str(tmp_path / "saved"), dtype="fp32")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == values.keys() and all(torch.equal(saved[name], values[name]) for name in values)


@pytest.mark.parametrize("kind", KINDS)
def test_scales_of_a_wrong_shape_or_without_a_number_are_refused(kind: str, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain", "llama")
    name = f"model.layers.0.mlp.up_proj.weight{KINDS[kind][2]}"
    good = quantise(kind, plain, tmp_path / "good")
    assert good
    scale = load_file(tmp_path / "good" / "model.safetensors")[name]
    quantise(kind, plain, tmp_path / "shape", **{name: scale[:, :1].clone()})
    with pytest.raises(rft.ConfigError, match=rf"up_proj.weight{KINDS[kind][2]}: the file has shape"):
        rft.Model.load(str(tmp_path / "shape"), dtype="fp32")
    quantise(kind, plain, tmp_path / "nan", **{name: torch.full_like(scale, float("nan"))})
    with pytest.raises(rft.ConfigError, match="up_proj.weight: contains NaN or Inf"):
        rft.Model.load(str(tmp_path / "nan"), dtype="fp32")
