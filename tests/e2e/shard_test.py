#!/usr/bin/env python3
"""`fulger shard`: a copy for a layout serves the same answers; what is wrong with one is told by name.

    shard_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from fulger_process import Server, run_cases

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "model")
FIVE_RANKS = ("--tp", "2", "--pp", "2", "--ep", "1", "--vision-ranks", "1")
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 24,
            "temperature": 0, "ignore_eos": True}
TOWER = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
LAYER = "language_model.model.layers.0."


def run(code, *arguments):
    """Its output and its errors."""
    done = subprocess.run([FULGER, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def shard(folder, *flags, source=MODEL):
    out = os.path.join(folder, "copy")
    told = run(0, "shard", source, "--out", out, *flags)
    assert "GB/s" in told and "s left" in told and "rank files written" in told, told
    return out


def tensors(path):
    """{name: (shape, bytes)}, read by the format's own rules."""
    with open(path, "rb") as file:
        whole = file.read()
    size = struct.unpack("<Q", whole[:8])[0]
    return {name: (entry["shape"], whole[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
            for name, entry in json.loads(whole[8:8 + size]).items() if name != "__metadata__"}


def case_a_sharded_copy_answers_as_its_checkpoint():
    with tempfile.TemporaryDirectory() as folder:
        copy = shard(folder, *FIVE_RANKS)
        assert "there already, 5 rank files" in run(0, "shard", MODEL, "--out", copy, *FIVE_RANKS)
        assert "all 5 rank files as they were written" in run(0, "shard", copy, "--verify")
        with Server(FULGER, MODEL, "--weight-dtype", "f32") as server:
            want = server.wait_ready().chat(QUESTION)["choices"][0]["message"]["content"]
            assert server.stop() == 0
        with Server(FULGER, copy, "--weight-dtype", "f32") as server:  # the layout is the copy's
            server.wait_ready()
            info = server.info()
            assert len(info["ranks"]) == 5 and info["layout"]["pp"] == 2 and info["layout"]["vision_ranks"] == 1, info
            for rank in info["ranks"]:
                assert 0 < rank["bytes_read"] <= os.path.getsize(os.path.join(copy, f"rank-{rank['rank']:05}.safetensors"))
            server.wait_line(r"rank 4: .* GB read in .* s, .* GB/s, .* checked by checksums")
            assert server.chat(QUESTION)["choices"][0]["message"]["content"] == want
            assert server.stop() == 0


def case_shards_hold_rows_and_columns():
    """Row cuts follow one another, column cuts lie beside one another, what is not cut is on both."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shard(folder, "--tp", "2")
        whole = tensors(os.path.join(MODEL, "model.safetensors"))
        ranks = [tensors(os.path.join(copy, f"rank-{r:05}.safetensors")) for r in range(2)]
        assert set(ranks[0]) - {"fulger.block_sums"} == {name for name in whole if name in ranks[0]}
        expert = LAYER + "block_sparse_moe.experts.1."
        for name in (LAYER + "self_attn.qkv_proj.weight", expert + "w1.weight"):
            assert ranks[0][name][1] + ranks[1][name][1] == whole[name][1], name
        for name in (LAYER + "self_attn.out_proj.weight", expert + "w2.weight"):
            (rows, columns), data = whole[name]
            size = len(data) // rows // columns
            half = columns // 2 * size
            for rank in range(2):
                assert ranks[rank][name][0] == [rows, columns // 2], ranks[rank][name][0]
                cut = b"".join(data[(2 * row + rank) * half:(2 * row + rank + 1) * half] for row in range(rows))
                assert ranks[rank][name][1] == cut, name
        for name in (LAYER + "block_sparse_moe.gate.weight", LAYER + "input_layernorm.weight", TOWER):
            assert ranks[0][name] == ranks[1][name] == whole[name], name


def case_what_is_wrong_with_shards_is_named():
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source")
        shutil.copytree(MODEL, source)
        copy = shard(folder, "--experts", "int8", source=source)
        # Another layout.
        told = run(1, "serve", "--model", copy, "--tp", "2")
        assert "its files are cut for pp 1 x tp 1" in told and "experts int8" in told, told
        assert f"fulger shard {source} --out DIR --tp 2 --pp 1 --ep 1" in told, told
        assert "cut for pp 1 x tp 1" in run(0, "plan", "--model", copy, "--cpu-ranks", "2")
        # One bit.
        path = os.path.join(copy, "rank-00000.safetensors")
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        with Server(FULGER, copy) as server:
            server.wait_line(f"rank 0 .* failed during load: {path}: tensor image_newline: bytes .* expected checksum")
        assert "tensor image_newline" in run(3, "shard", copy, "--verify")
        os.remove(path)
        assert "rank-00000.safetensors: not there" in run(1, "serve", "--model", copy)
        run(0, "shard", source, "--out", copy, "--experts", "int8")
        # Other weights in the checkpoint since.
        weights = os.path.join(source, "model.safetensors")
        with open(weights, "r+b") as file:
            file.seek(-100_000, os.SEEK_END)
            file.write(bytes(100_000))
        os.utime(weights, ns=(0, 1))
        told = run(1, "serve", "--model", copy)
        assert "stale: its source" in told and "model.safetensors: its weights are others" in told, told
        assert "stale" in run(3, "shard", copy, "--verify")
        told = run(0, "generate", "--model", copy, "--allow-stale-copy", "--prompt", "Hello", "--max-tokens", "3",
                   "--log-level", "info")
        assert "served as it is (--allow-stale-copy)" in told, told


def case_shard_tells_too_little_room():
    """The released checkpoint as sparse files, and a disk that has no room for it."""
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free > 900e9:
            print("skipped: this disk has room for all of MiniMax-VL-01")
            sys.exit(77)
        source, out = os.path.join(folder, "source"), os.path.join(folder, "copy")
        subprocess.run([sys.executable, os.path.join(GOLDEN, "released_checkpoint.py"), source], check=True, timeout=60)
        told = run(1, "shard", source, "--out", out, "--tp", "8", "--ep", "8", "--vision-ranks", "1")
        found = re.search(r"too little room: 9 rank files of together (\d+) bytes.* (\d+) bytes needed, (\d+) free, (\d+) short", told)
        assert found, told
        files, needed, free, short = map(int, found.groups())
        # The weights once, routers and norms on eight ranks, and less than a thousandth for headers and checksums.
        weights = 912_874_438_656 + 7 * 33_435_648
        assert weights < files < weights * 1.001 and needed - free == short, told
        assert not os.path.exists(out)


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
