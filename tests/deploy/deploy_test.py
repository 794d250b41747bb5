#!/usr/bin/env python3
"""What deploy/ and monitoring/ ship, held to linters of others and to the programs' own flags.

    deploy_test.py BUILD_DIR SOURCE_DIR CASE...
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from fulger_process import run_cases  # noqa: E402

BUILD, SOURCE = (os.path.abspath(p) for p in sys.argv[1:3])


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def is_script(path):
    with open(path, "rb") as file:
        return file.readline().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh", b"#!/bin/bash"))


# Files that are only sourced are read with the scripts that do.
def case_shell_scripts():
    if shutil.which("shellcheck") is None:
        skip("no shellcheck (deploy/ci/install-deps.sh shellcheck)")
    scripts = [os.path.join(folder, name) for top in ("deploy", "monitoring") for folder, _, names in os.walk(os.path.join(SOURCE, top))
               for name in names if is_script(os.path.join(folder, name))]
    assert len(scripts) > 10, scripts
    run = subprocess.run(["shellcheck", "--severity=warning", "--external-sources", f"--source-path={SOURCE}", *scripts], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    print(f"{len(scripts)} scripts")


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
