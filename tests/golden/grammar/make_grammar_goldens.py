#!/usr/bin/env python3
"""Writes cases.json: schemas, and what jsonschema (PyPI, with format checks) says of texts.

    pip install 'jsonschema[format-nongpl]'; make_grammar_goldens.py

Of each schema: texts that are valid and that the grammar must be able to write (`must`), and texts that are invalid and
that it must never write (`never`): the listed ones, and random changes of the good ones. A schema that is "exact" has one
spelling for each value, so there every valid change must be written as well.
"""
import json
import os
import random
import re

from jsonschema import Draft202012Validator, ValidationError, validators

HERE = os.path.dirname(os.path.abspath(__file__))
CHANGES = 60
LETTERS = '0123456789-+.:/eETZPDMYSWH"\\ aAfFgz@~[]{},é\n'


def strings(*texts):
    return [json.dumps(text, ensure_ascii=False) for text in texts]


def form(name):
    return {"type": "string", "format": name}


def pattern(text, **more):
    return {"type": "string", "pattern": text, **more}


TWO = "4a2c8c1e-0b5f-4d0e-9a57-0c1d2e3f4a5b"
# schema, exact, valid texts, other texts
CASES = [
    (form("date"), True, strings("2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01", "2023-04-30"),
     strings("2023-02-29", "1900-02-29", "2023-04-31", "2023-13-01", "2023-00-10", "2023-1-1", "0000-01-01", "2023-01-32")),
    (form("date-time"), False, strings("2024-02-29T23:59:59Z", "1985-04-12T00:00:00.123456789+01:30"),
     strings("2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00",
             "2024-01-01T00:60:00Z", "2024-01-01T00:00:00+25:00")),
    (form("time"), False, strings("23:59:59Z", "00:00:00.5-08:00"), strings("24:00:00Z", "23:59Z", "23:59:59", "1:00:00Z")),
    (form("duration"), False, strings("P1Y2M3DT4H5M6S", "PT0S", "P3W", "P1DT1M", "PT1H2M"),
     strings("P", "PT", "P1Y2D3M", "1D", "P1S", "PT1D")),
    (form("uuid"), False, strings(TWO, TWO.upper()), strings(TWO[:-1], TWO + "0", TWO.replace("-", ""), TWO.replace("4a", "4g"))),
    (form("ipv4"), True, strings("0.0.0.0", "255.255.255.255", "10.1.20.199", "249.250.99.100"),
     strings("256.1.1.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "1.2.3.1000")),
    (form("ipv6"), False, strings("::", "::1", "1::", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::"),
     strings(":", "1:2:3", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9", ":::", "g::")),
    (form("email"), False, strings("a@b", "first.last+tag@mail.example.com"), strings("a", "a.example.com")),
    (form("hostname"), False, strings("a", "example.com", "a-b.c-d.e", "x1.y2.z3.example.org"),
     strings("-a", "a-", "a..b", "a_b", ".a")),
    (form("uri"), False, strings("http://example.com", "https://a.b:8080/x/y?q=1&r=/2#top"),
     strings("example.com", "http//x", "http://a b", "://x")),
    (form("json-pointer"), False, strings("", "/a/b", "/~0~1/é", "//"), strings("a", "/~2", "/~")),
    ({"type": "string", "format": "date", "pattern": "^202[45]"}, True, strings("2024-05-06", "2025-12-01"),
     strings("2023-05-06", "2026-01-01")),
    (pattern("^[A-Z]{2}-\\d{3,5}$"), True, strings("AB-123", "ZZ-00000"), strings("AB-12", "A-123", "AB-123456", "xAB-123")),
    (pattern("b+"), True, strings("b", "aabbcc", "é\"b\\\n"), strings("", "a")),
    (pattern("^a|b$"), True, strings("a", "b", "ax", "xb", "ab"), strings("", "x", "xa", "bx")),
    (pattern("^(?:ab|a)(?:c|bcd)?$"), True, strings("a", "ab", "ac", "abc", "abcd", "abbcd"), strings("abcdc", "c")),
    (pattern("(a+)+$"), True, strings("a", "baaa"), strings("", "ab", "a" * 16 + "!")),
    (pattern("^(a|a)*(a|aa)+$"), True, strings("a", "a" * 12), strings("", "a" * 12 + "b")),
    (pattern("^(\\w+\\s?)*$"), False, strings("", "one two three", "a_1"), strings("one  two", "!", " a")),
    (pattern("^[^\\s\"]+$"), True, strings("a", "é-ß", "\\"), strings("", "a b", "\"", "a\n")),
    (pattern("^.{2,3}$"), False, strings("ab", "éßß", "\"\\"), strings("a", "abcd", "")),
    (pattern("^[\\u00e0-\\u00ff\\-\\]x]{2}$"), True, strings("éà", "-]", "xx"), strings("ab", "É-", "x")),
    (pattern("^[\\t\\u0001\\\\/\"]*$"), True, strings("\t", "\u0001\\/\"", ""), strings(" ", "\u0002", "t")),
    (pattern("^\\$\\{\\w+?\\}\\.$"), False, strings("${a}.", "${ab_1}."), strings("${}.", "${a}", "$a.")),
    (pattern("^(?<year>\\d{4})(?:-\\d\\d){0,2}$"), False, None, None),  # a named group in ECMA's spelling: no verdicts
    (pattern("^a*$", minLength=2, maxLength=4), True, strings("aa", "aaaa"), strings("a", "aaaaa", "ab")),
    (pattern("x", maxLength=2), True, strings("x", "ax", "xx"), strings("", "aax", "a")),
    ({"type": "integer", "minimum": 3, "maximum": 1250}, True, ["3", "9", "10", "99", "100", "999", "1000", "1249", "1250"],
     ["2", "1251", "0", "-3", "03", "1300", "2000", "10000"]),
    ({"type": "integer", "minimum": -15, "maximum": 7}, True, ["-15", "-10", "-9", "-1", "0", "7"], ["-16", "8", "10", "-20", "-100"]),
    ({"type": "integer", "exclusiveMinimum": 0}, True, ["1", "10", "12345678901234567890"], ["0", "-1", "-0"]),
    ({"type": "integer", "exclusiveMaximum": -1}, True, ["-2", "-10", "-99999"], ["-1", "0", "1"]),
    ({"type": "integer", "minimum": 2.5, "maximum": 4.5}, True, ["3", "4"], ["2", "5"]),
    ({"type": "integer", "multipleOf": 7}, True, ["0", "7", "-14", "49", "700"], ["1", "8", "-6", "71"]),
    ({"type": "integer", "multipleOf": 25, "minimum": 60, "maximum": 1000}, True, ["75", "100", "975", "1000"], ["50", "60", "1025", "80"]),
    ({"type": "number", "minimum": 0, "maximum": 1}, False, ["0", "1", "0.5", "0.999", "1.0", "1.000", "0.0", "0.10"],
     ["1.1", "-0.1", "1.0001", "2", "10", "0.5.5"]),
    ({"type": "number", "exclusiveMinimum": -1.25, "maximum": 10.05}, False,
     ["-1.24", "-1.2", "-1", "-0.5", "0", "9.99", "10", "10.0", "10.04", "10.05", "10.050"],
     ["-1.25", "-1.26", "-1.250", "-2", "10.051", "10.06", "10.1", "11"]),
    ({"type": "number", "minimum": 0.001}, False, ["0.001", "0.0010", "0.002", "0.01", "1", "123.5"], ["0", "0.0", "0.0009", "-1", "0.0001"]),
    ({"type": "number", "exclusiveMaximum": 0}, False, ["-1", "-0.5", "-0.001", "-123.25"], ["0", "-0", "-0.0", "1"]),
    ({"type": "number", "maximum": -2.5}, False, ["-2.5", "-2.51", "-3", "-10.0"], ["-2.4", "-2.49", "0", "2.5", "-1"]),
    ({"type": "number", "multipleOf": 0.25}, False, ["0", "0.25", "-1.5", "7.75", "3"], ["0.1", "0.3", "7.7"]),
    ({"type": "number", "multipleOf": 0.5, "minimum": 1, "exclusiveMaximum": 2}, False, ["1", "1.0", "1.5"], ["2", "1.25", "0.5"]),
    ({"minimum": 5}, False, ["5", "6.5"], ["4"]),
    ({"type": ["integer", "null", "string"], "minimum": 5, "pattern": "^a"}, False, ["5", "null", "\"ab\""], ["4", "\"b\""]),
    ({"oneOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}, {"type": "null"}]}, True, ["\"ab\"", "7", "null"], ["\"abc\"", "true"]),
    ({"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 7}]}, True, ["3", "-4", "7", "80"], ["4", "5", "6"]),
    ({"oneOf": [{"const": 1}, {"enum": [2, "x"]}]}, True, ["1", "2", "\"x\""], ["3"]),
    ({"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "$defs": {
        "cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["kind", "lives"], "additionalProperties": False},
        "dog": {"type": "object", "properties": {"kind": {"const": "dog"}, "name": pattern("^[A-Z][a-z]*$")},
                "required": ["kind", "name"], "additionalProperties": False}}}, False,
     ['{"kind":"cat","lives":9}', '{"kind":"dog","name":"Rex"}', '{"kind": "dog", "name": "R"}'],
     ['{"kind":"cat","lives":10}', '{"kind":"cat","name":"Rex"}', '{"kind":"dog","name":"rex"}', '{"kind":"cow"}', '{"lives":1}']),
    # Tuples.
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}}, False,
     ["[]", "[1]", '[1,"a"]', '[1,"a",null]', '[1, "", null, null]'], ['["a"]', "[1,2]", '[1,"a",3]', "[null]"]),
    ({"type": "array", "prefixItems": [{"enum": ["a", "b"]}, {"type": "boolean"}], "items": False, "minItems": 1}, True,
     ['["a"]', '["b",true]'], ["[]", '["a",true,1]', '["c"]', '["a",1]']),
    ({"prefixItems": [{"type": "null"}, True, {"const": 3}], "minItems": 3, "maxItems": 4}, False,
     ["[null,1,3]", '[null,"x",3,[]]'], ["[null,1]", "[null,1,4]", "[null,1,3,1,1]"]),
    ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "maxItems": 1}, True, ["[]", "[7]"], ["[7,\"a\"]", '["a"]']),
    ({"prefixItems": [{"type": "integer"}, {"type": "integer"}], "minItems": 1, "items": {"type": "string"}}, False,
     ["[1]", "[1,2]", '[1,2,"a","b"]'], ["[]", '[1,"a"]', "[1,2,3]"]),
    # Items that differ.
    ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True}, True,
     ["[]", '["a"]', '["c","a"]', '["b","c","a"]'], ['["a","a"]', '["a","b","a"]', '["c","b","a","c"]', '["d"]']),
    ({"type": "array", "items": {"enum": [1, 2, 3, 4]}, "uniqueItems": True, "minItems": 2, "maxItems": 3}, True,
     ["[1,2]", "[4,3,1]"], ["[1]", "[1,1]", "[1,2,3,4]", "[2,3,2]"]),
    ({"items": {"type": ["boolean", "null"]}, "uniqueItems": True, "minItems": 3}, True,
     ["[true,false,null]", "[null,true,false]"], ["[true,false]", "[true,true,null]"]),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 1}, False, ["[]", '["x"]'], ['["x","x"]']),
    ({"items": {"enum": [1, 1.0, "x"]}, "uniqueItems": True}, False, ["[]", "[1]", '["x",1]'], ["[1,1.0]", "[1.0,1]", '["x","x"]']),
    # Names by expression.
    ({"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}, False,
     ["{}", '{"x-":1}', '{"x-a":1,"x-b":2}'], ['{"a":1}', '{"x-a":"b"}', '{"x":1}']),
    ({"type": "object", "patternProperties": {"^i": {"type": "integer"}, "s$": {"type": "string"}}}, False,
     ['{"i":1}', '{"s":"a"}', '{"ia":1,"as":"b","x":[null]}', "{}"], ['{"i":"a"}', '{"as":1}', '{"is":1}', '{"is":"a"}']),
    ({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"],
      "patternProperties": {"^x_": {"type": "string"}}, "additionalProperties": False}, False,
     ['{"id":1}', '{"id":1,"x_a":"b"}', '{"id":1, "x_a":"b", "x_b":"c"}'], ['{"id":1,"y":2}', '{"id":1,"x_a":2}', '{"x_a":"b"}']),
    ({"properties": {"x1": {"minimum": 3}}, "patternProperties": {"^x": {"type": "integer"}, "1$": {"maximum": 5}},
      "required": ["x1", "y1"]}, False,
     ['{"x1":3,"y1":5}', '{"x1":5,"y1":-2}', '{"x1":4,"y1":0,"x2":9}'], ['{"x1":6,"y1":1}', '{"x1":2,"y1":1}', '{"x1":3,"y1":6}', '{"x1":3}', '{"x1":3.5,"y1":1}']),
    ({"patternProperties": {"^[a-z]+$": {"type": "null"}}, "additionalProperties": {"type": "integer"}}, False,
     ['{"a":null,"B":1}', '{"é":2}'], ['{"a":1}', '{"B":null}']),
    # All of several.
    ({"allOf": [{"type": "integer", "minimum": 3}, {"type": "number", "maximum": 12}]}, True, ["3", "7", "12"], ["2", "13", "0"]),
    ({"allOf": [{"multipleOf": 4}, {"multipleOf": 6, "type": "integer"}]}, True, ["0", "12", "-24", "120"], ["4", "6", "8", "18"]),
    ({"type": "string", "allOf": [pattern("^a"), pattern("z$", maxLength=4)], "minLength": 3}, True, strings("abz", "abcz"), strings("az", "abcdz", "bcz", "abc")),
    ({"allOf": [{"enum": ["a", "b", 3, None]}, {"enum": [3, "b", "c"]}, {"type": ["string", "null"]}]}, True, ["\"b\""], ["3", "\"a\"", "null", "\"c\""]),
    ({"enum": ["a", "bcd", 1, 20, 3.5], "maxLength": 2, "minimum": 3}, False, ["\"a\"", "20", "3.5"], ["\"bcd\"", "1"]),
    ({"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]}],
      "$defs": {"base": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"maxLength": 3}}, "required": ["id"]}}}, False,
     ['{"id":1,"name":"a"}', '{"id":-7, "name":"abc"}'], ['{"id":1}', '{"name":"a"}', '{"id":1,"name":""}', '{"id":1,"name":"abcd"}', '{"id":"x","name":"a"}']),
    ({"allOf": [{"properties": {"a": {"type": "integer"}}, "additionalProperties": False}, {"properties": {"a": {"minimum": 2}, "b": True}}]}, False,
     ["{}", '{"a":2}'], ['{"a":1}', '{"b":1}', '{"a":2,"b":1}']),
    ({"allOf": [{"items": {"type": "integer"}, "minItems": 1}, {"prefixItems": [{"minimum": 5}], "maxItems": 3}], "type": "array"}, False,
     ["[5]", "[9,1]", "[5,-1,0]"], ["[]", "[4]", "[5,1,1,1]", '[5,"a"]']),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "additionalProperties": False,
      "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, False, ['{"a":1}', '{"b":1}', '{"a":1,"b":2}'], ["{}", '{"a":"x"}', '{"c":1}']),
    ({"$ref": "#/$defs/s", "maxLength": 2, "$defs": {"s": {"type": "string", "minLength": 1}}}, False, strings("a", "ab"), strings("", "abc")),
    ({"allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"anyOf": [{"minimum": 5}, {"maxLength": 1}]}]}, False,
     ["5", "\"a\"", "\"\""], ["null", "true"]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}], "minimum": 3, "pattern": "^b"}, True, ["3", "40", "\"b\"", "\"bc\""], ["2", "\"a\"", "null"]),
    ({"allOf": [{"$ref": "#/$defs/list"}, {"properties": {"v": {"minimum": 1}}}],
      "$defs": {"list": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
                         "required": ["v", "next"], "additionalProperties": False}}}, False,
     ['{"v":1,"next":null}', '{"v":3,"next":{"v":1,"next":null}}'], ['{"v":0,"next":null}', '{"v":3,"next":{"v":0,"next":null}}', '{"v":1}']),
    ({"oneOf": [{"allOf": [{"$ref": "#/$defs/b"}, {"properties": {"kind": {"const": "x"}}}]},
                {"allOf": [{"$ref": "#/$defs/b"}, {"properties": {"kind": {"const": "y"}, "n": {"type": "integer"}}, "required": ["n"]}]}],
      "$defs": {"b": {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}}}, False,
     ['{"kind":"x"}', '{"kind":"y","n":3}'], ['{"kind":"z"}', '{"kind":"y"}', "{}", '{"kind":"y","n":"3"}']),
    ({"oneOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "integer"}}, "additionalProperties": False}]}, False,
     ['{"a":1}', '{"b":2}', '{}'], ['{"a":1,"b":2,', '{"b":"x"}', '{"c":1}']),
]


def as_ecma(_, expression, value, __):
    """Python's $ stands before a last line break as well, and its classes know Unicode; ECMA 262's do not."""
    if isinstance(value, str) and not re.search(re.sub(r"(?<!\\)\$", r"\\Z", expression), value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {expression!r}")


Validator = validators.extend(Draft202012Validator, {"pattern": as_ecma})


def verdict(validator, text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return validator.is_valid(value)


def canonical(text):
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) == text


def changed(text, rng):
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(3)
    if kind == 0 and at < len(text):
        return text[:at] + text[at + 1:]
    if kind == 1 and at < len(text):
        return text[:at] + rng.choice(LETTERS) + text[at + 1:]
    return text[:at] + rng.choice(LETTERS) + text[at:]


def main():
    rng = random.Random(4)
    written = []
    for schema, exact, good, others in CASES:
        if good is None:
            continue
        validator = Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        must, never = list(good), set()
        for text in good:
            assert verdict(validator, text), (schema, text)
        for text in others:
            assert not verdict(validator, text), (schema, text)
            never.add(text)
        for _ in range(CHANGES):
            text = changed(rng.choice(good), rng)
            if not verdict(validator, text):
                never.add(text)
            elif exact and canonical(text) and text not in must and text != "-0":
                must.append(text)
        written.append({"schema": schema, "must": must, "never": sorted(never)})
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(written, file, ensure_ascii=True, indent=0)
        file.write("\n")
    print(len(written), "schemas,", sum(len(c["must"]) + len(c["never"]) for c in written), "texts")


if __name__ == "__main__":
    main()
