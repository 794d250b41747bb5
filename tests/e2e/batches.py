"""Batches over HTTP."""
import time


def upload(server, content):
    form = ("--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; "
            f"name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--b--\r\n")
    status, answer, _ = server.call("POST", "/v1/files", form, {"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 200, answer
    return answer["id"]


def wait_batch(server, batch, done, seconds=120):
    end = time.monotonic() + seconds
    while True:
        shown = server.call("GET", f"/v1/batches/{batch}")[1]
        if done(shown):
            return shown
        assert time.monotonic() < end, shown
        time.sleep(0.02)
