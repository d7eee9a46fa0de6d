"""Writes a llama model of any small size with random weights and a vocabulary of single characters, as GGUF."""

import random
import struct

U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
CHARACTERS = "".join(map(chr, range(33, 127)))
END = "<end>"


def write_model(path, layers=2, hidden=64, heads=4, kv_heads=1, ffn=96, context=8192, seed=1, poison=None):
    """Every token is a visible character (a space is "Ġ", as byte-level vocabularies write it) but the last, which ends answers.
    After the character `poison` all logits are NaN."""
    tokens = [*CHARACTERS, "\u0120", END]
    keys = [
        ("general.architecture", STRING, "llama"), ("llama.block_count", U32, layers), ("llama.embedding_length", U32, hidden),
        ("llama.feed_forward_length", U32, ffn), ("llama.attention.head_count", U32, heads), ("llama.attention.head_count_kv", U32, kv_heads),
        ("llama.context_length", U32, context), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.freq_base", F32, 1e4),
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "gpt-2"), ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), [1] * (len(tokens) - 1) + [3]), ("tokenizer.ggml.merges", (ARRAY, STRING), []),
        ("tokenizer.ggml.eos_token_id", U32, len(tokens) - 1)]
    head = hidden // heads
    tensors = [("token_embd.weight", (hidden, len(tokens))), ("output_norm.weight", (hidden,)), ("output.weight", (hidden, len(tokens)))]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", shape) for name, shape in (
            ("attn_norm", (hidden,)), ("attn_q", (hidden, hidden)), ("attn_k", (hidden, kv_heads * head)), ("attn_v", (hidden, kv_heads * head)),
            ("attn_output", (hidden, hidden)), ("ffn_norm", (hidden,)), ("ffn_gate", (hidden, ffn)), ("ffn_up", (hidden, ffn)), ("ffn_down", (ffn, hidden)))]

    text = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
    value = lambda kind, v: text(v) if kind == STRING else struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], v)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for name, kind, content in keys:
        if isinstance(kind, tuple):
            out += text(name) + struct.pack("<IIQ", ARRAY, kind[1], len(content)) + b"".join(value(kind[1], v) for v in content)
        else:
            out += text(name) + struct.pack("<I", kind) + value(kind, content)
    rng, data = random.Random(seed), b""
    for name, shape in tensors:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        spread = 1.5 if name.startswith(("token_embd", "output.")) else 1.0 / shape[0] ** 0.5
        values = [1.0] * count if len(shape) == 1 else [rng.gauss(0, spread) for _ in range(count)]
        if poison and name.startswith("token_embd"):
            row = tokens.index(poison) * hidden
            values[row:row + hidden] = [float("nan")] * hidden
        data += b"\0" * (-len(data) % 32)
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, len(data))
        data += struct.pack(f"<{count}f", *values)
    with open(path, "wb") as file:
        file.write(out + b"\0" * (-len(out) % 32) + data)
