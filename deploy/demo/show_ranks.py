#!/usr/bin/env python3
"""show_ranks.py URL: a table of what every rank of a running server holds, from /v1/server_info."""
import json
import sys
import urllib.request

CACHES = ("kv", "slots", "arena")


def span(values):
    begin, end = values
    return "-" if end <= begin else str(begin) if end == begin + 1 else f"{begin}..{end - 1}"


def mib(count):
    return f"{count / 2**20:.2f}"


def main():
    with urllib.request.urlopen(sys.argv[1] + "/v1/server_info", timeout=10) as response:
        info = json.load(response)
    rows = [("rank", "pid", "stage", "layers", "heads", "KV heads", "experts", "vocabulary", "weights MiB",
             "read MiB", "caches MiB")]
    for rank in info["ranks"]:
        weights = sum(n for name, n in rank["bytes"].items() if name not in CACHES)
        caches = sum(n for name, n in rank["bytes"].items() if name in CACHES)
        if rank["role"] == "vision":
            held = ("vision",) + ("-",) * 5
        else:
            held = (str(rank["stage"]), span(rank["layers"]), span(rank["query_heads"]), span(rank["kv_heads"]),
                    span(rank["experts"]), span(rank["vocabulary"]))
        rows.append((str(rank["rank"]), str(rank["pid"]), *held, mib(weights), mib(rank["bytes_read"]), mib(caches)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    print(f"device {info['device']}, transport {info['transport']}, "
          f"fingerprint {info['model']['fingerprint'][:12]}; {info['ranks'][0]['description']}")


if __name__ == "__main__":
    main()
