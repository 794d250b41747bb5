#!/usr/bin/env python3
"""The HTTP API from end to end: real processes, the demo checkpoint.

    api_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import base64
import datetime
import ipaddress
import json
import math
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib

from batches import upload, wait_batch
from fulger_process import Server, certificate, run_cases, wait_metric

BUILD, MODEL = sys.argv[1], sys.argv[2]
FULGER = os.path.join(BUILD, "bin", "fulger")
FOUR_RANKS = ("--tp", "2", "--pp", "2")
PROMPT = "The quick brown fox jumps over the lazy dog, again and again."


def completion(**more):
    return {"model": "demo", "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **more}


def conversation(**more):
    return {"model": "demo", "messages": [{"role": "user", "content": "Answer in JSON."}], "max_tokens": 400, **more}


def close(a, b, tolerance=2e-4):
    return a is None and b is None or math.isclose(a, b, abs_tol=tolerance)


def check_prompt_scores(server):
    """What the model gave its own tokens while it wrote them is what it gives them as a prompt."""
    ids = server.ok("/tokenize", {"model": "demo", "prompt": PROMPT})["tokens"]
    written = server.ok("/v1/completions", completion(prompt=ids, logprobs=3, echo=True, seed=1))["choices"][0]
    values = written["logprobs"]["token_logprobs"]
    assert values[0] is None and len(values) == len(ids) + 8, written
    assert written["text"].startswith(PROMPT), written
    assert written["logprobs"]["text_offset"][0] == 0
    again = [token for token in ids]
    # The same tokens as a prompt. Their ids come from asking for one more token with prompt_logprobs.
    scored = server.ok("/v1/completions", completion(prompt=ids, prompt_logprobs=2, max_tokens=1))["choices"][0]
    scores = scored["prompt_logprobs"]
    assert scores[0] is None and len(scores) == len(ids), scores
    for position, entry in enumerate(scores[1:], 1):
        own = entry[str(again[position])]
        assert close(own["logprob"], values[position]), (position, own, values[position])
        likelier = [other for other in entry.values() if other["rank"] < own["rank"]]
        assert all(other["logprob"] >= own["logprob"] for other in likelier), entry
        assert 2 <= len(entry) <= 3 and any(other["rank"] == 1 for other in entry.values()), entry
        if own["rank"] == 1:
            assert own["logprob"] == max(other["logprob"] for other in entry.values())
    # Tokens that were generated: the text is read back as ids, where that gives the same text.
    tail = server.ok("/v1/completions", completion(prompt=ids, logprobs=0))["choices"][0]
    assert [round(x, 3) for x in tail["logprobs"]["token_logprobs"]] == [round(x, 3) for x in values[len(ids):]]
    return values


def case_prompt_logprobs():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        one = check_prompt_scores(server)
        # A prompt of one token has nothing to score.
        short = server.ok("/v1/completions", completion(prompt=[65], echo=True, logprobs=1, max_tokens=1))
        assert short["choices"][0]["logprobs"]["token_logprobs"][0] is None, short
        chat = server.ok("/v1/chat/completions", conversation(max_tokens=1, prompt_logprobs=0))
        assert chat["prompt_logprobs"][0] is None and len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]
        assert server.stop() == 0
    # Chunks and ranks do not change them.
    with Server(FULGER, MODEL, *FOUR_RANKS, "--weight-dtype", "f32", step_tokens=7) as server:
        server.wait_ready()
        for a, b in zip(one, check_prompt_scores(server)):
            assert close(a, b, 0.05), (a, b)
        assert server.stop() == 0


def case_scores_of_a_prompt_bypass_the_prefix_cache():
    """They need every row of the prompt: one that would hit an anchor gives all its scores, and nothing is cached."""
    story = "Once upon a time there was a prompt that was told again and again. " * 12
    with Server(FULGER, MODEL, "--anchors", "16", "--anchor-interval", "128") as server:
        server.wait_ready()

        def ask(**more):
            answer = server.ok("/v1/completions", completion(prompt=story, max_tokens=4, **more))
            return answer["choices"][0], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

        fresh, cached = ask(prompt_logprobs=1)  # nothing to hit yet
        count = len(fresh["prompt_logprobs"])
        assert cached == 0 and count > 100, (cached, count)
        assert ask()[1] == 0, "a scored prompt left an anchor"
        plain, cached = ask()
        assert cached > 128, f"{cached} of {count} tokens were cached: the anchor that the rest passes by"
        hits = server.metric("fulger_anchor_hits_total")

        again, cached = ask(prompt_logprobs=1)
        assert cached == 0 and again["prompt_logprobs"] == fresh["prompt_logprobs"], cached
        assert again["text"] == plain["text"]
        echoed, cached = ask(echo=True, logprobs=1)
        values = echoed["logprobs"]["token_logprobs"]
        assert cached == 0 and values[0] is None and len(values) == count + 4, (cached, len(values))
        for position, (value, entry) in enumerate(zip(values[1:count], fresh["prompt_logprobs"][1:]), 1):
            assert any(close(value, one["logprob"]) for one in entry.values()), (position, value, entry)
        assert echoed["text"] == story + plain["text"]

        # Streamed, all the same.
        pieces, usage = [], None
        body = completion(prompt=story, max_tokens=4, echo=True, logprobs=1, stream=True,
                          stream_options={"include_usage": True})
        answer = server.open("/v1/completions", body)
        for line in answer.read().decode().splitlines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                usage = event.get("usage") or usage
                for choice in event["choices"]:
                    pieces += (choice.get("logprobs") or {}).get("token_logprobs", [])
        answer.close()
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0, usage
        assert pieces == values, (len(pieces), len(values))

        # A conversation as well.
        talk = {"model": "demo", "messages": [{"role": "user", "content": story}], "max_tokens": 1, "temperature": 0}
        for expected in (False, True):
            details = server.chat(talk)["usage"]["prompt_tokens_details"]
            assert (details["cached_tokens"] > 100) == expected, details
        scored = server.chat({**talk, "prompt_logprobs": 0})
        assert scored["usage"]["prompt_tokens_details"]["cached_tokens"] == 0, scored["usage"]
        assert len(scored["prompt_logprobs"]) == scored["usage"]["prompt_tokens"] and None not in scored["prompt_logprobs"][1:]
        assert server.metric("fulger_anchor_hits_total") == hits + 1, "only the conversation without scores"
        assert ask()[1] > 128, "they are still there for others"
        assert server.stop() == 0


def case_a_cut_answer_is_continued_where_it_was_kept():
    """A client that left amid a long answer comes back with what it has seen: only the rest since the last anchor is run."""
    with Server(FULGER, MODEL, "--anchors", "16", "--anchor-interval", "64", "--block-size", "16") as server:
        server.wait_ready()
        letters = [server.ok("/tokenize", {"model": "demo", "prompt": letter})["tokens"][0] for letter in "abcdefgh"]
        talk = [{"role": "user", "content": "Tell me a long story."}]

        def body(messages, **more):
            return {"model": "demo", "messages": messages, "temperature": 0.7, "seed": 5, "allowed_token_ids": letters, **more}
        seen, stream = "", server.stream(body(talk, max_tokens=2000))
        while len(seen) < 300:
            seen += next(stream)["choices"][0]["delta"]["content"]
        stream.close()
        wait_metric(server, "fulger_state_slots_used", 0)
        prompt = server.ok("/tokenize", {"model": "demo", "messages": talk})["count"]
        kept = (prompt + 250) // 64 * 64
        partial = {"role": "assistant", "content": seen[:250]}
        for more, flags in (([partial], {"continue_final_message": True, "add_generation_prompt": False}),
                            ([partial, {"role": "user", "content": "Go on."}], {})):
            usage = server.chat(body(talk + more, max_tokens=4, explain_cache=True, **flags))["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] == kept, (kept, usage)
        assert server.metric("fulger_prefix_cache_hit_tokens_total") == 2 * kept
        # The same without the cache is the same.
        again = body(talk + [partial], max_tokens=30, continue_final_message=True, add_generation_prompt=False)
        cached = server.chat(again)
        scored = server.chat({**again, "prompt_logprobs": 0})
        assert scored["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 < cached["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert scored["choices"][0]["message"] == cached["choices"][0]["message"]
        assert server.stop() == 0


SCHEMA = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags", "next"], "properties": {
    "name": {"type": "string", "maxLength": 6}, "age": {"type": ["integer", "null"]},
    "kind": {"enum": ["cat", "dog"]}, "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    "next": {"anyOf": [{"type": "null"}, {"const": {"a": [1]}}]}}}


def check_schema(value):
    assert list(value) == [key for key in ("name", "age", "kind", "tags", "next") if key in value], value
    assert len(value["name"]) <= 6 and (value["age"] is None or isinstance(value["age"], int)), value
    assert value.get("kind", "cat") in ("cat", "dog") and len(value["tags"]) <= 3, value
    assert all(isinstance(tag, bool) for tag in value["tags"]) and value["next"] in (None, {"a": [1]}), value


def check_forms(server):
    """An untrained model writes noise: only the grammar makes JSON of it. Ages may be long, so some end by length."""
    complete = 0
    schema = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}}
    for seed in range(6):
        answer = server.chat(conversation(response_format=schema, seed=seed))["choices"][0]
        if answer["finish_reason"] == "stop":
            check_schema(json.loads(answer["message"]["content"]))
            complete += 1
    assert complete >= 3, complete
    # Any object: whether it ends is the model's choice; what there is begins as an object.
    answer = server.chat(conversation(response_format={"type": "json_object"}, max_tokens=40, seed=3))["choices"][0]
    assert answer["message"]["content"].startswith("{"), answer
    if answer["finish_reason"] == "stop":
        json.loads(answer["message"]["content"])
    # Streamed, and beside others that are free: the same text as alone.
    body = conversation(response_format=schema, seed=1)
    alone = server.chat(body)["choices"][0]["message"]["content"]
    free = server.stream(conversation(ignore_eos=True, max_tokens=60))
    next(free)
    text = "".join(choice["delta"].get("content") or "" for event in server.stream(body) if event != "[DONE]"
                   for choice in event["choices"])
    assert text == alone, (text, alone)
    assert list(free)[-1] == "[DONE]"


ORDER = {"type": "object", "additionalProperties": False, "required": ["day", "id", "from", "code", "count", "part", "pay"],
         "properties": {
             "day": {"type": "string", "format": "date"}, "id": {"type": "string", "format": "uuid"},
             "from": {"type": "string", "format": "ipv4"}, "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{2,4}$"},
             "count": {"type": "integer", "minimum": -20, "maximum": 1250, "multipleOf": 5},
             "part": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.001},
             "pay": {"oneOf": [
                 {"type": "object", "properties": {"by": {"const": "card"}, "last": {"type": "string", "pattern": "^\\d{4}$"}},
                  "required": ["by", "last"], "additionalProperties": False},
                 {"type": "object", "properties": {"by": {"const": "cash"}}, "required": ["by"],
                  "additionalProperties": False}]}}}


def check_order(order):
    datetime.date.fromisoformat(order["day"])
    assert str(uuid.UUID(order["id"])) == order["id"].lower(), order
    ipaddress.IPv4Address(order["from"])
    assert re.fullmatch("[A-Z]{2}-[0-9]{2,4}", order["code"]), order
    assert -20 <= order["count"] <= 1250 and order["count"] % 5 == 0, order
    assert 0 < order["part"] <= 1 and abs(order["part"] * 1000 - round(order["part"] * 1000)) < 1e-9, order
    if order["pay"]["by"] == "card":
        assert re.fullmatch("[0-9]{4}", order["pay"]["last"]), order
    else:
        assert order["pay"] == {"by": "cash"}, order


def check_formats(server):
    def asked(schema, **more):
        return conversation(response_format={"type": "json_schema", "json_schema": {"name": "order", "schema": schema}}, **more)
    paid = set()
    for seed in range(8):
        answer = server.chat(asked(ORDER, seed=seed, temperature=1.0))["choices"][0]
        if answer["finish_reason"] != "stop":  # white space without end is valid, and noise may write it
            continue
        order = json.loads(answer["message"]["content"])
        check_order(order)
        paid.add(order["pay"]["by"])
    assert paid, "no order was complete"
    for schema, param, words in (
            ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf", "members 0 and 1"),
            ({"type": "string", "pattern": "(a|b)*a(a|b){30}"}, "pattern", "too large"),
            ({"type": "string", "pattern": "(?=a)b"}, "pattern", "look-ahead"),
            ({"type": "string", "format": "regex"}, "format", "expected one of"),
            ({"type": "integer", "minimum": 4, "maximum": 3}, "", "nothing can satisfy")):
        status, answer = server.post("/v1/chat/completions", asked(schema))
        assert status == 400 and words in answer["error"]["message"], answer
        assert answer["error"]["param"] == "response_format.json_schema.schema" + (f".{param}" if param else ""), answer
    # An expression that others would never be done with.
    answer = server.chat(asked({"type": "string", "pattern": "^(a+)+$", "maxLength": 40}, max_tokens=60))["choices"][0]
    assert re.fullmatch("a{1,40}", json.loads(answer["message"]["content"])), answer


TOOLS = [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Cluj", "Iasi"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"]}}},
    {"type": "function", "function": {"name": "stop", "strict": True, "parameters": {
        "type": "object", "properties": {}, "additionalProperties": False}}}]


def check_call(call):
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "stop":
        assert arguments == {}, call
    else:
        assert call["function"]["name"] == "weather" and arguments["city"] in ("Cluj", "Iasi"), call
        assert arguments["days"] in (1, 2), call


def check_tools(server):
    named = {"type": "function", "function": {"name": "weather"}}
    answer = server.chat(conversation(tools=TOOLS, tool_choice=named))["choices"][0]
    assert answer["finish_reason"] == "tool_calls" and len(answer["message"]["tool_calls"]) == 1, answer
    assert answer["message"]["content"] is None, answer
    call = answer["message"]["tool_calls"][0]
    assert call["function"]["name"] == "weather" and call["id"] and call["type"] == "function", call
    check_call(call)
    for seed in range(4):
        one = server.chat(conversation(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed))
        assert len(one["choices"][0]["message"]["tool_calls"]) == 1, one
        check_call(one["choices"][0]["message"]["tool_calls"][0])
    several = server.chat(conversation(tools=TOOLS, tool_choice="required", max_tokens=300, seed=5))["choices"][0]
    for call in several["message"]["tool_calls"][:-1]:  # the last may be cut
        check_call(call)
    # A form beside tools: calls, or a value of it.
    kinds = set()
    pet = {"type": "json_schema", "json_schema": {"name": "pet", "schema": {"enum": ["cat", "dog"]}}}
    for seed in range(12):
        answer = server.chat(conversation(tools=TOOLS, response_format=pet, seed=seed, temperature=2))["choices"][0]
        kinds.add(answer["finish_reason"])
        if answer["finish_reason"] == "stop":
            assert json.loads(answer["message"]["content"]) in ("cat", "dog"), answer
        elif answer["finish_reason"] == "tool_calls":
            for call in answer["message"]["tool_calls"]:
                check_call(call)
    assert kinds >= {"stop", "tool_calls"}, kinds
    # Streamed: the pieces joined are the whole.
    body = conversation(tools=TOOLS, tool_choice=named, seed=7)
    whole = server.chat(body)["choices"][0]["message"]["tool_calls"][0]["function"]
    name, arguments, pieces = "", "", 0
    for event in server.stream(body):
        for choice in event["choices"] if event != "[DONE]" else ():
            for piece in choice["delta"].get("tool_calls", ()):
                assert piece["index"] == 0
                name += piece["function"].get("name", "")
                arguments += piece["function"]["arguments"]
                pieces += 1
    assert (name, arguments) == (whole["name"], whole["arguments"]) and pieces > 1, (name, arguments, pieces)
    # The result goes into the next turn.
    server.chat({"model": "demo", "max_tokens": 4, "tools": TOOLS, "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "id": "call_1"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "{\"sun\": true}"}]})


def case_answers_follow_their_form():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        check_forms(server)
        check_tools(server)
        check_formats(server)
        for schema, param in (({"type": "string", "contentEncoding": "base64"}, ".contentEncoding"), ({"enum": []}, ""),
                              ({"$ref": "#"}, ""), ({"type": "array", "items": {"format": "iri"}}, ".items.format")):
            status, answer = server.post("/v1/chat/completions", conversation(
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
            assert status == 400, answer
            assert answer["error"]["param"] == "response_format.json_schema.schema" + param, answer
        assert server.stop() == 0
    with Server(FULGER, MODEL, *FOUR_RANKS) as server:
        server.wait_ready()
        check_forms(server)
        check_formats(server)
        check_tools(server)
        assert server.stop() == 0


def case_keys_certificates_and_limits():
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        certificate(folder)

        def keys(text):
            with open(path("keys"), "w", encoding="utf-8") as file:
                file.write(text)

        keys("alice a1 max-requests=1\nbob b1\ndora d1 max-tokens=60\n")
        with Server(FULGER, MODEL, "--api-keys-file", path("keys"), "--tls-certificate", path("cert.pem"), "--tls-key",
                    path("key.pem"), "--max-sequences", "1", "--max-queued-requests", "2") as server:
            server.trust(path("cert.pem"))
            server.wait_ready()
            assert server.post("/v1/completions", completion())[0] == 401
            server.key = "a1"
            long = completion(max_tokens=3000, stream=True)
            first = server.open("/v1/completions", long)
            first.readline()
            # One of alice's runs, and she may have one.
            status, answer, headers = server.call("POST", "/v1/completions", completion())
            assert status == 429 and "alice has 1 requests" in answer["error"]["message"], answer
            assert int(headers["Retry-After"]) >= 1, headers
            # Two of bob's wait, and no more may.
            server.key = "b1"
            waiting = [server.open("/v1/completions", long, wait=False) for _ in range(2)]
            wait_metric(server, "fulger_requests_waiting", 2)
            status, answer, headers = server.call("POST", "/v1/completions", completion())
            assert status == 429 and "2 requests are waiting" in answer["error"]["message"], answer
            assert int(headers["Retry-After"]) >= 1, headers
            # A client that leaves makes room, streaming or not, waiting or running.
            waiting[0].close()
            wait_metric(server, "fulger_requests_waiting", 1)
            first.close()
            wait_metric(server, "fulger_requests_waiting", 0)
            waiting[1].close()
            wait_metric(server, "fulger_state_slots_used", 0)
            # Dora's prompts may have 60 tokens together; one alone may be longer.
            server.key = "d1"
            hers = server.open("/v1/completions", long)
            hers.readline()
            status, answer, headers = server.call("POST", "/v1/completions", completion())
            assert status == 429 and "dora has" in answer["error"]["message"] and "tokens" in answer["error"]["message"], answer
            assert int(headers["Retry-After"]) >= 1, headers
            hers.close()
            wait_metric(server, "fulger_state_slots_used", 0)
            server.key = "b1"
            whole = server.open("/v1/completions", completion(max_tokens=3000), wait=False)
            wait_metric(server, "fulger_state_slots_used", 1)
            whole.close()
            wait_metric(server, "fulger_state_slots_used", 0)
            # Time that is up ends a request as well.
            status, answer, headers = server.call("POST", "/v1/completions", completion(max_tokens=3000),
                                                  {"x-request-timeout": "0.3"})
            assert status == 504 and headers["x-should-retry"] == "false", (status, answer)
            wait_metric(server, "fulger_state_slots_used", 0)
            connection = server.connect()  # the same amid a stream
            connection.request("POST", "/v1/completions", json.dumps(long), server.headers({"x-request-timeout": "0.3"}))
            events = connection.getresponse().read().decode().split("\n\n")
            connection.close()
            assert events[-2:] == ["data: [DONE]", ""] and "time is up" in events[-3] and '"error"' in events[-3], events[-3:]
            wait_metric(server, "fulger_state_slots_used", 0)
            # SIGHUP reads the keys again; a file that is wrong changes nothing.
            keys("carol c1\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_line("SIGHUP: keys and certificate read")
            assert server.post("/v1/completions", completion())[0] == 401
            server.key = "c1"
            assert server.post("/v1/completions", completion())[0] == 200
            keys("carol\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_line("SIGHUP: the API keys stay as they were")
            assert server.post("/v1/completions", completion())[0] == 200
            # And the certificate: who trusts the new one alone gets in from then on.
            keys("carol c1\n")
            certificate(folder)
            server.trust(path("cert.pem"))
            try:
                server.get("/health")
            except ssl.SSLError as error:
                assert "certificate verify failed" in str(error), error
            else:
                raise AssertionError("the new certificate was there before SIGHUP")
            before = sum("SIGHUP: keys and certificate read" in line for line in server.lines)
            server.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 20
            while sum("SIGHUP: keys and certificate read" in line for line in list(server.lines)) == before:
                assert time.monotonic() < end
                time.sleep(0.02)
            assert server.post("/v1/completions", completion())[0] == 200
            assert server.stop() == 0


def case_a_batch_survives_a_kill():
    lines = [{"custom_id": f"c{i}", "method": "POST", "url": "/v1/completions",
              "body": completion(prompt=f"{i}", max_tokens=150)} for i in range(40)]
    lines[7]["body"]["temperature"] = -1
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--jobs-db", os.path.join(folder, "jobs.db"), "--batch-concurrency", "4")
        with Server(FULGER, MODEL, *flags) as server:
            server.wait_ready()
            file = upload(server, "\n".join(json.dumps(line) for line in lines))
            batch = server.ok("/v1/batches", {"input_file_id": file, "endpoint": "/v1/completions",
                                              "completion_window": "24h"})["id"]
            before = wait_batch(server, batch, lambda shown: shown["request_counts"]["completed"] >= 6)
            assert before["status"] == "in_progress", before
            server.process.kill()
            server.process.wait(20)
        with Server(FULGER, MODEL, *flags) as server:
            server.wait_ready()
            counts = server.call("GET", f"/v1/batches/{batch}")[1]["request_counts"]
            assert counts["completed"] >= before["request_counts"]["completed"], (before, counts)
            # SIGTERM amid a batch does not wait for it.
            wait_batch(server, batch, lambda shown: shown["request_counts"]["completed"] >= counts["completed"] + 4)
            assert server.stop(20) == 0
        with Server(FULGER, MODEL, *flags) as server:
            server.wait_ready()
            done = wait_batch(server, batch, lambda shown: shown["status"] == "completed")
            assert done["request_counts"] == {"total": 40, "completed": 39, "failed": 1}, done
            output = server.call("GET", f"/v1/files/{done['output_file_id']}/content")[1].decode().splitlines()
            output = [json.loads(line) for line in output]
            assert [line["custom_id"] for line in output] == [f"c{i}" for i in range(40) if i != 7]
            alone = server.ok("/v1/completions", lines[20]["body"])["choices"][0]["text"]
            assert output[19]["response"]["body"]["choices"][0]["text"] == alone
            errors = server.call("GET", f"/v1/files/{done['error_file_id']}/content")[1]
            assert json.loads(errors)["response"]["body"]["error"]["param"] == "temperature", errors
            second = subprocess.run([FULGER, "serve", "--model", MODEL, "--listen", "127.0.0.1:0", *flags],
                                    capture_output=True, text=True, timeout=60, check=False)
            assert second.returncode == 1 and "another process has it open" in second.stderr, second
            assert server.stop() == 0


def png(width, height, rows):
    """A grey picture with a header of this size, as a data URL."""
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND"):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return "data:image/png;base64," + base64.b64encode(data).decode()


def case_bad_clients_hold_up_nobody():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()

        def others_are_answered():
            server.ok("/v1/completions", completion())

        # Opened and left: more than the server keeps.
        left = []
        for _ in range(10000):
            left.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        others_are_answered()
        for connection in left:
            connection.close()
        # A head and a body that never end.
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(200)]
        for i, connection in enumerate(slow):
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" if i % 2 == 0 else
                               b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        others_are_answered()
        for connection in slow:
            connection.close()
        # Too much of everything.
        bomb = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        bomb.sendall(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 100) for i in range(1000)))
        assert bomb.recv(100).startswith(b"HTTP/1.1 431"), "a bomb of headers"
        huge = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        huge.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert huge.recv(100).startswith(b"HTTP/1.1 413"), "a huge body"
        deep = "[" * 100000 + "]" * 100000
        for body, words in (("{\"prompt\":" + deep + "}", "nested"), (deep, "nested"), ("{\"prompt\":\"\xff", "JSON"),
                            ('{"prompt":"a","prompt":"b"}', "twice"), ("", "empty")):
            status, answer, _ = server.call("POST", "/v1/completions", body.encode("latin-1"))
            assert status == 400 and words in answer["error"]["message"], answer
        # A small file that says it is a huge picture: judged by its header.
        picture = png(60000, 60000, bytes(64))
        status, answer, _ = server.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": picture}}]}]})
        assert status == 400 and "60000" in answer["error"]["message"], answer
        others_are_answered()
        assert server.get("/health/ready")[0] == 200
        assert server.stop() == 0


def case_a_server_that_drains_lets_nobody_in():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        stream = server.stream(conversation(max_tokens=4000, ignore_eos=True))
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        server.wait_status(503)
        status, answer, headers = server.call("POST", "/v1/completions", completion())
        assert status == 503 and "stopping" in answer["error"]["message"] and headers["Retry-After"], answer
        assert server.get("/health/live")[0] == 200
        events = list(stream)
        assert events[-1] == "[DONE]" and events[-2]["choices"][0]["finish_reason"] == "length", events[-2:]
        assert server.process.wait(60) == 0


def case_a_drain_that_takes_too_long_is_cut():
    """What has not ended within --drain-timeout is told so, streaming, waiting for a whole answer, or waiting for a place."""
    with Server(FULGER, MODEL, "--drain-timeout", "1", "--max-sequences", "2") as server:
        server.wait_ready()
        endless = {"max_tokens": 8000, "ignore_eos": True}
        stream = server.stream(conversation(**endless))
        next(stream)
        whole = [server.open("/v1/chat/completions", conversation(**endless), wait=False) for _ in range(2)]
        wait_metric(server, "fulger_requests_waiting", 1)
        server.process.send_signal(signal.SIGTERM)
        events = list(stream)
        assert events[-1] == "[DONE]" and "stopping" in events[-2]["error"]["message"], events[-2:]
        for connection in whole:
            answer = connection.getresponse()
            error = json.loads(answer.read())["error"]
            assert answer.status == 503 and answer.getheader("Retry-After") and "stopping" in error["message"], (answer.status, error)
            connection.close()
        assert server.process.wait(30) == 0
        server.wait_line("stopped")


def case_fields_reach_the_model():
    """Each field that shapes an answer does so through a real server; what is unknown is ignored, with a word in the debug log."""
    with Server(FULGER, MODEL, "--log-level", "debug", "--max-queued-requests", "5000") as server:
        server.wait_ready()
        info = server.info()
        assert {"version", "device", "transport", "layout", "dtypes", "limits", "ranks", "replicas"} <= set(info), info
        assert info["limits"]["max_queued_requests"] == 5000 and info["limits"]["max_context"] == 8192, info["limits"]
        ids = {letter: server.ok("/tokenize", {"model": "demo", "prompt": letter})["tokens"][0] for letter in "abcxyz"}
        ask = lambda **more: server.ok("/v1/completions", completion(**more))
        one = lambda **more: ask(**more)["choices"][0]
        few = {"allowed_token_ids": [ids[letter] for letter in "abc"], "temperature": 1, "max_tokens": 40}
        text = one(**few, seed=1)["text"]
        assert len(text) == 40 and set(text) <= set("abc") and len(set(text)) > 1, text
        assert text == one(**few, seed=1)["text"] != one(**few, seed=2)["text"]
        assert one(logit_bias={str(ids["x"]): 100})["text"] == "x" * 8
        assert "a" not in one(**few, seed=1, logit_bias={str(ids["a"]): -100})["text"]
        # Never the same letter twice; or the same one only.
        assert len(set(one(**{**few, "max_tokens": 3}, seed=1, frequency_penalty=2, logit_bias={str(i): 90 for i in few["allowed_token_ids"]},
                           presence_penalty=2, repetition_penalty=100)["text"])) == 3
        assert set(one(**few, seed=1, top_k=1)["text"]) == set(one(**few, seed=3, top_p=1e-6)["text"]) == set(
            one(**few, seed=4, min_p=1)["text"])
        # Ends: a string across tokens, with and without it; an id; and not before min_tokens.
        stop = text[11:14]
        at = text.index(stop)
        cut = one(**few, seed=1, stop=["never", stop])
        assert (cut["text"], cut["finish_reason"], cut["stop_reason"]) == (text[:at], "stop", stop), cut
        assert one(**few, seed=1, stop=stop, include_stop_str_in_output=True)["text"] == text[:at] + stop
        first_c = text.index("c")
        by_id = one(**few, seed=1, stop_token_ids=[ids["c"]])
        assert (by_id["text"], by_id["finish_reason"], by_id["stop_reason"]) == (text[:first_c], "stop", ids["c"]), by_id
        later = one(**few, seed=1, stop_token_ids=[ids["c"]], min_tokens=first_c + 3)
        assert len(later["text"]) >= first_c + 3 and "c" not in later["text"], later
        # Several answers and several prompts: each prompt counted once.
        several = ask(**few, seed=1, n=3)
        texts = [choice["text"] for choice in several["choices"]]
        assert texts[0] == text and len(set(texts)) == 3, texts
        assert several["usage"]["completion_tokens"] == 120
        assert several["usage"]["prompt_tokens"] == ask()["usage"]["prompt_tokens"]
        both = ask(**few, seed=1, prompt=[PROMPT, "Other."])
        assert both["choices"][0]["text"] == text and both["usage"]["completion_tokens"] == 80, both
        # The end of a long prompt, and the prompt again.
        short = ask(**few, seed=1, truncate_prompt_tokens=5)
        tail = server.ok("/tokenize", {"model": "demo", "prompt": PROMPT})["tokens"][-5:]
        assert short["usage"]["prompt_tokens"] == 5 and short["choices"][0]["text"] == one(**few, seed=1, prompt=tail)["text"]
        assert one(**few, seed=1, echo=True)["text"] == PROMPT + text
        chat = server.chat(conversation(max_tokens=3, logprobs=True, top_logprobs=2, ignore_eos=True))["choices"][0]
        assert len(chat["logprobs"]["content"]) == 3, chat
        for token in chat["logprobs"]["content"]:
            top = [entry["logprob"] for entry in token["top_logprobs"]]
            assert len(top) == 2 and top == sorted(top, reverse=True) and token["logprob"] <= 0, token
        # Streamed with the usage in every chunk, as guidellm asks for it.
        counts = [event["usage"]["completion_tokens"] for event in server.stream(conversation(
            max_tokens=5, ignore_eos=True, stream_options={"include_usage": True, "continuous_usage_stats": True})) if event != "[DONE]"]
        assert counts == [1, 2, 3, 4, 5, 5], counts
        body = {"model": "demo", "prompt": "x", "max_tokens": 1, "from_the_future": 1, "user": "u"}
        assert server.call("POST", "/v1/completions", body, {"x-request-id": "curious"})[0] == 200
        server.wait_line(r'request curious: fields that mean nothing here: \["from_the_future","user"\]', 20)
        assert server.stop() == 0


def case_kept_pictures_are_bounded():
    """By bytes: of many different pictures the last ones stay, and one of those is not encoded again."""
    with Server(FULGER, MODEL, "--feature-cache", "1", "--anchors", "0") as server:
        limit = server.wait_ready().info()["limits"]["feature_cache_bytes"]
        assert limit == 1 << 20, limit

        def show(grey):
            server.chat(conversation(max_tokens=1, messages=[{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": png(300, 200, (b"\x00" + bytes([grey]) * 300) * 200)}}, {"type": "text", "text": "?"}]}]))

        show(0)
        each = server.metric("fulger_feature_cache_bytes")
        room = int(limit // each)
        assert 1 < room < 200, (limit, each)
        for grey in range(1, room + 5):
            show(grey)
            assert server.metric("fulger_feature_cache_bytes") <= limit
        assert server.metric("fulger_pictures_kept") == room
        show(room + 4)  # the last one
        assert server.metric("fulger_pictures_encoded_total") == room + 5
        show(0)  # the first one had to go
        assert server.metric("fulger_pictures_encoded_total") == room + 6
        assert server.stop() == 0


def json_schema(schema, **more):
    return conversation(max_tokens=30, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, **more)


def hostile_bodies():
    """Requests that would be never done with, if they were taken at their word."""
    wide = {f"p{i}": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "(a|b)*a(a|b){9}"}]} for i in range(200)}
    deep = {"type": "string"}
    for _ in range(11):  # twice as long each time
        deep = {"type": "array", "maxItems": 50, "items": {"anyOf": [deep, {"type": "object", "properties": {"x": deep}}]}}
    yield "schemas within schemas, twice each", json_schema(deep)
    yield "many properties, each an automaton", json_schema({"type": "object", "properties": wide})
    yield "patterns that must all hold", json_schema(
        {"type": "string", "allOf": [{"pattern": f"(a|b)*a(a|b){{{n}}}c*"} for n in range(5, 12)]})
    yield "a schema that is itself", json_schema({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})
    yield "a schema that never ends", json_schema(
        {"$defs": {"a": {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"})
    yield "branches of branches", json_schema(
        {"$defs": {"a": {"anyOf": [{"allOf": [{"$ref": "#/$defs/b"}, {"minLength": n}]} for n in range(60)]},
                   "b": {"anyOf": [{"pattern": "x" * n} for n in range(1, 60)]}}, "$ref": "#/$defs/a"})
    yield "unique items", json_schema(
        {"type": "array", "uniqueItems": True, "items": {"enum": list(range(30))}, "minItems": 15})
    yield "long strings of a pattern", json_schema({"type": "string", "pattern": "^([a-z]{3,9} )+$", "minLength": 4000, "maxLength": 4096})
    for pattern in ("^(a+)+$", "^(a|aa)+$", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "((((a{1,40}){1,40}){1,40}){1,40})",
                    "(a?){200}a{200}", "[" + "".join(f"\\u{0x4000 + 3 * i:04x}" for i in range(2000)) + "]{1,50}"):
        yield f"pattern {pattern[:30]}", json_schema({"type": "string", "pattern": pattern})
    yield "an enum of many", json_schema({"enum": ["v" * 40 + str(i) for i in range(20000)]})
    yield "numbers of many steps", json_schema({"type": "number", "multipleOf": 0.000001, "minimum": 0, "maximum": 1e12})
    yield "many tools", conversation(max_tokens=20, tool_choice="required", tools=[
        {"type": "function", "function": {"name": f"f{i}", "strict": True, "parameters": {
            "type": "object", "properties": {"x": {"type": "string", "pattern": "(a|b)*a(a|b){7}"}}}}} for i in range(100)])
    yield "many choices", completion(n=128, max_tokens=2)
    yield "many stops", completion(stop=["s" * 2000 + str(i) for i in range(64)])
    yield "a text of one word", completion(prompt="a" * 2_000_000)
    yield "a text of marks", completion(prompt="'" * 300_000 + "\u0300" * 100_000)
    yield "arguments that are no JSON", {"model": "demo", "max_tokens": 2, "messages": [
        {"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{" * 50000}}]},
        {"role": "tool", "tool_call_id": "1", "content": "y"}]}


def case_hostile_requests_hold_up_nobody():
    with Server(FULGER, MODEL) as server:
        server.wait_ready()
        bodies = list(hostile_bodies())
        told, failed = {}, []

        def send(share):
            for name, body in share:
                begin = time.monotonic()
                try:
                    status, answer = server.post("/v1/chat/completions" if "messages" in body else "/v1/completions", body)
                    told[name] = (status, round(time.monotonic() - begin, 2), answer.get("error", {}).get("message", "")[:90])
                except Exception as error:  # a thread's error would be lost
                    failed.append((name, error))

        senders = [threading.Thread(target=send, args=(bodies[i::3],)) for i in range(3)]
        for sender in senders:
            sender.start()
        waits = []
        while any(sender.is_alive() for sender in senders):
            begin = time.monotonic()
            server.ok("/v1/completions", completion())
            assert server.get("/health/ready")[0] == 200
            waits.append(time.monotonic() - begin)
        for name, entry in told.items():
            print(*entry, name)
        print(f"{len(waits)} others were answered meanwhile, the slowest after {max(waits):.2f} s")
        assert not failed, failed
        assert len(told) == len(bodies)
        bad = {name: entry for name, entry in told.items() if entry[0] not in (200, 400)}
        assert not bad, bad
        wait_metric(server, "fulger_state_slots_used", 0)
        assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
