#!/usr/bin/env python3
"""Writes data/weight_formula.json: a few weights and pixels by the Python formula, which golden_test.cc and selftest.py
compare with their own. Needs numpy (for the pixels)."""
import json
import os
import struct

import model_configs
import reference_cases
import tiny_checkpoint

PICKS = (
    ("g0", "language_model.model.embed_tokens.weight", (0, 1, 777, 3103)),
    ("g0", "language_model.model.layers.0.self_attn.norm.weight", (0, 31)),
    ("g2", "language_model.model.layers.7.self_attn.q_proj.weight", (0, 12287)),
    ("g2", "language_model.model.layers.3.block_sparse_moe.experts.5.w2.weight", (0, 95, 7679)),
    ("g2", "vision_tower.vision_model.embeddings.patch_embedding.weight", (0, 3071)),
    ("g2", "vision_tower.vision_model.encoder.layers.2.mlp.fc1.bias", (0, 127)),
    ("g2", "image_newline", (0, 95)),
    ("g4", "model.layers.0.block_sparse_moe.gate.weight", (0, 2047)),
    ("g4", "model.layers.1.block_sparse_moe.gate.weight", (0, 64, 129, 193, 194)),
    ("g4", "lm_head.weight", (0, 8191)),
)
PIXELS = ((1, 0, 0, 0, 0), (30, 1, 5, 7, 2), (1070, 18, 335, 335, 1))


def main():
    weights = []
    for model_id, name, indices in PICKS:
        m = model_configs.MODELS[model_id]
        shape = dict(model_configs.tensors(m))[name]
        flat = tiny_checkpoint.weight(m, name, shape)
        bits = [struct.unpack("<I", struct.pack("<f", float(flat[i])))[0] for i in indices]
        weights.append({"model": model_id, "name": name, "shape": list(shape), "indices": list(indices), "bits": bits})
    pixels = [{"at": list(p), "value": int(reference_cases.tiles(p[0], p[1] + 1, 336)[p[1:]])} for p in PIXELS]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "weight_formula.json")
    with open(path, "w", encoding="utf-8") as f:
        rows = [",\n  ".join(json.dumps(v) for v in group) for group in (weights, pixels)]
        f.write('{\n "weights": [\n  %s\n ],\n "pixels": [\n  %s\n ]\n}\n' % tuple(rows))


if __name__ == "__main__":
    main()
