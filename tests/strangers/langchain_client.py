"""langchain_client.py BASE_URL: LangChain's ChatOpenAI: plain, streaming, tools, structured output."""
import sys
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    young: bool


class GetWeather(BaseModel):
    """The weather of a city."""
    city: Literal["Cluj", "Iasi"]


def main():
    model = ChatOpenAI(base_url=sys.argv[1], api_key="unused", model="demo", temperature=0, max_tokens=60,
                       max_retries=0, timeout=100)
    answer = model.invoke("Hello")
    assert isinstance(answer, AIMessage) and answer.usage_metadata["output_tokens"] > 0, answer
    streamed = "".join(chunk.content for chunk in model.stream("Hello"))
    assert streamed == answer.content, (streamed, answer.content)

    pet = model.with_structured_output(Pet, method="json_schema").invoke("Name a pet")
    assert isinstance(pet, Pet), pet

    tools = model.bind_tools([GetWeather], tool_choice="any", strict=True, parallel_tool_calls=False)
    called = tools.invoke("Weather?")
    assert len(called.tool_calls) == 1 and called.tool_calls[0]["args"]["city"] in ("Cluj", "Iasi"), called
    merged = None
    for chunk in tools.stream("Weather?"):
        merged = chunk if merged is None else merged + chunk
    assert merged.tool_calls[0]["args"] == called.tool_calls[0]["args"], merged
    after = model.bind_tools([GetWeather]).invoke(
        [HumanMessage("Weather?"), called, ToolMessage("sunny", tool_call_id=called.tool_calls[0]["id"])])
    assert isinstance(after, AIMessage), after
    print("langchain-openai: ok")


if __name__ == "__main__":
    main()
