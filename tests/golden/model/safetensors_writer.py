"""Writes safetensors files and their index. Standard library only; tensors stream, so memory stays one tensor."""
import json
import math
import os

SIZES = {"F32": 4, "BF16": 2}


def header(entries):
    """entries: [(name, shape, dtype)] in file order -> (header bytes, total data bytes)."""
    table, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, dtype in entries:
        size = math.prod(shape) * SIZES[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offset


def split(entries, limit):
    """Cuts the entries, in order, into shards of at most `limit` data bytes (one tensor may exceed it)."""
    shards, used = [[]], 0
    for name, shape, dtype in entries:
        size = math.prod(shape) * SIZES[dtype]
        if shards[-1] and limit and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append((name, shape, dtype))
        used += size
    return shards


def write(folder, entries, data, limit=0):
    """Writes model.safetensors, or shards of at most `limit` bytes with model.safetensors.index.json.

    data(name) -> bytes, or None to leave the tensor a hole in a sparse file (it reads as zeros). Returns data bytes.
    """
    shards = split(entries, limit)
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        head, size = header(shard)
        with open(os.path.join(folder, file), "wb") as out:
            out.write(head)
            offset = len(head)
            for name, shape, dtype in shard:
                payload = data(name)
                length = math.prod(shape) * SIZES[dtype]
                if payload is not None:
                    if len(payload) != length:
                        raise ValueError(f"{name}: expected {length} bytes, got {len(payload)}")
                    out.seek(offset)
                    out.write(payload)
                offset += length
            out.truncate(offset)
        weight_map.update((name, file) for name, _, _ in shard)
        total += size
    if len(shards) > 1:
        write_json(folder, "model.safetensors.index.json",
                   {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})
    return total


def write_json(folder, file, value):
    with open(os.path.join(folder, file), "w", encoding="utf-8") as out:
        json.dump(value, out, indent=1, ensure_ascii=False)
        out.write("\n")


def read_header(path):
    """(table, offset of the data, file size)."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        table = json.loads(f.read(length))
    return table, 8 + length, os.path.getsize(path)
