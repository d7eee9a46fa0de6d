"""Hugging Face checkpoints whose matrices are quantised: what their writers store, and what it stands for.

Each quantizer takes a matrix [N, K] in fp32 and returns ({ending of the tensor's name: tensor}, values [N, K]). The
integers are those that AutoGPTQ's and AutoAWQ's packers write (`check_packers` holds ours against them)."""

import numpy as np
import torch

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # the column that each nibble of a word holds


def words(nibbles, order=range(8)):
    """[..., 8 n] of 4 bits -> int32 [..., n]."""
    nibbles = nibbles.reshape(*nibbles.shape[:-1], -1, 8).astype(np.uint32)
    packed = sum(nibbles[..., column] << np.uint32(4 * i) for i, column in enumerate(order))
    return torch.from_numpy(np.ascontiguousarray(packed).view(np.int32))


def int4(w, group, symmetric, group_of):
    """q [N, K], zeros [N, G], scales f16 [N, G]; group_of [K]."""
    groups = [w[:, group_of == g] for g in range(w.shape[1] // group)]
    low = np.stack([np.minimum(g.min(1), 0) for g in groups], 1)
    high = np.stack([np.maximum(g.max(1), 0) for g in groups], 1)
    scales = (2 * np.maximum(-low, high) / 15 if symmetric else (high - low) / 15).astype(np.float16)
    zeros = np.full(scales.shape, 8) if symmetric else np.clip(np.round(-low / scales), 1, 15).astype(int)
    q = np.clip(np.round(w / scales[:, group_of].astype(np.float32)) + zeros[:, group_of], 0, 15).astype(int)
    return q, zeros, scales


def int4_values(q, zeros, scales, group_of):
    return ((q - zeros[:, group_of]) * scales[:, group_of].astype(np.float32)).astype(np.float32)


def gptq(w, rng, group=32, symmetric=True, act_order=False, version="gptq", **_):
    group_of = np.arange(w.shape[1]) // group
    if act_order:
        group_of = rng.permutation(group_of)
    q, zeros, scales = int4(w, group, symmetric, group_of)
    stored_zeros = zeros - 1 if version == "gptq" else zeros
    return {"qweight": words(q).T.contiguous(), "qzeros": words(stored_zeros.T),
            "scales": torch.from_numpy(scales.T.copy()), "g_idx": torch.from_numpy(group_of.astype(np.int32)),
            "bias": torch.zeros(w.shape[0], dtype=torch.float16)}, int4_values(q, zeros, scales, group_of)


def awq(w, _rng, group=32, **_):
    group_of = np.arange(w.shape[1]) // group
    q, zeros, scales = int4(w, group, False, group_of)
    return {"qweight": words(q.T, AWQ_ORDER), "qzeros": words(zeros.T, AWQ_ORDER),
            "scales": torch.from_numpy(scales.T.copy())}, int4_values(q, zeros, scales, group_of)


def fp8(w, _rng, scales="tensor", block=None, scale_name="weight_scale", **_):
    n, k = w.shape
    rows, cols = {"tensor": (n, k), "channel": (1, k), "block": block}[scales]
    shape = -(-n // rows), -(-k // cols)
    scale = np.array([[np.abs(w[i * rows:(i + 1) * rows, j * cols:(j + 1) * cols]).max() / 448
                       for j in range(shape[1])] for i in range(shape[0])], np.float32)
    of_each = scale.repeat(rows, 0)[:n].repeat(cols, 1)[:, :k]
    codes = torch.from_numpy(w / of_each).to(torch.float8_e4m3fn)
    stored = scale.reshape(()) if scales == "tensor" else scale
    return {"weight": codes, scale_name: torch.from_numpy(stored), "input_scale": torch.tensor(0.5)}, \
        codes.float().numpy() * of_each


QUANTIZERS = {"gptq": gptq, "awq": awq, "fp8": fp8}


def quantization_config(method, group=32, act_order=False, version="gptq", scales="tensor", block=None, words="fp8", symmetric=True,
                        **_):
    if method == "gptq":
        config = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": act_order, "sym": symmetric}
        return config | ({"checkpoint_format": version} if version != "gptq" else {})
    if method == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    if words == "compressed-tensors":
        weights = {"num_bits": 8, "type": "float", "strategy": scales, "symmetric": True, "dynamic": False}
        return {"quant_method": words, "format": "float-quantized", "ignore": ["lm_head"],
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    config = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    return config | ({"weight_block_size": list(block)} if block else {})


def quantize(weights, rng, method, **options):
    """`weights` by name -> (tensors to store, what they stand for); only the layers' matrices are quantised."""
    tensors, values = {}, {}
    for name, w in weights.items():
        if w.ndim == 2 and ".layers." in name:
            parts, values[name] = QUANTIZERS[method](w, rng, **options)
            base = name.removesuffix(".weight")
            tensors |= {f"{base}.{ending}": tensor for ending, tensor in parts.items()}
        else:
            tensors[name] = torch.from_numpy(w).to(torch.float16)
            values[name] = tensors[name].float().numpy()
    for name, w in weights.items():  # a matrix's own bias, not its writer's zeros
        if name.endswith(".bias"):
            tensors[name] = torch.from_numpy(w).to(torch.float16)
    return tensors, values


def check_packers(auto_gptq_pack, auto_awq_pack):
    """Holds our words against `pack(w [N, K], scales [N, G], zeros [N, G], group)` of the two projects."""
    w = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    group_of = np.arange(96) // 32
    _, zeros, scales = int4(w, 32, False, group_of)
    for quantizer, pack in ((gptq, auto_gptq_pack), (awq, auto_awq_pack)):
        ours, values = quantizer(w, None, symmetric=False)
        theirs = pack(values, scales, zeros, 32)
        for name in ("qweight", "qzeros", "scales"):
            assert torch.equal(ours[name], theirs[name]), (quantizer.__name__, name)
