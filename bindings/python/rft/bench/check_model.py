"""`rft check model`: our logits and greedy continuations of a model folder against transformers, on 20 prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rft.bench import BenchOptions, Log, Row, largest, row
from rft.codec import load_codec

PROMPTS = (
    "What is 7 + 5? Answer with the number only.", "Name the capital of France.", "Count from one to ten.",
    "Write a haiku about rain.", "Translate 'good morning' into Spanish.", "What is the boiling point of water?",
    "Why is the sky blue?", "Explain recursion in one sentence.", "List three prime numbers.", "Who wrote Hamlet?",
    "def add(a, b):", "Once upon a time", "The quick brown fox", "12345 + 67890 =", "naïve façade größe", "你好，世界",
    "🙂🚀", "   leading spaces", "line one\nline two\nline three", "Which is larger, 12 or 45?")
NEW_TOKENS = 16


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """Largest difference of the log-probabilities of given text in fp32, and how many greedy answers differ."""
    import torch
    from transformers import AutoModelForCausalLM

    from rft import _native

    folder = options.model_dir()
    name = folder.resolve().name
    codec = load_codec(folder)
    native = _native.load()
    model = native.Model.load(str(folder), dtype="fp32")
    trainer = native.Trainer(model)
    engine = native.Engine(model)
    log("loading the model with transformers")
    reference: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    end = set(codec.end_ids)
    differences, different = [], 0
    for text in PROMPTS:
        prompt = codec.encode_chat([{"role": "user", "content": text}])
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            made = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
                                      pad_token_id=codec.end_ids[0], eos_token_id=codec.end_ids)[0].tolist()
            expected = torch.log_softmax(reference(torch.tensor([made])).logits[0].float(), -1)
        expected_lp = expected[:-1].gather(1, torch.tensor(made[1:])[:, None])[:, 0].numpy()
        ours = np.asarray(trainer.forward([native.Datum(made, [0.0] + [1.0] * (len(made) - 1))])[0])[1:]
        differences.append(float(np.abs(ours - expected_lp).max()))
        answer = [int(i) for i in engine.generate([prompt], temperature=0.0, max_tokens=NEW_TOKENS)[0][0].ids]
        theirs = made[len(prompt):]
        # Engines may keep or drop the final end token: what is said counts.
        different += [i for i in answer if i not in end] != [i for i in theirs if i not in end]
        log(f"{text[:40]!r}: difference {differences[-1]:.2e}")
    engine.close()
    yield row(f"model/{name}/fp32/logprob_diff_max", largest(differences), None, "nats", 2e-4)
    yield row(f"model/{name}/fp32/greedy_different", different, None, f"of {len(PROMPTS)} prompts", 0)
