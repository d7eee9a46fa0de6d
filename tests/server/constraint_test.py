#!/usr/bin/env python3
"""Constrained answers as clients meet them: response_format, grammars, and vLLM's fields.

    tests/server/constraint_test.py REDLINE

The model is serve_test.py's. With jsonschema installed it is the judge of answers too."""

import concurrent.futures
import json
import pathlib
import re
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from serving import GREEDY, Server, run_tests

try:
    import jsonschema
except ImportError:
    jsonschema = None
try:
    import openai
except ImportError:
    openai = None

SERVER = None
MESSAGES = [{"role": "user", "content": "Describe a person."}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}, "maxItems": 2},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
    "$defs": {"pet": {"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}}, "required": ["kind"], "additionalProperties": False}},
}


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def check_person(person):
    if jsonschema:
        jsonschema.validate(person, PERSON)
    assert list(person) == ["name", "age", "pets"] and 1 <= len(person["name"]) <= 12 and 0 <= person["age"] <= 120, person
    assert len(person["pets"]) <= 2 and all(pet in ({"kind": "cat"}, {"kind": "dog"}) for pet in person["pets"]), person


class Constrained(unittest.TestCase):
    def content(self, **fields):
        choice = SERVER.post("/v1/chat/completions", {"messages": MESSAGES, "temperature": 0, "max_tokens": 200, **fields})["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        return choice["message"]["content"]

    def text(self, **fields):
        return SERVER.post("/v1/completions", {"prompt": "The answer:", "temperature": 0, "max_tokens": 100, **fields})["choices"][0]["text"]

    def test_answers_are_what_the_schema_says(self):
        check_person(json.loads(self.content(response_format=schema_format(PERSON))))
        for seed in range(6):
            check_person(json.loads(self.content(response_format=schema_format(PERSON), temperature=1.5, seed=seed)))
        check_person(json.loads(self.text(response_format=schema_format(PERSON))))

    def test_each_of_n_answers_keeps_to_it(self):
        answer = SERVER.post("/v1/chat/completions", {"messages": MESSAGES, "temperature": 1.2, "n": 4, "seed": 3, "max_tokens": 200, "response_format": schema_format(PERSON)})
        self.assertEqual(len(answer["choices"]), 4)
        for choice in answer["choices"]:
            check_person(json.loads(choice["message"]["content"]))

    def test_streams_are_the_same(self):
        body = {"messages": MESSAGES, "temperature": 0, "max_tokens": 200, "response_format": schema_format(PERSON)}
        events = [json.loads(event) for event in SERVER.events("/v1/chat/completions", body)[:-1]]
        content = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        check_person(json.loads(content))
        self.assertEqual(content, self.content(response_format=schema_format(PERSON)))

    def test_any_object(self):
        choice = SERVER.post("/v1/chat/completions", {"messages": MESSAGES, "temperature": 0, "max_tokens": 400, "response_format": {"type": "json_object"}})["choices"][0]
        content = choice["message"]["content"]
        self.assertTrue(content.startswith("{"))
        if choice["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(content), dict)

    def test_text_is_unconstrained(self):
        self.assertEqual(self.text(response_format={"type": "text"}, max_tokens=8), self.text(max_tokens=8))

    def test_grammars_regular_expressions_and_choices(self):
        self.assertIn(self.text(grammar='root ::= "red" | "blue"'), ("red", "blue"))
        self.assertIn(self.text(guided_grammar='root ::= "red" | "blue"'), ("red", "blue"))
        self.assertRegex(self.text(guided_regex=r"\d{4}-\d{2}"), r"^\d{4}-\d{2}$")
        self.assertIn(self.text(guided_choice=["north", "south"]), ("north", "south"))
        check_person(json.loads(self.text(guided_json=PERSON)))
        check_person(json.loads(self.text(guided_json=json.dumps(PERSON))))
        self.assertIn(self.text(structured_outputs={"choice": ["north", "south"]}), ("north", "south"))

    def test_side_by_side_they_are_those_of_each_alone(self):
        formats = [{}, {"response_format": schema_format(PERSON)}, {"grammar": "root ::= [a-z ]+"}, {"guided_choice": ["a", "bc"]}]
        bodies = [dict(formats[i % 4], prompt=f"{i} birds", max_tokens=40, temperature=0.9, seed=i) for i in range(12)]
        text = lambda body: SERVER.post("/v1/completions", body)["choices"][0]["text"]
        alone = [text(body) for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            self.assertEqual(list(pool.map(text, bodies)), alone)

    def test_logprobs_are_those_of_the_whole_vocabulary(self):
        fields = {"messages": MESSAGES, **GREEDY, "logprobs": True, "top_logprobs": 1}
        free = SERVER.post("/v1/chat/completions", fields)["choices"][0]["logprobs"]["content"][0]
        held = SERVER.post("/v1/chat/completions", dict(fields, grammar='root ::= "zebra"'))["choices"][0]["logprobs"]["content"][0]
        self.assertEqual(held["top_logprobs"], free["top_logprobs"])
        self.assertLess(held["logprob"], held["top_logprobs"][0]["logprob"])


class Refused(unittest.TestCase):
    def refused(self, fields, param, code, words):
        found, text, _ = SERVER.ask("POST", "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1, **fields})
        self.assertEqual(found, 400, text[:300])
        error = json.loads(text)["error"]
        self.assertEqual((error["param"], error["code"]), (param, code), text[:300])
        self.assertIn(words, error["message"])
        self.assertLess(len(text), 2000)

    def test_what_is_wrong_or_not_supported_is_named(self):
        formats = lambda schema: {"response_format": schema_format(schema)}
        self.refused(formats({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}), "response_format", "invalid_schema", "/properties/a/uniqueItems")
        self.refused(formats(5), "response_format", "invalid_value", "expected a JSON schema")
        self.refused({"response_format": {"type": "yaml"}}, "response_format", "invalid_value", "json_schema")
        self.refused({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value", "json_schema with a schema")
        self.refused({"response_format": "json"}, "response_format", "invalid_value", "an object")
        self.refused({"grammar": 'root ::= "a'}, "grammar", "invalid_grammar", "line 1, column 12")
        self.refused({"grammar": 'root ::= root "a" | "b"'}, "grammar", "invalid_grammar", "left recursion: root -> root")
        self.refused({"grammar": 7}, "grammar", "invalid_value", "a string")
        self.refused({"guided_regex": "(a"}, "guided_regex", "invalid_grammar", "expected )")
        self.refused({"guided_choice": []}, "guided_choice", "invalid_value", "array of strings")
        self.refused({"guided_choice": ["a"], "grammar": 'root ::= "a"'}, "guided_choice", "invalid_value", "one constraint at most")

    def test_bombs_are_refused_while_others_are_served(self):
        deep = {"type": "null"}
        for _ in range(110):
            deep = {"type": "array", "items": deep}
        bombs = [
            {"grammar": "root ::= " + "(" * 1_000_000}, {"grammar": 'root ::= "a"{1,1000000}'}, {"grammar": 'root ::= "a"' + "*" * 1_000_000},
            {"grammar": "root ::= ((((((" + '"a"?' + "){0,999}" * 6}, {"guided_regex": "(" * 100_000}, {"guided_regex": "((a{1,90000}){1,90000}){1,90000}b{1,90000000}"},
            {"response_format": schema_format(deep)}, {"response_format": schema_format({"enum": [f"value {i}" for i in range(40_000)]})},
            {"response_format": schema_format({"type": "string", "maxLength": 10**12})}, {"guided_json": "[" * 100_000}]
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(SERVER.ask, "POST", "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1, **bomb}) for bomb in bombs]
            self.assertEqual(SERVER.ask("GET", "/health")[0], 200)
            for bomb, answer in zip(bombs, asked):
                status, text, _ = answer.result()
                self.assertEqual(status, 400, str(bomb)[:80] + text[:200])
                self.assertLess(len(text), 2000)
        self.assertLess(time.monotonic() - start, 120)

    def test_others_are_read_while_schemas_compile(self):
        def schema(i):
            properties = {f"p{i}_{j}": {"type": "integer", "minimum": j, "maximum": 10**9 + i} for j in range(400)}
            return {"type": "object", "properties": properties, "required": list(properties)}

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            asked = [pool.submit(SERVER.ask, "POST", "/v1/completions", {"prompt": "x", "max_tokens": 1, "guided_json": schema(i)}) for i in range(32)]
            while json.loads(SERVER.ask("GET", "/load")[1])["server_load"] < 32 and not all(answer.done() for answer in asked):
                time.sleep(0.001)
            self.assertEqual(SERVER.ask("GET", "/health")[0], 200)
            SERVER.post("/v1/completions", dict(GREEDY, prompt="x"))
            self.assertFalse(all(answer.done() for answer in asked), "the last schema is compiled after the call that came after it")
            self.assertEqual({answer.result()[0] for answer in asked}, {200})


@unittest.skipUnless(openai, "OpenAI's client is not installed")
class OpenAiClient(unittest.TestCase):
    def test_json_schema_through_the_client(self):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{SERVER.port}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
        chat = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=200, temperature=0, response_format=schema_format(PERSON))
        check_person(json.loads(chat.choices[0].message.content))
        with self.assertRaises(openai.BadRequestError):
            client.chat.completions.create(model="tiny", messages=MESSAGES, response_format=schema_format({"not": {}}))
        import pydantic

        class Event(pydantic.BaseModel):
            title: str = pydantic.Field(max_length=20)
            day: int = pydantic.Field(ge=1, le=31)
            guests: list[str] = pydantic.Field(max_length=2)

        parsed = client.chat.completions.parse(model="tiny", messages=MESSAGES, max_tokens=400, temperature=0, response_format=Event)
        if parsed.choices[0].finish_reason == "stop":
            self.assertIsInstance(parsed.choices[0].message.parsed, Event)


if __name__ == "__main__":
    SERVER = Server()
    run_tests(SERVER)
