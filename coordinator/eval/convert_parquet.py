#!/usr/bin/env python3
"""Turns a benchmark's parquet files into the JSONL that `fulger eval` reads, pictures beside it. Needs pyarrow.

    convert_parquet.py OUT_FOLDER FILE.parquet...

Columns keep their names. A picture ({bytes, path} as the Hub stores it, or raw bytes) becomes OUT_FOLDER/pictures/ROW-N.EXT
and its path enters `images`, in the order of the columns (image, or image_1, image_2, ...). Options given as columns A, B,
... or as one list stay as they are.
"""
import argparse
import json
import os
import re

import pyarrow.parquet

KINDS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"), (b"GIF8", "gif"))


def extension(data):
    for magic, name in KINDS:
        if data.startswith(magic):
            return name
    return None


def picture_bytes(value):
    """The bytes of one picture, or None if `value` is no picture."""
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    return value if isinstance(value, bytes) and extension(value) else None


def column_order(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def plain(value):
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def convert(row, number, folder):
    out, images = {}, []
    for name in sorted(row, key=column_order):
        values = row[name] if isinstance(row[name], list) else [row[name]]
        pictures = [p for p in map(picture_bytes, values) if p is not None]
        if not pictures:
            if row[name] is not None and not isinstance(row[name], dict):
                out[name] = plain(row[name])
            continue
        for data in pictures:
            path = f"pictures/{number:06}-{len(images) + 1}.{extension(data)}"
            with open(os.path.join(folder, path), "wb") as file:
                file.write(data)
            images.append(path)
    if images:
        out["images"] = images
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    os.makedirs(os.path.join(args.folder, "pictures"), exist_ok=True)
    number = 0
    with open(os.path.join(args.folder, "questions.jsonl"), "w", encoding="utf-8") as out:
        for path in args.files:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    out.write(json.dumps(convert(row, number, args.folder), default=str) + "\n")
                    number += 1
    print(f"{args.folder}/questions.jsonl: {number} questions")


if __name__ == "__main__":
    main()
