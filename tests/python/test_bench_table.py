"""The page of docs/ that is made of benchmark rows."""

from __future__ import annotations

from rft.bench import row
from rft.bench.table import table


def test_a_row_is_a_line_with_its_ratio_and_its_share_of_the_limit() -> None:
    page = table([row("decode/peer/M/bf16/b64", 3000.0, 1000.0, "tokens/s", 4000.0), row("alone", 1.25, None, "ms", None)])
    assert page.splitlines()[-2:] == ["| decode/peer/M/bf16/b64 | 3,000 | 1,000 | 3.00x | 75% | tokens/s |", "| alone | 1.25 |  |  |  | ms |"]
