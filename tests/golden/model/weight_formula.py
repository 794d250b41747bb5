"""Weights that nobody has to ship: every element is a pure function of (seed, tensor name, flat index).

    state  = fnv1a64(name) ^ mix(seed)                        mix(0) == 0, so seed 0 is the plain name hash
    x_i    = mix(state + (i + 1) * 0x9E3779B97F4A7C15)        SplitMix64, all arithmetic modulo 2^64
    u_i    = (x_i >> 11) * 2^-53                              in [0, 1), exact in float64
    noise  = (u_i - 0.5) * 3.4641016151377544                 variance 1
    value  = float32(scale * noise), or float32(1 + 0.1 * noise) for norm weights

`name` is always the RELEASED tensor name, in a checkpoint of either format. `scale` depends on the name and the shape
(see rule()). Evaluated in float64, rounded once to float32. weight_formula.h is the same in C++.
Standard library only; numpy is used when it is there because it is faster, and gives the same bits.
"""
import array
import math
import struct

try:
    import numpy as np
except ImportError:  # a bare machine: make demo
    np = None

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SQRT12 = 3.4641016151377544

# Gains for matrices (scale = gain / sqrt(fan in)); the last part of the name that matches decides, else 1.
# Larger than 1 where an untrained model would give answers too flat to test: attention scores, routing, logits. Smaller
# for qkv_proj, and the token embedding small, so that the epsilons of the two RMSNorms behind them show in the logits.
GAINS = (
    (".self_attn.qkv_proj.weight", 0.2),
    (".self_attn.q_proj.weight", 1.5),
    (".self_attn.k_proj.weight", 1.5),
    (".block_sparse_moe.gate.weight", 2.0),
    ("lm_head.weight", 2.0),
)
EMBEDDINGS = (("embed_tokens.weight", 0.02), ("position_embedding.weight", 0.2), ("class_embedding", 0.2),
              ("image_newline", 0.2))
BIAS_SCALE = 0.05


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def random_u64(seed, name, index):
    return mix(((fnv1a64(name) ^ mix(seed)) + (index + 1) * GOLDEN) & MASK)


def rule(name, shape):
    """(base, scale): value = base + scale * noise."""
    if len(shape) == 1 and name.endswith(".weight"):
        return 1.0, 0.1
    if name.endswith(".bias"):
        return 0.0, BIAS_SCALE
    for suffix, scale in EMBEDDINGS:
        if name.endswith(suffix):
            return 0.0, scale
    gain = 1.0
    for suffix, value in GAINS:
        if name.endswith(suffix):
            gain = value
    return 0.0, gain / math.sqrt(math.prod(shape[1:]))


def tie_gate(shape):
    """The crafted router of G4: experts 3c, 3c+1, 3c+2 have the same row, 2.0 at column c and zeros. Their logits are
    exactly 2 * x[c] in any summation order, so they tie bit for bit, and the lowest indices must win."""
    experts, hidden = shape
    out = array.array("f", bytes(4 * experts * hidden))
    for expert in range(experts):
        out[expert * hidden + expert // 3] = 2.0
    return out


def values(name, shape, seed=0):
    """The tensor, flat, float32: a numpy array when numpy is there, else array('f')."""
    count = math.prod(shape)
    base, scale = rule(name, shape)
    state = (fnv1a64(name) ^ mix(seed)) & MASK
    if np is not None:
        with np.errstate(over="ignore"):
            z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
        u = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (base + scale * ((u - 0.5) * SQRT12)).astype(np.float32)
    return _values_pure(count, base, scale, state)


def _values_pure(count, base, scale, state):
    out = array.array("f", bytes(4 * count))
    inv = 2.0**-53
    for i in range(count):
        state = (state + GOLDEN) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out[i] = base + scale * ((((z ^ (z >> 31)) >> 11) * inv - 0.5) * SQRT12)
    return out


def to_bf16_bytes(flat):
    """Round to nearest even; weights are never NaN."""
    if np is not None:
        bits = np.ascontiguousarray(flat, dtype=np.float32).view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2").tobytes()
    raw = flat.tobytes()
    bits = struct.unpack(f"={len(raw) // 4}I", raw)
    half = array.array("H", [(b + 0x7FFF + ((b >> 16) & 1)) >> 16 for b in bits])
    return half.tobytes()


def to_bytes(flat, dtype):
    """Little-endian storage; dtype is the safetensors spelling."""
    if dtype == "BF16":
        return to_bf16_bytes(flat)
    if dtype == "F32":
        return flat.tobytes()
    raise ValueError(f"dtype {dtype}: F32 or BF16")
