"""Mixtures of experts against `transformers`: every kind of router, routing capture and replay, both checkpoint layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import by_checkpoint_name, logprobs_of, make_model
from safetensors.torch import load_file, save_file
from test_parity import datum, ids_of

import rft
from rft import _native

EXTENSION = _native.load()
DIMS: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "tie_word_embeddings": False, "num_experts_per_tok": 3, "initializer_range": 0.2}
SIGMOID: dict[str, Any] = {
    "moe_intermediate_size": 32, "n_routed_experts": 12, "n_shared_experts": 2, "first_k_dense_replace": 1, "norm_topk_prob": True,
    "routed_scaling_factor": 2.5, "partial_rotary_factor": 0.5, "use_qk_norm": True}
LATENT: dict[str, Any] = {
    "moe_intermediate_size": 32, "n_routed_experts": 12, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
    "num_key_value_heads": 4, "head_dim": 8, "q_lora_rank": 28, "kv_lora_rank": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8,
    "v_head_dim": 14}
# So many heads that no key's score is 0: of equal scores transformers keeps any, depending on what is padded to the text.
SELECTED: dict[str, Any] = LATENT | {"index_topk": 8, "index_n_heads": 24, "index_head_dim": 16}
YARN: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 32.0,
                        "beta_slow": 1.0, "original_max_position_embeddings": 32}
# One family per kind of router. Architecture, and what its config says beyond DIMS.
ROUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Qwen3Moe", {"moe_intermediate_size": 32, "num_experts": 10, "norm_topk_prob": False, "decoder_sparse_step": 2}),
    "softmax-renormalised": ("Qwen3Moe", {"moe_intermediate_size": 32, "num_experts": 10, "norm_topk_prob": True}),
    "softmax-of-the-chosen": ("Mixtral", {"num_local_experts": 6, "sliding_window": None}),
    "softmax-whole-width-norm": ("Olmoe", {"num_experts": 9, "norm_topk_prob": False, "head_dim": 12}),
    "softmax-gated-shared": ("Qwen2Moe", {"moe_intermediate_size": 32, "num_experts": 10, "shared_expert_intermediate_size": 56,
                                          "norm_topk_prob": True, "qkv_bias": False, "head_dim": 12}),
    "sigmoid-bias-shared": ("Glm4Moe", SIGMOID | {"n_group": 1, "topk_group": 1}),
    "sigmoid-bias-groups-shared": ("Glm4Moe", SIGMOID | {"n_group": 4, "topk_group": 2}),
    "sigmoid-latent": ("DeepseekV3", LATENT | {"rope_parameters": YARN}),
    "sigmoid-latent-keys": ("Glm4MoeLite", LATENT | {"q_lora_rank": None, "rope_interleave": False, "v_head_dim": 20}),
    "sigmoid-selected-keys": ("DeepseekV32", SELECTED | {"rope_parameters": YARN}),
    "sigmoid-selected-keys-shared": ("GlmMoeDsa", SELECTED | {"indexer_types": ["full", "shared", "full"]}),
    "sigmoid-bias": ("MiniMaxM2", {"num_local_experts": 10, "rotary_dim": 12}),
}


def make_reference(name: str, folder: Path, **changes: Any) -> torch.nn.Module:
    """A random model with that router, saved by transformers."""
    family, extra = ROUTERS[name]
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**DIMS | extra | changes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for tensor_name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "correction_bias" in tensor_name:
            tensor.data.uniform_(-0.2, 0.2)
        elif "indexer.k_norm" in tensor_name:
            tensor.data.uniform_(0.5, 1.0)
        elif tensor.dim() > 1:
            tensor.data.normal_(0.0, 0.15)
    model.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module", params=ROUTERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """(transformers' model, its folder)"""
    folder = tmp_path_factory.mktemp(request.param)
    return make_reference(request.param, folder), folder


def test_logits_and_gradients_of_every_router_equal_those_of_transformers(pair: tuple[torch.nn.Module, Path]) -> None:
    reference, folder = pair
    model = rft.Model.load(str(folder), dtype="fp32")
    trainer = EXTENSION.Trainer(model)
    batch = [ids_of(96, n, 0) for n in (37, 5, 64)]
    result = trainer.forward_backward([datum(ids) for ids in batch], loss="cross-entropy")
    for ids, got in zip(batch, result.logprobs, strict=True):
        want = logprobs_of(reference, ids)
        np.testing.assert_allclose(got[1:], want.detach().numpy(), atol=1e-4)
        (-want.sum()).backward()
    # an indexer gets no gradient, and is no parameter here
    wanted = by_checkpoint_name({name: p.grad for name, p in reference.named_parameters() if p.grad is not None})
    compared = 0
    for name in model.parameter_names():
        plain = name.replace("block_sparse_moe", "mlp").replace(".w1.", ".gate_proj.").replace(".w3.", ".up_proj.").replace(".w2.", ".down_proj.")
        want = wanted[plain].numpy()
        assert np.linalg.norm(trainer.gradient(name) - want) <= 1e-3 * np.linalg.norm(want) + 1e-6, name
        compared += 1
    assert compared == len(wanted)


def test_sampler_and_trainer_agree_bit_for_bit_with_every_router(pair: tuple[torch.nn.Module, Path]) -> None:
    for dtype in ("fp32", "bf16"):
        model = rft.Model.load(str(pair[1]), dtype=dtype)
        prompts = [ids_of(96, n, 4) for n in (3, 17, 40)]
        completions = rft.Engine(model, max_batch=4, max_batch_tokens=11).generate(prompts, n=2, max_tokens=12, routes="all")
        trainer = EXTENSION.Trainer(model)
        for prompt, samples in zip(prompts, completions, strict=True):
            for s in samples:
                for replayed in (False, True):
                    got = trainer.forward([replay_datum(prompt, s) if replayed else replay_datum(prompt, s, routes=False)])[0]
                    assert np.abs(got[len(prompt):] - s.logprobs).max() == 0.0


def replay_datum(prompt: list[int], sample: Any, routes: bool = True) -> Any:
    """A training row of a completion with its routes."""
    ids = prompt + list(sample.ids)
    extra = {}
    if routes:
        extra = {"routes": np.concatenate([sample.prompt_routes, sample.routes]), "routed": [0] + [1] * (len(ids) - 1)}
    return rft.Datum(ids, [0.0] * len(prompt) + [1.0] * len(sample.ids), [1.0] * len(ids), **extra)


def test_a_saved_model_loads_in_transformers(pair: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    reference, folder = pair
    rft.Model.load(str(folder), dtype="fp32").save(str(tmp_path), dtype="fp32")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([ids_of(96, 20, 5)])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, reference(ids).logits)
    loaded, saved = (load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert {name: tensor.shape for name, tensor in saved.items()} == {name: tensor.shape for name, tensor in loaded.items()}


def test_stacked_experts_load_and_are_saved_stacked(tmp_path: Path) -> None:
    make_reference("softmax", tmp_path / "split")
    (tmp_path / "stacked").mkdir()
    tensors = load_file(tmp_path / "split" / "model.safetensors")
    for layer in (1,):  # decoder_sparse_step 2
        prefix = f"model.layers.{layer}.mlp.experts"
        parts = {kind: torch.stack([tensors.pop(f"{prefix}.{e}.{kind}.weight") for e in range(10)])
                 for kind in ("gate_proj", "up_proj", "down_proj")}
        tensors[f"{prefix}.gate_up_proj"] = torch.cat([parts["gate_proj"], parts["up_proj"]], dim=1)
        tensors[f"{prefix}.down_proj"] = parts["down_proj"].contiguous()
    save_file(tensors, tmp_path / "stacked" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "stacked" / "config.json").write_text((tmp_path / "split" / "config.json").read_text())
    split, stacked = (rft.Model.load(str(tmp_path / kind), dtype="fp32") for kind in ("split", "stacked"))
    for name in split.parameter_names():
        np.testing.assert_array_equal(split.parameter(name), stacked.parameter(name))
    stacked.save(str(tmp_path / "again"), dtype="fp32")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def chosen_by(reference: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """The experts of each token and sparse layer by transformers' own router, ascending."""
    found: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda _m, _i, out: found.append(out[-1].sort(-1).values))
             for name, module in reference.named_modules() if type(module).__name__.endswith("Router")]
    with torch.no_grad():
        reference(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return torch.stack(found, 1).numpy()


def test_the_engine_records_the_experts_that_transformers_chooses(pair: tuple[torch.nn.Module, Path]) -> None:
    reference, folder = pair
    model = rft.Model.load(str(folder), dtype="fp32")
    prompt = ids_of(96, 21, 7)
    # pages for two sequences: the third is preempted, and its routes are still those of its tokens
    engine = rft.Engine(model, max_batch=3, max_batch_tokens=9, kv_memory_bytes=9 * rft.Engine(model).stats()["page_bytes"])
    samples = engine.generate([prompt], n=4, max_tokens=40, ignore_eos=True, routes="all")[0]
    assert engine.stats()["preemptions"] > 0
    for sample in samples:
        want = chosen_by(reference, prompt + list(sample.ids))
        np.testing.assert_array_equal(model.unpack_routes(sample.routes), want[len(prompt) - 1:-1])
        np.testing.assert_array_equal(model.unpack_routes(sample.prompt_routes[1:]), want[:len(prompt) - 1])
    wire = model.routes_to_wire(samples[0].routes)
    assert len(wire) == len(samples[0]) and all(isinstance(text, str) for text in wire)


def test_replayed_experts_are_used_and_the_router_still_learns(tmp_path: Path) -> None:
    reference = make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    trainer = EXTENSION.Trainer(model)
    ids = ids_of(96, 30, 8)
    shifted = np.sort((chosen_by(reference, ids) + 1) % 10, -1).astype(np.int32)
    routes = np.concatenate([np.zeros((1, model.pack_routes(shifted).shape[1]), np.uint8), model.pack_routes(shifted)[:-1]])
    given = rft.Datum(ids, [0.0] + [1.0] * 29, routes=routes, routed=[0] + [1] * 29)
    result = trainer.forward_backward([given], loss="cross-entropy")

    # transformers with the same experts forced: the weights are those of its current scores
    def force(module: Any, _inputs: Any, out: Any) -> Any:
        logits, _, _ = out
        experts = torch.from_numpy(shifted[:, module.layer]).long()
        scores = torch.softmax(logits.float(), -1).gather(1, experts)
        return logits, scores / scores.sum(-1, keepdim=True), experts

    routers = [m for m in reference.modules() if type(m).__name__.endswith("Router")]
    for layer, router in enumerate(routers):
        router.layer = layer
        router.register_forward_hook(force)
    want = logprobs_of(reference, ids)
    np.testing.assert_allclose(result.logprobs[0][1:], want.detach().numpy(), atol=1e-4)
    (-want.sum()).backward()
    for layer, router in enumerate(routers):
        got, grad = trainer.gradient(f"model.layers.{layer}.mlp.gate.weight"), router.weight.grad.numpy()
        assert np.linalg.norm(got - grad) <= 1e-3 * np.linalg.norm(grad)
    assert 0.5 < result.metrics["routing_changed"] <= 1.0
    assert result.metrics["routing_weight_drift"] > 0.0


def test_a_replay_of_the_routers_own_choice_changes_nothing(tmp_path: Path) -> None:
    make_reference("sigmoid-bias-groups-shared", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    prompt = ids_of(96, 12, 9)
    sample = rft.Engine(model).generate([prompt], max_tokens=20, ignore_eos=True, routes="all")[0][0]
    gradients = []
    for replayed in (True, False):
        trainer = EXTENSION.Trainer(model)
        result = trainer.forward_backward([replay_datum(prompt, sample, replayed)], loss="grpo")
        gradients.append([trainer.gradient(name).copy() for name in model.parameter_names()])
        if replayed:
            assert result.metrics["routing_changed"] == 0.0 and result.metrics["routing_weight_drift"] == 0.0
        trainer.zero_grad()  # the model's, whichever trainer asks
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))


def test_layers_that_are_computed_again_attend_to_the_same_keys(tmp_path: Path) -> None:
    make_reference("sigmoid-selected-keys-shared", tmp_path, first_k_dense_replace=2)  # one that chooses, one that shares
    model = rft.Model.load(str(tmp_path), dtype="bf16")
    prompt, gradients = ids_of(96, 30, 11), []
    rows = [datum(prompt + ids_of(96, n, 12 + n)) for n in (9, 21)]  # in training, too, their prefix is computed once
    for every in (0, 1):
        trainer = EXTENSION.Trainer(model, checkpoint_every=every)
        trainer.forward_backward(rows, loss="cross-entropy")
        gradients.append([trainer.gradient(name).copy() for name in model.parameter_names()])
        trainer.zero_grad()
    different = [name for name, a, b in zip(model.parameter_names(), *gradients, strict=True) if not np.array_equal(a, b)]
    assert not different and np.abs(gradients[0][0]).max() > 0


def test_the_auxiliary_losses_have_the_gradient_of_transformers(tmp_path: Path) -> None:
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    reference = make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    ids = ids_of(96, 50, 10)
    # Cross-entropy's denominator is 1 here (one token of weight 1), so that coefficients are per unit of the mean loss.
    rows = [rft.Datum(ids, [0.0] * 49 + [1.0])]
    trainer = EXTENSION.Trainer(model, router_load_balance_coef=0.5, router_z_coef=0.25)
    result = trainer.forward_backward(rows, loss="cross-entropy")
    out = reference(torch.tensor([ids[:-1]]), output_router_logits=True)
    balance = load_balancing_loss_func(out.router_logits, 10, 3)
    z = torch.stack([torch.logsumexp(logits, -1) ** 2 for logits in out.router_logits]).mean()
    nll = -torch.log_softmax(out.logits[0, -1], -1)[ids[-1]]
    (nll + 0.5 * balance + 0.25 * z).backward()
    assert result.metrics["router_load_balance"] == pytest.approx(balance.item(), rel=1e-5)
    assert result.metrics["router_z"] == pytest.approx(z.item(), rel=1e-5)
    for layer in range(3):
        want = reference.model.layers[layer].mlp.gate.weight.grad.numpy()
        got = trainer.gradient(f"model.layers.{layer}.mlp.gate.weight")
        assert np.linalg.norm(got - want) <= 1e-3 * np.linalg.norm(want)


def test_wrong_routes_are_refused_by_name(tmp_path: Path) -> None:
    make_reference("softmax", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    trainer = EXTENSION.Trainer(model)
    width = model.pack_routes(np.zeros((0, 1, 3), np.int32)).shape[1]
    with pytest.raises(rft.ConfigError, match=r"datums\[0\].routes: has 1 bytes"):
        trainer.forward([rft.Datum([3, 4], [0.0, 1.0], routes=np.zeros((1, 1), np.uint8))])
    with pytest.raises(rft.ConfigError, match=r"datums\[0\].routes: token 1: not 3 distinct experts of 10"):
        trainer.forward([rft.Datum([3, 4], [0.0, 1.0], routes=np.zeros((2, width), np.uint8))])
    with pytest.raises(rft.ConfigError, match="no mixture-of-experts layers"):
        dense = rft.Model.load(str(make_model(tmp_path / "dense", "llama")), dtype="fp32")
        EXTENSION.Trainer(dense).forward([rft.Datum([3, 4], [0.0, 1.0], routes=np.ones((2, 2), np.uint8))])


@pytest.mark.parametrize(("key", "value", "message"), [
    ("num_experts_per_tok", 11, "num_experts_per_tok: is more than the experts"), ("num_experts", None, "num_experts: missing")])
def test_an_impossible_router_is_refused(key: str, value: Any, message: str) -> None:
    config = {**DIMS, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 10,
              "moe_intermediate_size": 32, key: value}
    with pytest.raises(rft.ConfigError, match=message):
        rft.Model.create(json.dumps(config))


@pytest.mark.parametrize(("changes", "message"), [
    ({"index_topk": None}, "index_topk: missing"),
    ({"index_head_dim": 6}, "index_head_dim: must be even, and qk_rope_head_dim or more"),
    ({"q_lora_rank": None}, "q_lora_rank: missing: the indexer's queries"),
    ({"indexer_types": ["full", "shared"]}, "indexer_types: must name a type for each layer"),
    ({"indexer_types": ["full", "full", "some"]}, "indexer_types: supported are full and shared"),
    ({"index_topk_pattern": "SFF"}, "index_topk_pattern: the first layer must be full")])
def test_an_impossible_indexer_is_refused(changes: dict[str, Any], message: str) -> None:
    config = {**DIMS, **SELECTED, "architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", **changes}
    with pytest.raises(rft.ConfigError, match=message):
        rft.Model.create(json.dumps(config))
