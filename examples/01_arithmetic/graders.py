"""The demo's own grader: a plain function is all it takes."""

import rft


@rft.grader
def brevity(completion: str) -> float:
    """1 for an answer and nothing else (up to 24 characters), falling to 0 at 96."""
    return min(1.0, max(0.0, (96 - len(completion.strip())) / 72))
