#!/usr/bin/env python3
"""Forgets each barrier of the kernels in turn and runs the op suite on the emulated device: some order of the threads
must then give wrong values. A barrier that nobody misses is either not needed or not tested, and fails here.

    drop_barriers.py PROGRAM KERNELS [FILE[:LINE]]
"""
import os
import re
import subprocess
import sys

# The ops that use a file's kernels.
OPS = {
    "attention.cu": "*Attention*",
    "device_math.cuh": "*Norm*:*Gate*",
    "lightning_decode.cu": "*Lightning*",
    "lightning_prefill.cu": "*Lightning*",
    "moe.cu": "*Moe*",
    "product_f32.cu": "*Linear*:*Moe*",
    "product_tensor.cu": "*Linear*:*Moe*",
    "rope_cache.cu": "*Rope*",
    "router.cu": "*Router*",
}
# Barriers that the emulation cannot miss, and why they stay.
KEPT = {
    # Between them lie shuffles, which order the lanes here and no memory on a GPU.
    ("attention.cu", "__syncwarp();  // every lane has read run_max"),
    # Every split has positions, and with them the barriers of its runs.
    ("attention.cu", "__syncthreads();  // the sums, had the split no positions"),
}
ORDERS = ("backward", "forward", "random:1", "random:2")


def barriers(folder):
    for name in sorted(os.listdir(folder)):
        if not name.endswith((".cu", ".cuh")):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if re.search(r"\b__sync(threads|warp)\(\);", line.split("//")[0]):
                    yield name, number, line.strip()


def missed(program, place, ops):
    """The first order in which a test fails without that barrier."""
    for order in ORDERS:
        environment = dict(os.environ, FULGER_EMULATION_DROP=place, FULGER_EMULATION_ORDER=order, GTEST_FAIL_FAST="1",
                           FULGER_TEST_SEED="1", FULGER_REQUIRE_GPU="1",
                           GTEST_FILTER=":".join("Cuda/OpSuite." + op for op in ops.split(":")))
        if subprocess.run([program], env=environment, capture_output=True, check=False).returncode != 0:
            return order
    return None


def main():
    program, folder = sys.argv[1:3]
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    failed = 0
    count = 0
    for name, number, line in barriers(folder):
        if not f"{name}:{number}".startswith(wanted):
            continue
        count += 1
        order = missed(program, f"{name}:{number}", OPS[name])
        kept = (name, " ".join(line.split())) in {(n, " ".join(text.split())) for n, text in KEPT}
        result = f"missed, {order}" if order else "kept all the same" if kept else "NOT MISSED"
        print(f"{name}:{number:<4} {result:20} {line}", flush=True)
        failed += order is None and not kept
    print(f"{count} barriers, {failed} of them not missed by any order")
    return 1 if failed or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
