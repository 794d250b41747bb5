#!/usr/bin/env python3
"""Small rules that keep the tree readable: file length, formatting, no stray large files, every header in the HDRS of a
library (the target check_headers compiles those alone)."""
import fnmatch
import os
import re
import shutil
import subprocess
import sys

MAX_LINES = 600
MAX_BYTES = 2_000_000
# Headers that cannot be compiled alone, and why.
NOT_ALONE = {
    "kernels/cpu/vec*.h": "one instruction set each; compiled with that set's flags only",
    "kernels/cpu/*_kernel.h": "loops over vec.h, included by one kernels_ISA.cc each",
    "tests/cuda_emulation/device.h": "a forced include of the emulated kernels, with what it includes",
    "tests/cuda_emulation/wmma.h": "included by device.h, after bfloat16",
    "deploy/cmake/tsan_protobuf.h": "a forced include of generated code, for the thread sanitizer",
}


def headers_of_libraries(files):
    """The HDRS of every fulger_library in the tree."""
    listed = set()
    for path in files:
        if os.path.basename(path) != "CMakeLists.txt":
            continue
        with open(path, encoding="utf-8") as file:
            text = re.sub("#.*", "", file.read())
        for call in re.findall(r"fulger_library\(([^)]*)\)", text):
            keyword = None
            for word in call.split():
                if word in ("NAME", "SRCS", "HDRS", "DEPS"):
                    keyword = word
                elif keyword == "HDRS":
                    listed.add(os.path.normpath(os.path.join(os.path.dirname(path), word)))
    return listed


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    files = [f for f in files if os.path.isfile(f)]
    errors = []
    sources = [f for f in files if f.endswith((".h", ".cc", ".cu", ".cuh"))]
    for path in sources:
        count = sum(1 for _ in open(path, encoding="utf-8"))
        if count > MAX_LINES:
            errors.append(f"{path}: {count} lines, at most {MAX_LINES}")
    for path in files:
        if os.path.getsize(path) > MAX_BYTES:
            errors.append(f"{path}: {os.path.getsize(path)} bytes, at most {MAX_BYTES}")
    headers = {f for f in files if f.endswith(".h")}
    alone = headers_of_libraries(files)
    for pattern in NOT_ALONE:
        matched = {f for f in headers if fnmatch.fnmatch(f, pattern)}
        if not matched - alone:
            errors.append(f"tests/lint/check_tree.py: NOT_ALONE names {pattern}, which no unlisted header matches")
        headers -= matched
    errors += [f"{path}: in the HDRS of no fulger_library, so nothing compiles it alone" for path in sorted(headers - alone)]
    formatter = shutil.which("clang-format")
    if formatter is None:
        errors.append("clang-format is missing: deploy/ci/install-deps.sh installs it")
    else:
        run = subprocess.run([formatter, "--dry-run", "-Werror", *sources], capture_output=True, text=True)
        if run.returncode != 0:
            bad = sorted({line.split(":")[0] for line in run.stderr.splitlines() if "error:" in line})
            errors += [f"{path}: not formatted (make format)" for path in bad]
    for error in errors:
        print(error)
    print(f"tree: {len(files)} files, {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
