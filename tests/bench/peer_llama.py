#!/usr/bin/env python3
"""llama.cpp on a GGUF file, a repetition per line: `decode N`, `prefill N` or `logits N FILE`.  peer_llama.py GGUF THREADS"""
import statistics
import sys
import time

import llama_cpp
import numpy as np

from prompt import ids
from worker import serve


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    model = llama_cpp.Llama(model_path=path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
                            n_threads_batch=threads, use_mmap=False, verbose=False, logits_all=False)
    vocab = model.n_vocab()

    def handle(words):
        count = int(words[1])
        model.reset()
        if words[0] == "prefill":
            start = time.perf_counter()
            model.eval(ids(count, vocab))
            return {"seconds": time.perf_counter() - start}
        if words[0] == "logits":
            rows = []
            for token in ids(count, vocab):
                model.eval([token])
                rows.append(np.ctypeslib.as_array(llama_cpp.llama_get_logits(model.ctx), (vocab,)).copy())
            np.stack(rows).astype(np.float32).tofile(words[2])
            return {}
        model.eval(ids(4, vocab))
        times = []
        for token in ids(count, vocab):
            start = time.perf_counter()
            model.eval([token])
            times.append(time.perf_counter() - start)
        return {"seconds": statistics.median(times)}

    serve({"what": f"llama-cpp-python {llama_cpp.__version__}",
           "features": llama_cpp.llama_print_system_info().decode()}, handle)


if __name__ == "__main__":
    main()
