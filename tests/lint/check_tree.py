#!/usr/bin/env python3
"""Small rules that keep the tree readable: file length, formatting, no stray large files."""
import os
import shutil
import subprocess
import sys

MAX_LINES = 600
MAX_BYTES = 2_000_000


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
