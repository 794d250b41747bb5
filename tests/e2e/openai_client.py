"""openai_client.py BASE_URL PICTURE_DATA_URL: OpenAI's own client against a server, plain and streaming."""
import datetime
import json
import sys

import openai


def main():
    base_url, picture = sys.argv[1:3]
    client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=100)
    model = client.models.list().data[0].id
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}},
                                             {"type": "text", "text": "What is this?"}]}]
    asked = {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0}
    answer = client.chat.completions.create(**asked)
    text = answer.choices[0].message.content
    assert 0 < answer.usage.completion_tokens <= 12, answer.usage

    streamed, usage = "", None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            streamed += choice.delta.content or ""
    assert streamed == text, (streamed, text)
    # The second time the prompt's beginning was cached.
    assert usage.prompt_tokens_details.cached_tokens > answer.usage.prompt_tokens_details.cached_tokens, usage
    counts = lambda u: (u.prompt_tokens, u.completion_tokens, u.total_tokens, u.prompt_tokens_details.image_tokens)
    assert counts(usage) == counts(answer.usage), (usage, answer.usage)

    completion = client.completions.create(model=model, prompt="Once", max_tokens=4, temperature=0)
    assert completion.usage.completion_tokens <= 4
    try:
        client.chat.completions.create(model=model, messages=messages, temperature=-1)
    except openai.BadRequestError as error:
        assert error.param == "temperature", error
    else:
        raise AssertionError("a negative temperature was accepted")
    for wrong, kind in ((dict(model="other", messages=messages), openai.NotFoundError),
                        (dict(model=model, messages="hi"), openai.BadRequestError)):
        try:
            client.chat.completions.create(**wrong)
        except kind as error:
            assert error.status_code in (400, 404) and error.body["message"] and error.request_id, error
        else:
            raise AssertionError(f"{wrong} was accepted")
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"],
              "additionalProperties": False}
    shaped = client.chat.completions.create(
        model=model, messages=messages, max_tokens=200, seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "day", "strict": True, "schema": schema}})
    if shaped.choices[0].finish_reason == "stop":  # white space without end is valid, and noise may write it
        datetime.date.fromisoformat(json.loads(shaped.choices[0].message.content)["day"])
    print(f"openai {openai.__version__}: ok")


if __name__ == "__main__":
    main()
