#!/usr/bin/env python3
"""The HTTP API from end to end: real processes, the demo checkpoint.

    api_test.py BUILD_DIR CHECKPOINT CASE...      without cases: all of them
"""
import json
import math
import os
import sys
import time

from fulger_process import Server, run_cases

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
        for schema, param in (({"type": "string", "pattern": "(a+)+$"}, ".pattern"), ({"enum": []}, ""),
                              ({"$ref": "#"}, ""), ({"type": "array", "items": {"format": "date"}}, ".items.format")):
            begin = time.monotonic()
            status, answer = server.post("/v1/chat/completions", conversation(
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
            assert status == 400, answer
            assert answer["error"]["param"] == "response_format.json_schema.schema" + param, answer
            assert time.monotonic() - begin < 20
        assert server.stop() == 0
    with Server(FULGER, MODEL, *FOUR_RANKS) as server:
        server.wait_ready()
        check_forms(server)
        check_tools(server)
        assert server.stop() == 0


if __name__ == "__main__":
    run_cases(globals(), sys.argv[3:])
