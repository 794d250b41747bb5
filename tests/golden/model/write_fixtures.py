#!/usr/bin/env python3
"""write_fixtures.py DIR: the checkpoint folders that C++ tests load (golden.h, CheckpointFolder). Run by the build."""
import os
import sys

import demo_checkpoint
import model_configs
import tiny_checkpoint

FIXTURES = {
    "g0": ("g0", {}),
    "g0_native": ("g0", {"native": True}),
    "g2": ("g2", {"shard_bytes": 2_000_000}),
    "g2_bf16": ("g2", {"dtype": "BF16", "shard_bytes": 1_000_000}),
    "g2_native": ("g2", {"native": True, "shard_bytes": 2_000_000}),
    "g4": ("g4", {}),
}


def main():
    for name, (model_id, options) in FIXTURES.items():
        tiny_checkpoint.write_checkpoint(model_configs.MODELS[model_id], os.path.join(sys.argv[1], name), **options)
    demo_checkpoint.write_demo(os.path.join(sys.argv[1], "demo"))


if __name__ == "__main__":
    main()
