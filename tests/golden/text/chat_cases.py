"""Conversations rendered by transformers' own chat template code (jinja2 underneath)."""
import json

from transformers.utils.chat_template_utils import render_jinja_template

SYSTEM = "You are a helpful assistant created by MiniMax based on MiniMax-VL-01 model."
WEATHER = {"type": "function", "function": {
    "name": "get_current_weather", "description": "Get the latest weather for a location", "parameters": {
        "type": "object", "properties": {"location": {"type": "string", "description": "A certain city, such as 北京, Iași"},
                                         "days": {"type": "integer", "default": 3, "minimum": 1}},
        "required": ["location"]}}}
ODD = {"name": "odd", "strings": ["\"quoted\" \\ / \b\f\n\r\t \u0001\u001f\u007f\u2028 é 😀", "</script><b>&'"],
       "numbers": [0, -1, 1.0, -0.0, 0.1, 1e16, 1e15, 123456789012345680.0, 1e-5, 0.0001, 1.5e300, 5e-324, 12345678901234567890123,
                   -9223372036854775808, 18446744073709551615, 2.5, 100.0, 1e22],
       "z": None, "a": True, "m": {"b": {}, "a": [], "c": [[], {}, [1, [2, {"k": "v"}]]]}, "": False}


def text(value):
    return {"type": "text", "text": value}


IMAGE = {"type": "image"}


def call(ident, name, arguments):
    return {"id": ident, "name": name, "arguments": arguments}


def as_text(call_entry):
    """What the model writes for one call (the guide's "Model Function Call Output")."""
    return "<function_call>```typescript\nfunctions.%s(%s)\n```" % (call_entry["name"], call_entry["arguments"])


def cases():
    """(name, form, messages, tools, ending): True adds the generation prompt, "continue" leaves the last message open."""
    hello = [("system", [text(SYSTEM)]), ("user", [text("Hello!")])]
    yield "system_user", "vl01", hello, [], True
    yield "no_generation_prompt", "vl01", hello, [], False
    yield "empty", "vl01", [], [], True
    yield "nothing", "vl01", [], [], False
    yield "no_system", "vl01", [("user", [text("Salut, ce mai faci?")])], [], True
    yield "picture_first", "vl01", [("system", [text(SYSTEM)]), ("user", [IMAGE, text("Describe this image.")])], [], True
    yield "picture_last", "vl01", [("user", [text("What is this? "), IMAGE])], [], True
    yield "pictures_between", "vl01", [("user", [text("a"), IMAGE, text("b"), IMAGE, IMAGE, text("c\n")])], [], True
    yield "picture_only", "vl01", [("user", [IMAGE])], [], True
    yield "picture_from_assistant", "vl01", [("user", [text("draw")]), ("assistant", [IMAGE, text("done")]),
                                             ("user", [text("and?")])], [], True
    yield "no_parts", "vl01", [("system", []), ("user", []), ("assistant", [])], [], True
    yield "joined_parts", "vl01", [("user", [text("long"), text("word"), text(" 's"), text("\n\n"), text("\n")])], [], True
    yield "turns", "vl01", hello + [("assistant", [text("Hi. ")]), ("user", [text("1+1?")]), ("assistant", [text("2")]),
                                    ("user", [text("sure?")])], [], True
    yield "whitespace_edges", "vl01", [("system", [text("\n\n ")]), ("user", [text("\n  x  \n")]), ("assistant", [text(" ")])], [], True
    yield "unicode", "vl01", [("system", [text("你是一个助手。")]), ("user", [text("今天天气怎么样？ ⚡️👩‍💻 ŞȚîâă שלום مرحبا नमस्ते \u0000\u0007")])], [], True
    yield "jinja_in_text", "vl01", [("user", [text("{{ 7*7 }} {% raw %} {# no #} <b>&amp;\"'</b>")])], [], True
    yield "unknown_role", "vl01", hello + [("developer", [text("ignored")]), ("user", [text("?")])], [], True
    yield "tools", "vl01", hello, [WEATHER], True
    yield "tools_twice_no_prompt", "vl01", hello, [WEATHER, ODD], False
    yield "odd_tool", "vl01", hello, [ODD], True
    yield "function_result", "vl01", [
        ("user", [text("上海今天天气怎么样?")]),
        ("assistant", [], "", [call("c1", "get_current_weather", "{\"location\": \"上海\"}")]),
        ("function", [text("{\"temperature\": \"25\", \"weather\": \"晴 \\\"\"}")], "get_current_weather")], [WEATHER], True
    yield "two_calls", "vl01", [
        ("user", [text("both?")]), ("assistant", [text("Looking. ")], "", [call("x", "f", "{}"), call("y", "g", "{\"a\":[1]}")]),
        ("function", [text("1")], "f"), ("function", [text("null")], "g"), ("user", [text("so?")])], [WEATHER, ODD], True
    yield "function_text_result", "vl01", [("function", [text("plain, not JSON\n")], "f")], [], True
    yield "system_picture", "vl01", [("system", [IMAGE, text("logo")]), ("user", [text("see?")])], [], True
    yield "continued", "vl01", hello + [("assistant", [text("Sure, the answer")])], [], "continue"
    yield "continued_spaces", "vl01", hello + [("assistant", [text("List:\n\n- ")])], [], "continue"
    yield "text01_continued", "text01", hello + [("assistant", [text("1 2 3")])], [], "continue"
    yield "text01_hello", "text01", hello, [], True
    yield "text01_turns", "text01", hello + [("assistant", [text("Hi"), text(" there"), text("!")]), ("user", [text("bye")])], [], True
    yield "text01_tools", "text01", hello, [WEATHER, ODD], True
    yield "text01_function", "text01", hello + [("assistant", [text("```typescript\nfunctions.f({})\n```")]),
                                                ("function", [text("[1, 2]")], "f"), ("user", [text("so?")])], [WEATHER], False
    yield "text01_unicode", "text01", [("user", [text("Ünïcødé 龘 🫠\r\n\t")])], [], True


def message(entry):
    """role, content parts[, name[, tool calls]]"""
    out = {"role": entry[0], "content": entry[1]}
    if len(entry) > 2 and entry[2]:
        out["name"] = entry[2]
    if len(entry) > 3:
        out["tool_calls"] = entry[3]
    return out


def for_jinja(message_):
    """The templates know no tool_calls: the model's own spelling of them stands in the content."""
    calls = [text(as_text(c)) for c in message_.get("tool_calls", [])]
    return dict(message_, content=message_["content"] + calls)


def unwrapped(tool):
    return tool["function"] if tool.get("type") == "function" and isinstance(tool.get("function"), dict) else tool


def render_all(templates, tok):
    out = []
    for name, form, entries, tools, ending in cases():
        messages = [message(e) for e in entries]
        rendered, _ = render_jinja_template(
            [[for_jinja(m) for m in messages]], tools=[unwrapped(t) for t in tools] or None, chat_template=templates[form],
            add_generation_prompt=ending is True, continue_final_message=ending == "continue")
        out.append({"name": name, "form": form, "messages": messages, "add_generation_prompt": ending is True,
                    "continue_final_message": ending == "continue", "rendered": rendered[0],
                    # As a client would send them: other separators, escapes instead of characters.
                    "tools": [json.dumps(t, separators=(",", ":") if i % 2 else (" ,\n", "\t: ")) for i, t in enumerate(tools)],
                    "ids": tok.encode(rendered[0], add_special_tokens=False).ids})
    return out
