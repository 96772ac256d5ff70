"""The demo in ten lines: `python examples/01_arithmetic/run.py` after `rft model get smollm2` and `rft data arithmetic`."""

import sys

import rft


@rft.grader(weight=0.1)
def short(completion: str) -> float:
    return float(len(completion) <= 40)


run = rft.Run.from_file(sys.argv[1] if len(sys.argv) > 1 else "examples/01_arithmetic/run.yaml", graders=[short])
for step in run:
    print(step.index, step.reward_mean, step.kl_max)
run.save("runs/arithmetic-model")
run.finish()
