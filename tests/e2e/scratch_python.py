"""Python environments with packages from PyPI, kept in the build folder: making one takes longer than most tests."""
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

SKIPPED = 77  # ctest: SKIP_RETURN_CODE
KEPT_SECONDS = 7 * 24 * 3600  # then the newest packages are asked for again


@contextlib.contextmanager
def locked(path):
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(build, *packages):
    """The bin folder of a Python with these packages, or the end of this test: skipped."""
    name = re.sub(r"\W+", "-", packages[0]) + "-" + hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:8]
    folder = os.path.join(os.path.abspath(build), "python", name)
    ready = os.path.join(folder, "ready")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with locked(folder + ".lock"):
        if not os.path.exists(ready) or time.time() - os.path.getmtime(ready) > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
            made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True, check=False)
            if made.returncode == 0:
                made = subprocess.run([os.path.join(folder, "bin", "pip"), "install", "--quiet", "--retries", "1", "--timeout",
                                       "20", *packages], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                print("SKIPPED: cannot install", *packages, "from PyPI:", (made.stderr or made.stdout)[-400:])
                sys.exit(SKIPPED)
            with open(ready, "w", encoding="utf-8"):
                pass
    return os.path.join(folder, "bin")
