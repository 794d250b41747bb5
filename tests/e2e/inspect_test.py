#!/usr/bin/env python3
"""`fulger inspect`: what it counts is what the files' headers say, and it names what is wrong with them.

    inspect_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from fulger_process import run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "model")
SHARDS = os.path.join(os.path.dirname(MODEL), "g2")  # nine files, float32


def inspect(folder, code, *flags):
    run = subprocess.run([FULGER, "inspect", folder, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
    return run.stdout


def headers(folder):
    """{tensor: {dtype, shape, data_offsets}} of all files, read by the format's own rules."""
    table = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with open(os.path.join(folder, name), "rb") as file:
                table.update(json.loads(file.read(struct.unpack("<Q", file.read(8))[0])))
    table.pop("__metadata__", None)
    return table


def component(name):
    """Of a released tensor name."""
    if "experts." in name:
        return "experts"
    if "block_sparse_moe.gate" in name:
        return "routers"
    if "vision_tower" in name:
        return "vision tower"
    if "multi_modal_projector" in name or name == "image_newline":
        return "projector"
    if "embed_tokens" in name:
        return "embedding"
    if "lm_head" in name:
        return "lm_head"
    if name.endswith("layernorm.weight") or name.endswith("model.norm.weight"):
        return "norms"
    linear = any(part in name for part in ("qkv_proj", "output_gate", "self_attn.norm", "out_proj"))
    return ("lightning" if linear else "softmax") + " attention"


def case_inspect_counts_what_is_there():
    for folder in (MODEL, SHARDS):
        audit, table = json.loads(inspect(folder, 0, "--json")), headers(folder)
        assert audit["ok"] and audit["found"] == audit["expected"] == len(table), audit
        expected = {}
        for name, entry in table.items():
            sums = expected.setdefault(component(name), {"parameters": 0, "bytes": 0})
            sums["parameters"] += math.prod(entry["shape"])
            sums["bytes"] += entry["data_offsets"][1] - entry["data_offsets"][0]
        assert audit["components"] == expected, (audit["components"], expected)
        for key in ("parameters", "bytes"):
            assert audit[key] == sum(sums[key] for sums in audit["components"].values()), (key, audit)
        assert audit["bytes"] == sum(audit["bytes_by_dtype"].values()), audit


def case_inspect_names_a_renamed_tensor():
    old = "language_model.model.layers.0.input_layernorm.weight"
    new = old.replace("weight", "wieght")  # as long: the header keeps its length
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MODEL, folder, dirs_exist_ok=True)
        path = os.path.join(folder, "model.safetensors")
        with open(path, "r+b") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            header = file.read(size)
            assert header.count(f'"{old}"'.encode()) == 1
            file.seek(8)
            file.write(header.replace(f'"{old}"'.encode(), f'"{new}"'.encode()))
        audit = json.loads(inspect(folder, 3, "--json"))
        assert not audit["ok"] and audit["missing"] == [old], audit
        assert [extra["name"] for extra in audit["extra"]] == [new], audit
        assert audit["found"] == audit["expected"] - 1, audit
        told = inspect(folder, 3)
        assert "1 missing" in told and "1 extra" in told and old in told and new in told, told


def case_inspect_audits_the_released_checkpoint():
    """913 GB of sparse files, 185 of them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, os.path.join(GOLDEN, "released_checkpoint.py"), folder], check=True, timeout=60)
        begin = time.monotonic()
        audit = json.loads(inspect(folder, 0, "--json"))
        seconds = time.monotonic() - begin
        assert seconds < 10, seconds  # 0.1 s in peace
        assert audit["found"] == audit["expected"] == 8637 and audit["ok"], audit
        assert audit["parameters"] == 456_437_219_328 and audit["bytes"] == 912_874_438_656, audit
        assert "8637 of 8637 found" in inspect(folder, 0)


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
