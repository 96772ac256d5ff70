"""`rft check trl`: every preset named after TRL against TRL's own code, value and gradient in float64 (`make peers` first).

Rows trl/<preset>: `ours` is the largest difference of the loss or of a gradient entry over CASES batches of ragged rows with holes in
their masks, relative as in check_losses. TRL rounds some masks and quantiles to float32: hence the limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rft.bench import BenchOptions, Log, Row, row
from rft.bench.check_losses import worst_of
from rft.bench.peer import Peer

CASES = 4
LIMIT = 1e-6
MAX_LENGTH = 16
ROW = {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}
PLAIN_KL = {"beta": 0.04, "use_bias_correction_kl": False}
# A preset's options in TRL's words. `trl.dapo_*` and `trl.vespo_tis` are also given a correction mode.
OPTIONS: dict[str, dict[str, Any]] = {
    "trl.grpo": {"loss_type": "grpo"},
    "trl.grpo_kl": {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True},
    "trl.grpo_kl_plain": {"loss_type": "grpo", **PLAIN_KL},
    "trl.grpo_delta": {"loss_type": "grpo", "delta": 4.0},
    "trl.grpo_opsm": {"loss_type": "grpo", "off_policy_mask_threshold": 0.05},
    "trl.bnpo": {"loss_type": "bnpo"},
    "trl.dr_grpo": {"loss_type": "dr_grpo", "max_completion_length": MAX_LENGTH},
    "trl.dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "trl.dapo_entropy": {"loss_type": "bnpo", "top_entropy_quantile": 0.2137},
    "trl.dapo_token_truncate": {"loss_type": "dapo", **PLAIN_KL},
    "trl.dapo_token_mask": {"loss_type": "dapo", **PLAIN_KL},
    "trl.dapo_sequence_truncate": {"loss_type": "dapo", **PLAIN_KL},
    "trl.dapo_sequence_mask": {"loss_type": "dapo", **PLAIN_KL},
    "trl.cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "trl.gspo": {"loss_type": "grpo", **ROW},
    "trl.luspo": {"loss_type": "luspo", **ROW},
    "trl.sapo": {"loss_type": "sapo"},
    "trl.vespo": {"loss_type": "vespo"},
    "trl.vespo_tis": {"loss_type": "vespo"},
}
OURS: dict[str, dict[str, Any]] = {"trl.dr_grpo": {"agg_norm": float(MAX_LENGTH)}, "trl.dapo_entropy": {"top_entropy": 0.2137}}


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """One row per preset."""
    import torch

    from rft import losses

    with Peer("trl_losses.py", [], log) as peer:
        for name in (one for one in losses.presets() if one.startswith("trl.")):
            if options.only not in f"trl/{name}":
                continue
            generator = torch.Generator().manual_seed(options.seed)
            worst = max(difference(peer, name, batch(generator)) for _ in range(CASES))
            yield row(f"trl/{name}", worst, None, "relative difference", LIMIT, cases=CASES, passed=worst <= LIMIT,
                      trl=peer.ready["trl"])


def batch(generator: Any) -> dict[str, Any]:
    """Six ragged rows, padded."""
    import torch

    def normal() -> Any:
        return torch.randn(6, 12, generator=generator, dtype=torch.float64)

    valid = (torch.arange(12) < torch.randint(1, 13, (6, 1), generator=generator)).double()
    mask = valid * (torch.rand(6, 12, generator=generator) > 0.2)
    mask[:, 0] = 1.0  # a row without any token counts in TRL's denominators by accident of clamping
    logprobs = -normal().abs() * valid
    old = (logprobs - 0.3 * normal()) * valid
    return {"logprobs": logprobs, "old": old, "sampling": (old - 0.3 * normal()) * valid, "ref": (logprobs - 0.5 * normal()) * valid,
            "entropy": normal().abs(), "mask": mask, "valid": valid, "advantages": torch.randn(6, generator=generator, dtype=torch.float64)}


def difference(peer: Peer, name: str, data: dict[str, Any]) -> float:
    """Ours against TRL's on one batch."""
    import torch

    from rft import losses

    mode = "token_truncate" if name == "trl.vespo_tis" else name.removeprefix("trl.dapo_")
    correction = mode if mode.startswith(("token_", "sequence_")) else None
    theirs = peer.measure(json.dumps({"options": OPTIONS[name], "correction": correction,
                                      **{key: value.tolist() for key, value in data.items()}}, separators=(",", ":")))
    logprobs = data["logprobs"].clone().requires_grad_(True)
    out = losses.compute(name, logprobs, old_logprobs=data["old"], sampling_logprobs=data["sampling"],
                         ref_logprobs=data["ref"] if "beta" in OPTIONS[name] else None,
                         entropy=data["entropy"] if name == "trl.dapo_entropy" else None,
                         advantages=data["advantages"], mask=data["mask"], **OURS.get(name, {}))
    (gradient,) = torch.autograd.grad(out.loss, logprobs)
    expected = torch.tensor(theirs["gradient"], dtype=torch.float64)
    return worst_of(float(out.loss.detach()), theirs["loss"], gradient.flatten().tolist(), expected.flatten().tolist())
