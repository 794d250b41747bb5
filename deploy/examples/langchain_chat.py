#!/usr/bin/env python3
"""langchain_chat.py URL PICTURE MODEL: a chain over a picture with LangChain (pip install langchain-openai)."""
import base64
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI


def main():
    url, picture, name = sys.argv[1:4]
    with open(picture, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    prompt = ChatPromptTemplate.from_messages([
        ("system", "Answer in one sentence."),
        ("human", [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,{picture}"}},
                   {"type": "text", "text": "{question}"}])])
    model = ChatOpenAI(base_url=f"{url}/v1", api_key="unused", model=name, max_tokens=32, temperature=0)
    chain = prompt | model | StrOutputParser()
    for piece in chain.stream({"picture": data, "question": "What is in this picture?"}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
