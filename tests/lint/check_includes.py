#!/usr/bin/env python3
"""Holds the floors of the house: which folder may include which, and where vendor headers may appear.

The table below is the whole rule. A new upward edge fails here before it becomes a habit.
"""
import re
import subprocess
import sys

# folder -> folders that it may include (besides itself). The longest matching key wins.
ALLOWED = {
    "base": set(),
    "proto": set(),
    "model": {"base"},
    "kernels": {"base"},
    "monitoring/metrics": {"base"},
    "worker": {"base", "proto", "model", "kernels", "monitoring/metrics"},
    "coordinator": {"base", "proto", "model", "monitoring/metrics"},
    "deploy/examples": {"proto"},
    "tests": {"base", "proto", "model", "kernels", "worker", "coordinator", "monitoring/metrics"},
}
# vendor header prefix -> path prefixes in which it may be included
VENDOR = {
    "cuda_runtime": ["kernels/cuda/", "kernels/device/", "worker/comm/nccl", "tests/cuda_emulation/"],
    "cublas": ["kernels/cuda/", "tests/cuda_emulation/"],
    "kernels/cuda/": ["kernels/cuda/", "kernels/device/", "tests/cuda_emulation/"],
    "nccl.h": ["worker/comm/nccl"],
    "mpi.h": ["worker/comm/mpi", "worker/service/launcher"],
    "grpcpp/": ["worker/service/", "coordinator/api/", "coordinator/cluster/", "coordinator/cli/", "tests/", "deploy/examples/"],
    "prometheus/": ["monitoring/metrics/"],
    "boost/": ["coordinator/api/", "coordinator/bench/", "coordinator/cli/", "tests/"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def folder_of(path, table):
    best = ""
    for key in table:
        if path.startswith(key + "/") and len(key) > len(best):
            best = key
    return best


def main():
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"],
        capture_output=True, text=True, check=True).stdout.split()
    errors = []
    for path in files:
        own = folder_of(path, ALLOWED)
        is_test = path.endswith("_test.cc") or path.startswith(("tests/", "kernels/suite/"))
        try:
            lines = open(path, encoding="utf-8").read().splitlines()
        except FileNotFoundError:  # removed in the working tree
            continue
        if path.endswith(".h") and "#pragma once" not in lines:
            errors.append(f"{path}: a header needs #pragma once")
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            header = match.group(1)
            target = folder_of(header, ALLOWED)
            if header.startswith("fulger/v1/"):
                target = "proto"
            if target and target != own:
                allowed = target in ALLOWED.get(own, set()) or (is_test and header.startswith(("tests/support/", "tests/golden/")))
                if not allowed:
                    errors.append(f"{path}:{number}: {own or '?'} must not include {header}")
            for prefix, places in VENDOR.items():
                if header.startswith(prefix) and not any(path.startswith(p) for p in places):
                    errors.append(f"{path}:{number}: {header} may appear only under {', '.join(places)}")
    for error in errors:
        print(error)
    if not files:
        print("no sources found")
        return 1
    print(f"include directions: {len(files)} files, {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
