#!/usr/bin/env python3
"""wait_ready.py URL PID: waits until the server can generate, and prints each phase that it goes through."""
import json
import os
import sys
import time
import urllib.error
import urllib.request

DEADLINE_SECONDS = 120


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def running(pid):
    """False for a process that ended, also when its parent has not asked for its exit code yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def phases(url):
    status, body = get(url + "/v1/server_info")
    if status != 200:
        return "starting"
    counts = {}
    for rank in json.loads(body)["ranks"]:
        name = rank["phase"] if rank["joined"] else "launch"
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} of {sum(counts.values())} ranks: {name}" for name, count in sorted(counts.items()))


def main():
    url, pid = sys.argv[1], int(sys.argv[2])
    begin, last = time.monotonic(), None
    while time.monotonic() - begin < DEADLINE_SECONDS:
        if not running(pid):
            sys.exit("the server ended")
        now = phases(url)
        if now != last:
            print(f"{time.monotonic() - begin:5.1f} s  {now}", flush=True)
            last = now
        if get(url + "/health/ready")[0] == 200:
            print(f"{time.monotonic() - begin:5.1f} s  ready: {url}", flush=True)
            return
        time.sleep(0.05)
    sys.exit(f"not ready after {DEADLINE_SECONDS} s: {phases(url)}")


if __name__ == "__main__":
    main()
