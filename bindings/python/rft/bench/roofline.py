"""What this machine would allow: the time of the products and memory traffic alone, at rates measured a moment ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rft.bench import Log


@dataclass(frozen=True)
class Machine:
    """Measured rates: products in GFLOP/s, DRAM in GB/s."""

    fp32_gflops: float
    bf16_gflops: float
    dram_gbps: float

    @classmethod
    def measure(cls, log: Log) -> Machine:
        """Takes a few seconds."""
        from rft import _native

        rates = _native.load().roofline()
        log("machine: " + ", ".join(f"{name} {value:.0f}" for name, value in rates.items()))
        return cls(rates["fp32_gflops"], rates["bf16_gflops"], rates["dram_gbps"])

    def at_best(self, other: Machine) -> Machine:
        """The higher of two measurements of each rate."""
        return Machine(max(self.fp32_gflops, other.fp32_gflops), max(self.bf16_gflops, other.bf16_gflops),
                       max(self.dram_gbps, other.dram_gbps))

    def gflops(self, dtype: str) -> float:
        """Rate of matrix products of this type."""
        return self.bf16_gflops if dtype == "bf16" else self.fp32_gflops


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, and of what attention reads."""

    layers: int         # that a token meets inside the layers: of the experts, those chosen for it
    last: int           # of these, the ones that follow the last layer's attention: met by tokens that are read
    weights: int        # inside the layers, all experts
    head: int
    kv_per_token: int   # numbers in the state cache per token
    attention: int      # multiply-adds per (query, key) pair, all layers

    @classmethod
    def of(cls, config: dict[str, Any]) -> Sizes:
        """From config.json of a Llama, Qwen3 or Qwen3-MoE model."""
        hidden, depth, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        head_dim = config.get("head_dim") or hidden // heads
        attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
        experts, chosen = config.get("num_experts") or config.get("num_local_experts") or 1, config.get("num_experts_per_tok") or 1
        expert = 3 * hidden * (config["moe_intermediate_size"] if experts > 1 else config["intermediate_size"])
        output = hidden * head_dim * heads
        return cls(depth * (attention + chosen * expert), output + chosen * expert, depth * (attention + experts * expert),
                   hidden * config["vocab_size"], 2 * depth * kv_heads * head_dim, 2 * depth * heads * head_dim)


def decode_seconds(machine: Machine, config: dict[str, Any], dtype: str, batch: int, prompt: int, new: int) -> float:
    """Lower bound for `batch` sequences of `prompt` + `new` tokens: prefill, then one iteration per new token."""
    sizes, width = Sizes.of(config), 2 if dtype == "bf16" else 4
    flops_per_s, bytes_per_s = machine.gflops(dtype) * 1e9, machine.dram_gbps * 1e9
    prefill = batch * prompt * 2 * sizes.layers / flops_per_s
    weights = width * (sizes.weights + sizes.head)
    total = prefill
    for step in range(new):
        context = prompt + step
        products = 2 * batch * (sizes.layers + sizes.head + context * sizes.attention)
        traffic = weights + width * batch * context * sizes.kv_per_token
        total += max(products / flops_per_s, traffic / bytes_per_s)
    return total


def train_seconds(machine: Machine, config: dict[str, Any], dtype: str, tokens: int, head_tokens: int) -> float:
    """Forward and backward over `tokens` positions, of which `head_tokens` are read (and meet the LM head), and AdamW's traffic."""
    sizes = Sizes.of(config)
    products = 6 * (tokens * (sizes.layers - sizes.last) + head_tokens * (sizes.last + sizes.head))
    # AdamW reads weight, gradient and two moments and writes weight and moments: 7 fp32 numbers per parameter.
    optimizer = 7 * 4 * (sizes.weights + sizes.head) / (machine.dram_gbps * 1e9)
    return products / (machine.gflops(dtype) * 1e9) + optimizer


def grpo_seconds(machine: Machine, config: dict[str, Any], prompts: int, prompt_tokens: float, completions: int, length: float) -> float:
    """A whole GRPO step in bf16 with completions of `length` tokens on average, each prompt computed once."""
    sampling = decode_seconds(machine, config, "bf16", completions, 0, round(length))
    prefill = decode_seconds(machine, config, "bf16", prompts, round(prompt_tokens), 0)
    positions = round(prompts * prompt_tokens + completions * length)
    return sampling + prefill + train_seconds(machine, config, "bf16", positions, round(completions * length))
