#!/usr/bin/env python3
"""Writes dtype_goldens.bin: quantised rows and their values, as the `gguf` package (PyPI) makes them.

Needs gguf, numpy and, for float8_e4m3fn, torch. For each type, in order of TYPES:
  f32 x[ROWS * COLS], then quantize(x) in the type's bytes, then f32 dequantize(quantize(x)).
The rows' scales span what weights have, with the corners that rounding has: ties, zeros, one value far out.
Then for each type, in order of BLOCKS: NUM_BLOCKS blocks of random bytes, then f32 dequantize(blocks). Any bytes
are a block, but that f16 scales are finite and FP8 codes no NaN.
"""
import pathlib

import gguf
import numpy as np
import torch

ROWS, COLS = 6, 64
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"]
NUM_BLOCKS = 7
BLOCKS = {  # where each type's f16 lie
    "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}


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


def random_blocks(random, num_bytes, halves):
    blocks = random.integers(0, 256, (NUM_BLOCKS, num_bytes), dtype=np.uint8)
    for at in halves:
        high = blocks[:, at + 1]
        high[(high & 0x7C) == 0x7C] ^= 0x40
    return blocks


def fp8_blocks(random):
    """f32 scale, then 128 codes (not a type of GGUF's)."""
    scales = (random.standard_normal((NUM_BLOCKS, 1)) * 0.01).astype(np.float32)
    codes = random.integers(0, 256, (NUM_BLOCKS, 128), dtype=np.uint8)
    codes[(codes & 0x7F) == 0x7F] ^= 0x01
    codes[0] = np.delete(np.arange(256), [0x7F, 0xFF])[:128]
    values = torch.from_numpy(codes).view(torch.float8_e4m3fn).to(torch.float32).numpy() * scales
    return np.concatenate([scales.view(np.uint8), codes], axis=1), values


def main():
    x = rows()
    random = np.random.default_rng(20240612)
    with open(pathlib.Path(__file__).parent / "dtype_goldens.bin", "wb") as out:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            stored = gguf.quants.quantize(x, kind)
            out.write(x.tobytes())
            out.write(stored.tobytes())
            out.write(gguf.quants.dequantize(stored, kind).astype(np.float32).tobytes())
        for name, halves in BLOCKS.items():
            kind = gguf.GGMLQuantizationType[name]
            blocks = random_blocks(random, gguf.GGML_QUANT_SIZES[kind][1], halves)
            out.write(blocks.tobytes())
            out.write(gguf.quants.dequantize(blocks, kind).astype(np.float32).tobytes())
        blocks, values = fp8_blocks(random)
        out.write(blocks.tobytes())
        out.write(values.tobytes())


if __name__ == "__main__":
    main()
