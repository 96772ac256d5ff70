"""Makes tiny.safetensors with the official package, for tests/io/safetensors_golden_test.cc.

Run in this folder: python make_golden.py
"""
import numpy as np
from safetensors.numpy import save_file

save_file(
    {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "b.half": np.array([1.0, -2.0], dtype=np.float16),
        "c.ids": np.array([[1], [-1]], dtype=np.int64),
        "d.flag": np.array([True, False, True]),
    },
    "tiny.safetensors",
    metadata={"format": "pt", "made_by": "safetensors"},
)
