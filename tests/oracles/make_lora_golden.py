#!/usr/bin/env python3
"""What `peft` and torch make of the adapters of tests/python/lora_case.py.

    python make_lora_golden.py [--out lora_golden.json]

Per case: log-probabilities of IDS with and without the adapter, the gradient of their mean by every adapter tensor, the tensors after
ten steps of torch.optim.AdamW (gradients and tensors as lora_case.probe sees them), and the names and shapes that save_pretrained
writes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))
import lora_case as case_of  # noqa: E402


def logprobs(model, ids):
    scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return scores[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def run(name, scratch):
    _, tied, _ = case_of.CASES[name]
    base = AutoModelForCausalLM.from_pretrained(case_of.write_model(scratch / "model", tied), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, case_of.write_adapter(scratch / "adapter", name), is_trainable=True).eval()
    named = {key.replace(".default.", ".").removesuffix(".default"): p for key, p in model.named_parameters() if p.requires_grad}
    result = {"logprobs": logprobs(model, case_of.IDS).tolist()}
    with model.disable_adapter():
        result["base"] = logprobs(model, case_of.IDS).tolist()
    model.save_pretrained(scratch / "saved")
    result["saved"] = {key: list(value.shape) for key, value in load_file(scratch / "saved" / "adapter_model.safetensors").items()}
    optimizer = torch.optim.AdamW(named.values(), lr=case_of.LEARNING_RATE, betas=case_of.BETAS, eps=case_of.EPS,
                                  weight_decay=case_of.WEIGHT_DECAY)
    result["losses"] = []
    for step in range(case_of.STEPS):
        loss = -logprobs(model, case_of.IDS[step % 3:]).mean()
        optimizer.zero_grad()
        loss.backward()
        result["losses"].append(loss.item())
        if step == 0:
            result["gradients"] = {key: case_of.probe(p.grad.numpy()) for key, p in named.items()}
        optimizer.step()
    result["stepped"] = {key: case_of.probe(p.detach().numpy()) for key, p in named.items()}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "lora_golden.json")
    out = parser.parse_args().out
    golden = {}
    for name in case_of.CASES:
        with tempfile.TemporaryDirectory() as scratch:
            golden[name] = run(name, Path(scratch))
    out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
