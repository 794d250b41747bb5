"""Python environments with packages from PyPI, made for one test."""
import os
import subprocess
import sys

SKIPPED = 77  # ctest: SKIP_RETURN_CODE


def environment(folder, *packages):
    """The bin folder of a Python in `folder` with these packages, or the end of this test: skipped."""
    made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        made = subprocess.run([os.path.join(folder, "bin", "pip"), "install", "--quiet", "--retries", "1", "--timeout",
                               "20", *packages], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        print("SKIPPED: cannot install", *packages, "from PyPI:", (made.stderr or made.stdout)[-400:])
        sys.exit(SKIPPED)
    return os.path.join(folder, "bin")
