"""What the tests of jobs ask the servers in them, and read in their logs."""
import json
import os
import socket
import urllib.request


def ask(port, model, tokens, **more):
    body = {"model": os.path.basename(model), "messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens,
            "temperature": 0, "ignore_eos": True, **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def requests_for(model, example, path):
    """Writes a file of requests, made from an example, that asks this model; the ids in it."""
    with open(example, encoding="utf-8") as file:
        requests = [json.loads(line) for line in file]
    with open(path, "w", encoding="utf-8") as file:
        for request in requests:
            request["body"]["model"] = os.path.basename(model)
            file.write(json.dumps(request) + "\n")
    return [request["custom_id"] for request in requests]


def log_text(path):
    """What a job has written so far."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def free_ports():
    """The first of two that follow each other: a job's API, and its control port."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("0.0.0.0", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("0.0.0.0", port + 1))
            except (OSError, OverflowError):
                continue
            return port
