#!/usr/bin/env python3
"""openai_chat.py URL PICTURE: two turns about a picture with OpenAI's client (pip install openai), streamed."""
import base64
import sys

import openai


def main():
    url, picture = sys.argv[1:3]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")  # or a key of the server
    model = client.models.list().data[0].id
    with open(picture, "rb") as file:
        data = "data:image/jpeg;base64," + base64.b64encode(file.read()).decode()
    content = [{"type": "image_url", "image_url": {"url": data}}]
    messages = []
    for question in ("What is in this picture?", "Are you sure?"):
        content.append({"type": "text", "text": question})
        messages.append({"role": "user", "content": content})
        text = ""
        for chunk in client.chat.completions.create(model=model, messages=messages, max_tokens=32, temperature=0,
                                                    stream=True, stream_options={"include_usage": True}):
            for choice in chunk.choices:
                piece = choice.delta.content or ""
                print(piece, end="", flush=True)
                text += piece
            if chunk.usage:
                print(f"\n[{chunk.usage.prompt_tokens} + {chunk.usage.completion_tokens} tokens]")
        messages.append({"role": "assistant", "content": text})
        content = []


if __name__ == "__main__":
    main()
