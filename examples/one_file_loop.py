"""GRPO in one file, on the Trainer's and the Engine's verbs: change any line of it.

    python examples/one_file_loop.py MODEL_DIR TRAIN.jsonl [--steps 20]

Rows are OpenAI chat messages with a column `answer`. Everything a managed run does (filters, journal, checkpoints, Python
graders in processes of their own) is left out here on purpose.
"""

import argparse
import json
import random
import re

import numpy as np

import rft

ANSWER = re.compile(r"<answer>\s*(-?\d+)\s*</answer>")


def reward(completion: str, answer: str) -> float:
    found = ANSWER.findall(completion)
    return 0.2 * bool(found) + 0.8 * (found[-1:] == [answer])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--lr", type=float, default=1e-5)
    args = parser.parse_args()
    with open(args.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    codec = rft.load_codec(args.model)
    model = rft.Model.load(args.model)
    engine = rft.Engine(model, codec.native())
    trainer = rft.Trainer(model)
    rng = random.Random(0)

    for step in range(args.steps):
        batch = rng.sample(rows, args.prompts)
        prompts = [codec.encode_chat(row["messages"]) for row in batch]
        groups = engine.generate(prompts, n=args.group, max_tokens=args.max_tokens, seed=step)

        datums, rewards = [], []
        for index, (row, prompt, group) in enumerate(zip(batch, prompts, groups)):
            scores = np.array([reward(codec.decode([int(i) for i in sample.ids]), row["answer"]) for sample in group])
            rewards.append(scores.mean())
            if scores.std() == 0:
                continue  # all alike: nothing to learn from this group
            for sample, advantage in zip(group, (scores - scores.mean()) / (scores.std() + 1e-6)):
                mask = [0.0] * len(prompt) + [1.0] * len(sample.ids)
                sampled = [0.0] * len(prompt) + [float(x) for x in sample.sampling_logprobs]
                datums.append(rft.Datum(prompt + [int(i) for i in sample.ids], mask, advantages=[float(advantage) * m for m in mask],
                                        sampling_logprobs=sampled, old_logprobs=sampled, prefix_id=index, prefix_length=len(prompt)))
        if datums:
            trainer.forward_backward(datums, loss="grpo")
            trainer.optim_step(learning_rate=args.lr, grad_clip_norm=1.0)
            engine.publish(trainer.weights())  # a pointer, not a copy
        print(f"step {step}: reward {np.mean(rewards):.3f}, {len(datums)} rollouts trained on", flush=True)
    engine.close()


if __name__ == "__main__":
    main()
