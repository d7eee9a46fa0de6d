#!/usr/bin/env python3
"""Writes dtype_goldens.bin: quantised rows and their values, as the `gguf` package (PyPI) makes them.

Needs gguf and numpy. For each type, in order f16, bf16, q8_0, q4_0, q4_1:
  f32 x[ROWS * COLS], then quantize(x) in the type's bytes, then f32 dequantize(quantize(x)).
The rows' scales span what weights have, with the corners that rounding has: ties, zeros, one value far out.
"""
import pathlib

import gguf
import numpy as np

ROWS, COLS = 6, 64
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]


def rows():
    random = np.random.default_rng(20240611)
    x = random.standard_normal((ROWS, COLS)).astype(np.float32)
    x[0] *= 0.02
    x[1] *= 1e-6  # f16 subnormals
    x[2] = np.round(x[2] * 8) / 16  # many ties
    x[3, :32] = 0  # an all-zero block
    x[3, 40] = 300
    x[4] = np.arange(-32, 32, dtype=np.float32) * 0.5  # exact multiples
    x[5] += 5  # one sign only
    return x


def main():
    x = rows()
    with open(pathlib.Path(__file__).parent / "dtype_goldens.bin", "wb") as out:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            stored = gguf.quants.quantize(x, kind)
            out.write(x.tobytes())
            out.write(stored.tobytes())
            out.write(gguf.quants.dequantize(stored, kind).astype(np.float32).tobytes())


if __name__ == "__main__":
    main()
