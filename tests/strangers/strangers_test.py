#!/usr/bin/env python3
"""Other people's programs against a server. See README.md.

    strangers_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import scratch_python  # noqa: E402
from fulger_process import Server, run_cases  # noqa: E402

BUILD, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])
FULGER = os.path.join(BUILD, "bin", "fulger")
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
           "OPENAI_API_KEY": "unused"}


def environment(*packages):
    """The bin folder of a Python with these packages: a given one, or one of the build folder."""
    given = os.environ.get("FULGER_STRANGERS_VENV")
    return os.path.join(given, "bin") if given else scratch_python.environment(BUILD, *packages)


def run(command, seconds=300):
    done = subprocess.run(command, cwd=HERE, env=OFFLINE, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        print(done.stdout[-3000:], done.stderr[-3000:])
        raise AssertionError(f"{command[0]} ended with {done.returncode}")
    return done.stdout


def case_langchain():
    programs = environment("langchain-openai")
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        print(run([os.path.join(programs, "python"), "langchain_client.py", f"http://127.0.0.1:{server.port}/v1"]))
        assert server.stop() == 0


def case_lm_eval():
    with tempfile.TemporaryDirectory() as folder:
        programs = environment("lm-eval[api]", "transformers")
        with Server(FULGER, MODEL) as server:
            server.wait_ready()
            url = f"http://127.0.0.1:{server.port}/v1"
            for name, model, more, options in (
                    ("fulger_words", "local-chat-completions", f"base_url={url}/chat/completions",
                     ["--apply_chat_template"]),
                    ("fulger_choices", "local-completions",
                     f"base_url={url}/completions,tokenizer_backend=huggingface,tokenizer={MODEL}", [])):
                out = os.path.join(folder, name)
                run([os.path.join(programs, "lm_eval"), "--model", model, "--model_args",
                     f"model=demo,num_concurrent=2,max_retries=1,{more}", "--tasks", name, "--include_path", "tasks",
                     "--output_path", out, "--log_samples", *options])
                found = glob.glob(os.path.join(out, "**", "results_*.json"), recursive=True)
                assert len(found) == 1, found
                with open(found[0], encoding="utf-8") as file:
                    results = json.load(file)["results"][name]
                print(name, results)
                value = next(v for key, v in results.items() if key.startswith(("exact_match,", "acc,")))
                assert 0 <= value <= 1, results
            assert server.stop() == 0


def case_guidellm():
    with tempfile.TemporaryDirectory() as folder:
        programs = environment("guidellm")
        with Server(FULGER, MODEL) as server:
            server.wait_ready()
            out = os.path.join(folder, "out.json")
            run([os.path.join(programs, "guidellm"), "run", "--backend",
                 f"kind=openai_http,target=http://127.0.0.1:{server.port},model=demo", "--profile",
                 "kind=concurrent,streams=2", "--constraint", "kind=max_requests,count=6", "--tokenizer",
                 f"kind=hf_auto,model={MODEL}", "--data", "kind=synthetic_text,prompt_tokens=40,output_tokens=12",
                 "--output", f"kind=json,path={out}", "--disable-console"])
            with open(out, encoding="utf-8") as file:
                report = json.load(file)
            totals = report["benchmarks"][0]["metrics"]["request_totals"]
            print("guidellm", totals)
            assert totals["successful"] == 6 and totals["errored"] == 0, totals
            assert server.stop() == 0


def case_processor():
    with tempfile.TemporaryDirectory() as folder:
        # Pillow 13 resizes in another order than the one that the model was trained with.
        programs = environment("transformers", "pillow<13", "numpy", "jinja2")
        with Server(FULGER, MODEL) as server:
            server.wait_ready()
            print(run([os.path.join(programs, "python"), "processor_client.py", f"http://127.0.0.1:{server.port}", MODEL,
                       os.path.join(BUILD, "bin", "picture_values"), folder]))
            assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
