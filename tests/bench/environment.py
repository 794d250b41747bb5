"""Where the benchmarks keep things, and the peers' own virtual environment: nothing of either is in the tree."""
import os
import pathlib
import subprocess
import sys
import venv

CACHE = pathlib.Path(os.environ.get("FULGER_BENCH_CACHE",
                                    pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "fulger-bench"))
# Each is tried alone: a peer that cannot be had costs its own rows and no others. llama-cpp-python is built for this
# processor; minimax-01 needs 0.3.36 or newer.
PEERS = (["numpy", "pillow"], ["tokenizers"], ["torch", "transformers", "safetensors"],
         ["gguf", "llama-cpp-python>=0.3.36"])


def python():
    """The environment's interpreter, made on the first use (minutes: llama.cpp is compiled)."""
    folder = pathlib.Path(os.environ.get("FULGER_BENCH_VENV", CACHE / "venv"))
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        print(f"bench: making {folder}", flush=True)
        venv.create(folder, with_pip=True)
        env = dict(os.environ, CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF")
        for packages in PEERS:
            done = subprocess.run([interpreter, "-m", "pip", "install", "-q", *packages], env=env, check=False)
            if done.returncode != 0:
                print(f"bench: {' '.join(packages)} cannot be installed: their rows will be skipped", flush=True)
    return interpreter


def enter():
    """Goes on in the peers' environment."""
    wanted = python()
    if pathlib.Path(sys.prefix) != wanted.parent.parent:
        os.execv(wanted, [str(wanted), *sys.argv])
