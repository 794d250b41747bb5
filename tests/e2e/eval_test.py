#!/usr/bin/env python3
"""`fulger eval` against a server that answers what the test wants (never ours), and against our own.

    eval_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import base64
import http.server
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading

from fulger_process import Server, run_cases
from scratch_python import environment

BUILD, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])
FULGER = os.path.join(BUILD, "bin", "fulger")
CONVERT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "coordinator", "eval", "convert_parquet.py")
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tiny", "data")


class Stranger:
    """An OpenAI endpoint that knows some answers. `asked` holds the requests; `gate(n)` is called for the n-th question."""

    def __init__(self, answers, gate=lambda n: 200):
        self.answers, self.gate, self.asked, self.lock = answers, gate, [], threading.Lock()
        stranger = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, value):
                body = json.dumps(value).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:  # the asker has been killed
                    self.close_connection = True

            def do_GET(self):
                self.reply(200, {"object": "list", "data": [{"id": "stranger", "object": "model"}]})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stranger.lock:
                    stranger.asked.append(request)
                    number = len(stranger.asked)
                status = stranger.gate(number)
                if status != 200:
                    self.reply(status, {"error": {"message": "not now"}})
                    return
                content = request["messages"][0]["content"]
                text = content if isinstance(content, str) else content[-1]["text"]
                known = [answer for question, answer in stranger.answers.items() if question in text]
                self.reply(200, {"choices": [{"index": 0, "finish_reason": "stop", "message": {
                    "role": "assistant", "content": known[0] if known else "I do not know"}}]})

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def command(url, data, benchmark, out, *flags):
    return [FULGER, "eval", "--url", url, "--data", data, "--benchmark", benchmark, "--out", out, *flags]


def run(*args, code=0):
    done = subprocess.run(command(*args), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def summary(folder):
    with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
        return json.load(file)


def questions(count):
    return [{"id": f"q{i}", "question": f"Question {i:03}?", "answer": f"answer {i:03}", "category": "even odd".split()[i % 2]}
            for i in range(count)]


def write_jsonl(folder, lines):
    path = os.path.join(folder, "questions.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def case_eval_scores_and_reports():
    """The pictures of a TSV arrive as they are; scores, categories and the page follow from the answers."""
    data = os.path.join(DATA, "choice.tsv")
    with open(data, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    with Stranger({}) as stranger, tempfile.TemporaryDirectory() as out:
        # The right letter for a colour, and no letter for a shape: those are drawn at random.
        stranger.answers = {"What colour": "It must be (" + rows[0][7] + ")."}
        done = run(stranger.url, data, "ai2d", out, "--parallel", "3")
        assert len(stranger.asked) == len(rows), len(stranger.asked)
        sent = {part["image_url"]["url"].split(",", 1)[1] for r in stranger.asked
                for part in r["messages"][0]["content"] if part["type"] == "image_url"}
        assert sent == {row[1] for row in rows}
        assert all(base64.b64decode(s, validate=True).startswith(b"\x89PNG") for s in sent)
        colours = [row[7] for row in rows if row[8] == "colour"]
        result = summary(out)
        want = colours.count(rows[0][7]) / len(colours) if rows[0][8] == "colour" else None
        assert want is None or abs(result["categories"]["colour"]["score"] - want) < 1e-9, result
        assert result["guessed"] == sum(row[8] == "shape" for row in rows), result
        assert "overall" in done.stdout and "drawn at random" in done.stdout, done.stdout
        with open(os.path.join(out, "report.html"), encoding="utf-8") as file:
            page = file.read()
        lost = round(len(rows) * (1 - result["score"]))
        assert page.count("<article>") == lost and page.count("<img ") == lost, (lost, page.count("<article>"))


WRITE_PARQUET = """import pickle, sys, pyarrow, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(pickle.load(sys.stdin.buffer)), sys.argv[1])"""


def parquet_rows(png):
    """Per benchmark a question in the columns in which its authors publish it, and a response that scores 1."""
    picture = {"bytes": png, "path": None}
    return {
        "mmmu": ({"id": "validation_Art_1", "question": "Which is it? <image 1> <image 2>", "options": "['a cat', 'a dog']",
                  "explanation": "", "image_1": picture, "image_2": picture, "image_3": None, "img_type": "['Paintings']",
                  "answer": "B", "topic_difficulty": "Easy", "question_type": "multiple-choice", "subfield": "Drawing"}, "(B)", 2),
        "mmmu-pro": ({"id": "test_Art_2", "question": "Which part?", "options": "['k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't']",
                      "image_1": picture, "image_2": None, "answer": "J", "subject": "Art"}, "It is round. Answer: J", 1),
        "ai2d": ({"question": "Who eats whom?", "options": ["3", "2", "1", "0"], "answer": "1", "image": picture}, "B.", 1),
        "chartqa": ({"image": png, "query": "How much in 2001?", "label": ["100"], "human_or_machine": 0}, "104", 1),
        "docvqa": ({"questionId": "49153", "question": "What is the date?", "question_types": ["layout"], "image": picture,
                    "docId": 14465, "ucsf_document_id": "x", "answers": ["1/8/93", "8 January"]}, "8 january", 1),
        "ocrbench": ({"dataset": "IIIT5K", "question": "what is written?", "question_type": "Regular Text Recognition",
                      "answer": ["CENTRE"], "image": picture}, "It says Centre.", 1),
        "mathvista": ({"pid": "7", "question": "How far?", "image": "images/7.jpg", "decoded_image": picture, "choices": None,
                       "unit": "cm", "precision": 1.0, "answer": "2.5", "question_type": "free_form", "answer_type": "float",
                       "metadata": {"category": "math-targeted-vqa", "task": "geometry"}, "query": "Hint. How far?"}, "2.5", 1),
    }


def case_eval_of_published_parquet():
    """convert_parquet.py on the columns of each benchmark as published, and `fulger eval` on what it writes."""
    python = os.path.join(environment(BUILD, "pyarrow"), "python")
    png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
    for benchmark, (row, response, pictures) in parquet_rows(png).items():
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "part-0.parquet")
            subprocess.run([python, "-c", WRITE_PARQUET, file], input=pickle.dumps([row]), check=True)
            done = subprocess.run([python, CONVERT, folder, file], capture_output=True, text=True, check=True)
            assert "1 questions" in done.stdout, done.stdout
            with Stranger({"": response}) as stranger:
                run(stranger.url, os.path.join(folder, "questions.jsonl"), benchmark, os.path.join(folder, "out"))
                sent = [part["image_url"]["url"] for part in stranger.asked[0]["messages"][0]["content"]
                        if part["type"] == "image_url"]
            assert sent == ["data:image/png;base64," + base64.b64encode(png).decode()] * pictures, (benchmark, sent)
            result = summary(os.path.join(folder, "out"))
            assert result["count"] == 1 and result["score"] == 1 and not result.get("guessed"), (benchmark, result)


def case_eval_goes_on_after_a_kill():
    with tempfile.TemporaryDirectory() as folder:
        data = write_jsonl(folder, questions(40))
        out = os.path.join(folder, "out")
        reached, let_go = threading.Event(), threading.Event()

        def gate(number):
            if number == 25:
                reached.set()
                let_go.wait(60)
            return 200

        answers = {q["question"]: q["answer"] for q in questions(40) if q["id"] != "q7"}
        with Stranger(answers, gate) as stranger:
            process = subprocess.Popen(command(stranger.url, data, "exact", out, "--parallel", "1"),
                                       stderr=subprocess.PIPE, stdout=subprocess.PIPE)
            assert reached.wait(60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            let_go.set()
            done = run(stranger.url, data, "exact", out)
            assert "24 answers from an earlier run" in done.stderr, done.stderr
            assert len(stranger.asked) == 41, len(stranger.asked)  # the 25th twice, nothing else
            result = summary(out)
            assert result["count"] == 40 and abs(result["score"] - 39 / 40) < 1e-9, result
            assert abs(result["categories"]["odd"]["score"] - 19 / 20) < 1e-9, result
            # Asked again, nothing is left to ask; asked otherwise, the folder is refused.
            run(stranger.url, data, "exact", out)
            assert len(stranger.asked) == 41
            refused = run(stranger.url, data, "ocrbench", out, code=1)
            assert "another run" in refused.stderr, refused.stderr


def case_eval_waits_for_a_full_server():
    """429 is asked again, 400 ends the run and names the question; what was answered stays."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_jsonl(folder, questions(6))
        answers = {q["question"]: q["answer"] for q in questions(6)}
        with Stranger(answers, lambda n: 429 if n == 2 else 400 if n == 6 else 200) as stranger:
            out = os.path.join(folder, "out")
            failed = run(stranger.url, data, "exact", out, "--parallel", "1", code=1)
            assert "question q4" in failed.stderr and "400" in failed.stderr and "4 of 6" in failed.stderr, failed.stderr
            run(stranger.url, data, "exact", out, "--parallel", "1")
            assert summary(out)["score"] == 1, summary(out)


def case_eval_of_our_own_server():
    """Two layouts of one model score the same to the last answer."""
    found = []
    for flags in ((), ("--tp", "2", "--pp", "2", "--ep", "2")):
        with tempfile.TemporaryDirectory() as out, Server(FULGER, MODEL, "--weight-dtype", "f32", *flags) as server:
            server.wait_ready()
            run(f"http://127.0.0.1:{server.port}", os.path.join(DATA, "held_out.jsonl"), "ocrbench", out,
                "--max-tokens", "8", "--limit", "24")
            with open(os.path.join(out, "results.jsonl"), encoding="utf-8") as file:
                results = [json.loads(line) for line in file][1:]
            found.append({r["id"]: r["response"] for r in results})
    assert len(found[0]) == 24 and found[0] == found[1], found


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
