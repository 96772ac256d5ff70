#!/usr/bin/env python3
"""What TRL's own functions make of six completions in three pairs: tests/python/test_fine_tune.py has the losses as formulas.

    python make_preference_golden.py [--out preference_golden.json]

Per loss: sums of log-probabilities (chosen, rejected, chosen, ...), their token counts, the loss summed over pairs and its gradient.
TRL's dpo and kto are lines of a method, not functions that could be called.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

DEVICE = SimpleNamespace(device="cpu")
TOKENS = torch.tensor([3.0, 4.0, 5.0, 6.0, 7.0, 2.0], dtype=torch.float64)


def simpo(mean):
    trainer = SimpleNamespace(alpha=0.0, beta=2.0, simpo_gamma=1.0, label_smoothing=0.0, loss_type="simpo", accelerator=DEVICE)
    return CPOTrainer.cpo_loss(trainer, mean[0::2], mean[1::2])[0].sum()


def orpo(mean):
    trainer = SimpleNamespace(beta=0.1, accelerator=DEVICE)
    return -ORPOTrainer.odds_ratio_loss(trainer, mean[0::2], mean[1::2])[0].sum() - mean[0::2].sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "preference_golden.json")
    out = parser.parse_args().out
    golden = {}
    for name, loss in (("simpo", simpo), ("orpo", orpo)):
        generator = torch.Generator().manual_seed(4)
        logps = (-TOKENS * (0.2 + 4.0 * torch.rand(6, generator=generator, dtype=torch.float64))).requires_grad_()
        value = loss(logps / TOKENS)
        value.backward()
        golden[name] = {"logps": logps.tolist(), "tokens": TOKENS.tolist(), "loss": value.item(), "gradient": logps.grad.tolist()}
    out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
