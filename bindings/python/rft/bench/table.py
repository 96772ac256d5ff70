"""Rows of `rft bench` as the Markdown of docs/speed.md: `rft bench engine --peers | python -m rft.bench.table > docs/speed.md`."""

from __future__ import annotations

import json
import sys

from rft.bench import Row

HEAD = """# Speed, row by row

Each row is ours and a peer's, measured in one run in turns, as medians of its rounds; `limit` is what the machine's products and memory
alone would allow, at rates measured at the start of the run (above 100 %: part of the weights stayed in the cache, or the
rates were measured in a slower moment). The machine is that of the README. Names: what is measured / the peer / the model / the
compute type / the batch. Printed by

```
(rft bench engine --peers; rft bench moe --peers --rounds 5; rft bench train --peers) | python -m rft.bench.table > docs/speed.md
```

| Row | Ours | Peer | Ratio | Ours / limit | Unit |
| --- | ---: | ---: | ---: | ---: | --- |
"""


def table(rows: list[Row]) -> str:
    """The page."""
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"

    def line(r: Row) -> str:
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.2f}x"
        share = "" if r["limit"] is None else f"{r['ours'] / r['limit']:.0%}"
        return f"| {r['name']} | {number(r['ours'])} | {number(r['peer'])} | {ratio} | {share} | {r['unit']} |\n"

    return HEAD + "".join(line(r) for r in rows)


if __name__ == "__main__":
    sys.stdout.write(table([json.loads(line) for line in sys.stdin if line.strip()]))
