#!/usr/bin/env python3
"""Writes the released checkpoint at full size, as sparse files: 8,637 bf16 tensors, 912,874,438,656 bytes of which a
few MB lie on the disk. Headers, names, shapes, index and config.json are true; the weights read as zeros.

    released_checkpoint.py /tmp/vl01
    released_checkpoint.py /tmp/vl01 --fill '*.layers.0.block_sparse_moe.gate.weight' --fill image_newline
    released_checkpoint.py --check            writes nothing: names, hash, totals
    released_checkpoint.py --check /tmp/vl01  reads every header back and compares file sizes

Plain python3. The folder's file system must know holes (ext4, xfs, tmpfs, overlay). Never copy the folder without
--sparse.
"""
import argparse
import fnmatch
import hashlib
import json
import math
import os
import sys

import model_configs
import safetensors_writer
import tiny_checkpoint
import weight_formula

TENSORS = 8637
NAMES_SHA256 = "d0caf1b714cdfc4caa65b56cbec591668d77b0e2a5d6cf3b5af169531311c886"
DATA_BYTES = 912_874_438_656
PARAMETERS = 456_437_219_328
SHARD_BYTES = 5_000_000_000
MOST_FILL = 64 << 20  # elements of one filled tensor: this is python


def names_hash(names):
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def check_table(shapes):
    found = (len(shapes), names_hash(shapes), sum(math.prod(s) for s in shapes.values()))
    expected = (TENSORS, NAMES_SHA256, PARAMETERS)
    if found != expected:
        sys.exit(f"released table: expected (count, names hash, parameters) {expected}, found {found}")


def check_folder(folder, shapes):
    with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as f:
        index = json.load(f)
    if index["metadata"]["total_size"] != DATA_BYTES or index["weight_map"].keys() != shapes.keys():
        sys.exit(f"{folder}: the index does not list the released tensors")
    seen = 0
    for file in sorted(set(index["weight_map"].values())):
        table, start, size = safetensors_writer.read_header(os.path.join(folder, file))
        table.pop("__metadata__")
        end = max(e["data_offsets"][1] for e in table.values())
        if size != start + end:
            sys.exit(f"{file}: header promises {start + end} bytes, the file has {size}")
        for name, entry in table.items():
            if tuple(entry["shape"]) != shapes[name] or entry["dtype"] != "BF16":
                sys.exit(f"{file}: {name}: expected {shapes[name]} BF16, found {entry}")
        seen += len(table)
    if seen != TENSORS:
        sys.exit(f"{folder}: expected {TENSORS} tensors in the shards, found {seen}")


def write(folder, patterns):
    m = model_configs.MODELS["released"]
    shapes = dict(model_configs.tensors(m))
    filled = [n for n in shapes if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    for pattern in patterns:
        if not fnmatch.filter(shapes, pattern):
            sys.exit(f"--fill {pattern}: no tensor has such a name")
    for name in filled:
        if math.prod(shapes[name]) > MOST_FILL:
            sys.exit(f"--fill {name}: {math.prod(shapes[name]):,} elements, at most {MOST_FILL:,}")
    os.makedirs(folder, exist_ok=True)

    def data(name):
        if name not in filled:
            return None
        return weight_formula.to_bytes(tiny_checkpoint.weight(m, name, shapes[name]), "BF16")

    entries = [(name, shape, "BF16") for name, shape in shapes.items()]
    total = safetensors_writer.write(folder, entries, data, SHARD_BYTES)
    safetensors_writer.write_json(folder, "config.json", model_configs.legacy_config(m))
    safetensors_writer.write_json(folder, "preprocessor_config.json", model_configs.preprocessor_config(m))
    check_folder(folder, shapes)
    on_disk = sum(os.stat(os.path.join(folder, f)).st_blocks * 512 for f in os.listdir(folder))
    print(f"{folder}: {len(shapes):,} tensors, {total:,} bytes of data, {on_disk:,} bytes on disk")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--fill", action="append", default=[], metavar="PATTERN", help="tensors to give values")
    args = parser.parse_args()
    shapes = dict(model_configs.tensors(model_configs.MODELS["released"]))
    check_table(shapes)
    if not args.check:
        if not args.folder:
            parser.error("a folder is needed (or --check)")
        write(args.folder, args.fill)
        return
    if args.folder:
        check_folder(args.folder, shapes)
    print(f"released table: {len(shapes):,} tensors, hash {NAMES_SHA256}, {DATA_BYTES:,} bytes")


if __name__ == "__main__":
    main()
