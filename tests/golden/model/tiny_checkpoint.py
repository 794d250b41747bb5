#!/usr/bin/env python3
"""Writes a tiny checkpoint folder, in the released or the transformers-native format. Standard library only.

    tiny_checkpoint.py g2 /tmp/g2                                 released names, float32, one file
    tiny_checkpoint.py g2 /tmp/g2 --dtype bf16 --shard-bytes 300000
    tiny_checkpoint.py g2 /tmp/g2 --native                        native names, fused experts, native config.json
"""
import argparse
import os
import shutil

import model_configs
import safetensors_writer
import weight_formula


def weight(m, name, shape):
    """One released tensor of model m, flat float32."""
    if any(f"layers.{layer}.block_sparse_moe.gate" in name for layer in m.tie_gate_layers):
        return weight_formula.tie_gate(shape)
    return weight_formula.values(name, shape, m.weight_seed)


def write_checkpoint(m, folder, dtype="F32", native=False, shard_bytes=0, tokenizer=None):
    """Returns the bytes of tensor data. `tokenizer` is the path of a tokenizer.json to copy."""
    os.makedirs(folder, exist_ok=True)
    shapes = dict(model_configs.tensors(m))
    if native:
        table = model_configs.native_tensors(m)
    else:
        table = [(name, shape, [name]) for name, shape in shapes.items()]
    parts = {name: sources for name, _, sources in table}

    def data(name):
        return b"".join(weight_formula.to_bytes(weight(m, s, shapes[s]), dtype) for s in parts[name])

    entries = [(name, shape, dtype) for name, shape, _ in table]
    total = safetensors_writer.write(folder, entries, data, shard_bytes)
    config = model_configs.native_config(m) if native else model_configs.legacy_config(m)
    safetensors_writer.write_json(folder, "config.json", config)
    if m.vision is not None:
        safetensors_writer.write_json(folder, "preprocessor_config.json", model_configs.preprocessor_config(m))
    if tokenizer:
        shutil.copyfile(tokenizer, os.path.join(folder, "tokenizer.json"))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[i for i in model_configs.MODELS if i not in ("released", "demo")])
    parser.add_argument("folder")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--native", action="store_true", help="native names and config.json, fused experts")
    parser.add_argument("--shard-bytes", type=int, default=0, help="most data bytes of one shard; 0: one file")
    parser.add_argument("--tokenizer", help="path of a tokenizer.json to copy into the folder")
    args = parser.parse_args()
    total = write_checkpoint(model_configs.MODELS[args.model], args.folder, args.dtype.upper(), args.native,
                             args.shard_bytes, args.tokenizer)
    print(f"{args.folder}: {args.model}, {total:,} bytes of tensors")


if __name__ == "__main__":
    main()
