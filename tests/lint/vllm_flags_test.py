#!/usr/bin/env python3
"""vllm_flags_test.py FULGER TABLE: every flag that the table's second column names is one of `fulger serve --help`."""
import re
import subprocess
import sys


def main():
    fulger, table = sys.argv[1:3]
    text = subprocess.run([fulger, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"--[a-z][a-z0-9-]*", text)) | {"--config"}  # --config is taken before parsing
    assert "--config FILE" in text, "the help tells of --config"
    rows, named, theirs = 0, set(), []
    with open(table, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if len(cells) != 3 or set(cells[0]) <= {"-"} or cells[1] == "`fulger serve`":
                continue
            rows += 1
            flags = re.findall(r"`(--[a-z0-9-]+)`", cells[1])
            assert flags or cells[1] == "none", f"neither a flag nor none: {line}"
            unknown = [flag for flag in flags + re.findall(r"`(--[a-z0-9-]+)`", cells[2]) if flag not in known]
            assert not unknown, f"{unknown}: no flag of fulger serve"
            named.update(flags)
            theirs += re.findall(r"`(-[a-z0-9-]+)`", cells[0])
    assert rows > 25 and len(theirs) == len(set(theirs)), [flag for flag in theirs if theirs.count(flag) > 1]
    print(f"{rows} rows, {len(named)} flags of Fulger, all there")


if __name__ == "__main__":
    main()
