#!/usr/bin/env python3
"""Real MPI processes: the same greedy and seeded tokens from every layout, for text and for a picture.

mpi_layouts_test.py BIN_DIR CHECKPOINT PICTURE

Each run is a whole replica: coordinator, mpirun, one process per rank, gRPC and MPI between them. The single rank is
held to strangers' goldens elsewhere (tests/model); here every layout is held to the single rank. Weights are widened to
float32, the type in which layouts must agree.
"""
import json
import subprocess
import sys

# (tp, pp, ep, vision ranks)
LAYOUTS = [(2, 1, 2, 0), (4, 1, 2, 0), (8, 1, 4, 0), (1, 4, 1, 0), (2, 2, 2, 1), (4, 2, 4, 1)]
INT8_LAYOUTS = [(2, 1, 1, 0), (4, 1, 2, 0)]  # columns of experts cut over two ranks; cut and dealt out
STORED, INT8_EXPERTS, INT8 = (), ("--experts", "int8"), ("--experts", "int8", "--projections", "int8")
REQUESTS = {
    "text, greedy": ["--prompt", "The quick brown fox", "--temperature", "0", "--max-tokens", "48"],
    "picture, greedy": ["--prompt", "What is on it?", "--image", "PICTURE", "--temperature", "0", "--max-tokens", "32"],
    "text, seeded": ["--prompt", "Once upon a time", "--temperature", "0.8", "--top-p", "0.9", "--seed", "7",
                     "--max-tokens", "32"],
}
LIMIT_SECONDS = 60


def generate(bin_dir, checkpoint, layout, arguments, formats):
    tp, pp, ep, vision = layout
    command = [f"{bin_dir}/fulger", "generate", "--model", checkpoint, "--json", "--weight-dtype", "f32", "--threads", "1",
               *formats, "--max-context", "1024", "--tp", str(tp), "--pp", str(pp), "--ep", str(ep), "--vision-ranks", str(vision),
               *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nexited with {run.returncode}\n{run.stderr[-4000:]}")
    if "exiting improperly" in run.stderr:
        raise SystemExit(f"{' '.join(command)}\nranks did not finalise MPI:\n{run.stderr[-4000:]}")
    return json.loads(run.stdout)["ids"]


def main():
    bin_dir, checkpoint, picture = sys.argv[1:4]
    failed = 0
    runs = [(name, arguments, STORED, LAYOUTS) for name, arguments in REQUESTS.items()]
    runs.append(("text, int8 experts", REQUESTS["text, greedy"], INT8_EXPERTS, INT8_LAYOUTS))
    runs.append(("text, int8", REQUESTS["text, greedy"], INT8, INT8_LAYOUTS))
    for name, arguments, formats, layouts in runs:
        arguments = [picture if a == "PICTURE" else a for a in arguments]
        expected = generate(bin_dir, checkpoint, (1, 1, 1, 0), arguments, formats)
        if len(set(expected)) < 4:
            raise SystemExit(f"{name}: the answer {expected} is too uniform to tell layouts apart")
        for layout in layouts:
            ids = generate(bin_dir, checkpoint, layout, arguments, formats)
            same = ids == expected
            failed += not same
            print(f"{name:18} tp {layout[0]} pp {layout[1]} ep {layout[2]} vision {layout[3]}: "
                  f"{'same' if same else 'DIFFERENT'} {len(ids)} tokens", flush=True)
            if not same:
                print(f"  expected {expected}\n  found    {ids}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
