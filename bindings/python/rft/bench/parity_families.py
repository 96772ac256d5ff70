"""The models of `rft check parity`: one tiny config of every architecture that can be loaded, by model_type."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

# head_dim 24 is no multiple of the kernels' 16 lanes; logits differ by a few nats
TINY: Config = {
    "hidden_size": 64, "intermediate_size": 104, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 24, "vocab_size": 320, "max_position_embeddings": 512, "rope_theta": 10000.0, "hidden_act": "silu",
    "initializer_range": 0.15, "tie_word_embeddings": False}
SOFTMAX: Config = {"moe_intermediate_size": 40, "num_experts": 10, "num_experts_per_tok": 3, "norm_topk_prob": True}
SIGMOID: Config = {
    "num_hidden_layers": 3, "first_k_dense_replace": 1, "moe_intermediate_size": 40, "n_routed_experts": 12, "n_shared_experts": 1,
    "num_experts_per_tok": 3, "norm_topk_prob": True, "routed_scaling_factor": 2.5}
LATENT: Config = SIGMOID | {
    "num_key_value_heads": 4, "q_lora_rank": 28, "kv_lora_rank": 20, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12}
GROUPS: Config = {"n_group": 4, "topk_group": 2}
SELECTED: Config = LATENT | {"index_topk": 21, "index_n_heads": 8, "index_head_dim": 16}
YARN: Config = {"rope_scaling": {"type": "yarn", "factor": 8, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 32, "beta_slow": 1,
                                 "original_max_position_embeddings": 64}}


def family(architecture: str, model_type: str, *parts: Config, **more: Any) -> dict[str, Config]:
    """The config under its name, which is the model_type."""
    config = {**TINY, "architectures": [architecture], "model_type": model_type}
    for part in parts:
        config |= part
    return {model_type: config | more}


def part_of(architecture: str, model_type: str, text: Config) -> dict[str, Config]:
    """A language model among other parts."""
    return {model_type: {"architectures": [architecture], "model_type": model_type, "tie_word_embeddings": False, "text_config": text}}


FAMILIES: dict[str, Config] = {
    **family("LlamaForCausalLM", "llama"),
    **family("MistralForCausalLM", "mistral", sliding_window=37),
    **(qwen3 := family("Qwen3ForCausalLM", "qwen3", tie_word_embeddings=True)),
    **part_of("Qwen3VLForConditionalGeneration", "qwen3_vl", qwen3["qwen3"]),
    **family("Qwen3MoeForCausalLM", "qwen3_moe", SOFTMAX, tie_word_embeddings=True, num_hidden_layers=3, mlp_only_layers=[1]),
    **family("MixtralForCausalLM", "mixtral", num_local_experts=6, num_experts_per_tok=2),
    **family("OlmoeForCausalLM", "olmoe", num_experts=9, num_experts_per_tok=3, norm_topk_prob=False),
    **family("Qwen2MoeForCausalLM", "qwen2_moe", SOFTMAX, shared_expert_intermediate_size=56, qkv_bias=False),
    **family("Glm4MoeForCausalLM", "glm4_moe", SIGMOID, GROUPS, partial_rotary_factor=0.5, use_qk_norm=True),
    **family("MiniMaxM2ForCausalLM", "minimax_m2", num_local_experts=10, num_experts_per_tok=3, rotary_dim=12),
    **(deepseek := family("DeepseekV3ForCausalLM", "deepseek_v3", LATENT, GROUPS, YARN)),
    **part_of("KimiK25ForConditionalGeneration", "kimi_k25", deepseek["deepseek_v3"]),
    **family("Glm4MoeLiteForCausalLM", "glm4_moe_lite", LATENT, GROUPS, q_lora_rank=None, rope_interleave=False, v_head_dim=20),
    **family("DeepseekV32ForCausalLM", "deepseek_v32", SELECTED, GROUPS, YARN),
    **family("GlmMoeDsaForCausalLM", "glm_moe_dsa", SELECTED, indexer_types=["full", "shared", "full"]),
}
