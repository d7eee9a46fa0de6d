#!/usr/bin/env python3
"""Reasoning and tool calls in chats, as clients of `redline serve` get them.

    tests/server/chat_test.py REDLINE

The small model copies what the conversation so far shows it."""

import json
import unittest

from serving import GREEDY, MESSAGES, Server, run_tests

try:
    import openai
except ImportError:
    openai = None

SERVER = None
CHAT = "/v1/chat/completions"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "%s"}}\n</tool_call>'
THOUGHT = "<think>\nThe user asks for the weather.\n</think>\n"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def conversation(answer):
    """Questions answered in one way, and one that the model will answer likewise."""
    messages = []
    for city in ("Rome", "Oslo", "Lima", "Paris"):
        messages.append({"role": "user", "content": f"Weather in {city}?"})
        messages.append({"role": "assistant", "content": answer.replace("%s", city)})
    return messages[:-1]


def body(answer, **more):
    return dict({"messages": conversation(answer), "temperature": 0, "max_tokens": 96, "tools": TOOLS}, **more)


class ToolCalls(unittest.TestCase):
    def test_a_call_becomes_tool_calls_and_thought_reasoning(self):
        choice = SERVER.post(CHAT, body(THOUGHT + CALL))["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        message = choice["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), ("", "The user asks for the weather."))
        [call] = message["tool_calls"]
        self.assertEqual((call["type"], call["function"]["name"]), ("function", "get_weather"))
        self.assertEqual(json.loads(call["function"]["arguments"]), {"city": "Paris"})

    def test_a_stream_tells_the_name_first_then_the_arguments_piece_by_piece(self):
        *events, done = SERVER.events(CHAT, body(THOUGHT + CALL))
        self.assertEqual(done, "[DONE]")
        choices = [json.loads(event)["choices"][0] for event in events]
        self.assertEqual(choices[0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual(choices[-1]["finish_reason"], "tool_calls")
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
        self.assertEqual({call["index"] for call in calls}, {0})
        self.assertEqual((calls[0]["type"], calls[0]["function"]["name"], len(calls[0]["id"])), ("function", "get_weather", 9))
        self.assertGreater(len(calls), 2)
        self.assertTrue(all("id" not in call and "name" not in call["function"] for call in calls[1:]))
        self.assertEqual("".join(call["function"]["arguments"] for call in calls), '{"city": "Paris"}')
        reasoning = [choice["delta"].get("reasoning_content", "") for choice in choices]
        self.assertEqual("".join(reasoning), "The user asks for the weather.")
        self.assertFalse(any(choice["delta"].get("content") for choice in choices))

    def test_parallel_calls_unless_one_is_asked_for(self):
        two = CALL + "\n" + CALL
        calls = SERVER.post(CHAT, body(two))["choices"][0]["message"]["tool_calls"]
        self.assertEqual([json.loads(call["function"]["arguments"]) for call in calls], [{"city": "Paris"}] * 2)
        self.assertNotEqual(calls[0]["id"], calls[1]["id"])
        calls = SERVER.post(CHAT, body(two, parallel_tool_calls=False))["choices"][0]["message"]["tool_calls"]
        self.assertEqual(len(calls), 1)

    def test_a_required_call_is_forced_whatever_the_model_would_say(self):
        f = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
                                                                         "required": ["a"], "additionalProperties": False}}}
        for choice, parallel in (("required", True), ("required", False), ({"type": "function", "function": {"name": "f"}}, True)):
            for temperature in (0, 2):
                request = {"messages": MESSAGES, "tools": TOOLS + [f], "tool_choice": choice, "parallel_tool_calls": parallel,
                           "temperature": temperature, "max_tokens": 400, "seed": 5}
                choices = SERVER.post(CHAT, request)["choices"][0]
                if choices["finish_reason"] == "length":
                    continue
                calls = choices["message"]["tool_calls"]
                self.assertEqual((choices["finish_reason"], choices["message"]["content"]), ("tool_calls", ""))
                for call in calls:
                    arguments = json.loads(call["function"]["arguments"])
                    if call["function"]["name"] == "f":
                        self.assertIn(arguments["a"], range(10))
                if choice != "required":
                    self.assertEqual([call["function"]["name"] for call in calls], ["f"])
                if not parallel:
                    self.assertEqual(len(calls), 1)
        request["tools"] = [f]
        events = [json.loads(event)["choices"][0] for event in SERVER.events(CHAT, request)[:-1]]
        pieces = [call for event in events for call in event["delta"].get("tool_calls", [])]
        self.assertEqual(pieces[0]["function"]["name"], "f")
        self.assertIn(json.loads("".join(piece["function"]["arguments"] for piece in pieces))["a"], range(10))

    def test_without_tools_or_with_choice_none_the_text_is_content(self):
        for more in ({"tools": None}, {"tools": []}, {"tool_choice": "none"}):
            message = SERVER.post(CHAT, body(CALL, **more))["choices"][0]["message"]
            self.assertEqual(message["content"], CALL.replace("%s", "Paris"), more)
            self.assertNotIn("tool_calls", message)

    def test_a_call_that_does_not_parse_is_content(self):
        broken = '<tool_call>\n{"name": "get_weather", arguments: %s}\n</tool_call>'
        choice = SERVER.post(CHAT, body(broken))["choices"][0]
        self.assertEqual(choice["message"]["content"], broken.replace("%s", "Paris"))
        self.assertEqual(choice["finish_reason"], "stop")
        events = SERVER.events(CHAT, body(broken))[:-1]
        self.assertEqual("".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events), broken.replace("%s", "Paris"))

    def test_earlier_calls_and_parts_reach_the_template(self):
        messages = [{"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Rome?"}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
                    {"role": "tool", "tool_call_id": "a", "content": "Sunny"}]
        prompt = SERVER.post("/apply-template", {"messages": messages})["prompt"]
        self.assertIn("Weather in Rome?", prompt)
        self.assertIn("Sunny", prompt)
        self.assertEqual(len(SERVER.post(CHAT, dict(GREEDY, messages=messages))["choices"]), 1)

    def test_a_final_message_is_continued(self):
        messages = MESSAGES + [{"role": "assistant", "content": "Red and"}]
        prompt = SERVER.post("/apply-template", {"messages": messages, "continue_final_message": True})["prompt"]
        self.assertTrue(prompt.endswith("Red and"), prompt)


class Errors(unittest.TestCase):
    def refused(self, param, **more):
        found, text, _ = SERVER.ask("POST", CHAT, dict({"messages": MESSAGES}, **more))
        error = json.loads(text)["error"]
        self.assertEqual((found, error["param"]), (400, param), text)
        return error["code"]

    def test_tools_and_choices_that_are_none(self):
        for tools in ("x", [1], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": ""}}], [{"type": "other", "function": {"name": "f"}}]):
            self.assertEqual(self.refused("tools", tools=tools), "invalid_value")
        for choice in ("maybe", 5, {}, {"type": "function", "function": {"name": "absent"}}):
            self.assertEqual(self.refused("tool_choice", tools=TOOLS, tool_choice=choice), "invalid_value")
        self.assertEqual(self.refused("tool_choice", tool_choice="required"), "invalid_value")
        self.assertEqual(self.refused("parallel_tool_calls", tools=TOOLS, parallel_tool_calls=1), "invalid_value")

    def test_a_required_call_and_another_constraint_exclude_each_other(self):
        self.assertEqual(self.refused("tool_choice", tools=TOOLS, tool_choice="required", response_format={"type": "json_object"}), "invalid_value")
        unknown = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "minProperties": 2}}}]
        self.assertEqual(self.refused("tools", tools=unknown, tool_choice="required"), "invalid_schema")

    def test_images_sound_and_files_are_refused_by_their_type(self):
        for kind in ("image_url", "input_audio", "file"):
            part = {"type": kind, kind: {"url": "http://127.0.0.1:9/x.png"}}
            self.assertEqual(self.refused("messages", messages=[{"role": "user", "content": [part]}]), "unsupported_content")

    def test_an_unknown_parser_is_refused_at_the_start(self):
        with self.assertRaises(RuntimeError):
            Server("--tool-call-parser", "qwen")


@unittest.skipUnless(openai, "OpenAI's client is not installed")
class OpenAiClient(unittest.TestCase):
    def test_tool_calls_pass_strict_validation(self):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{SERVER.port}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
        request = dict(model="tiny", messages=conversation(CALL), tools=TOOLS, temperature=0, max_tokens=96)
        [call] = client.chat.completions.create(**request).choices[0].message.tool_calls
        with client.chat.completions.stream(**request) as stream:
            for _ in stream:
                pass
            [streamed] = stream.get_final_completion().choices[0].message.tool_calls
        self.assertEqual((streamed.function.name, streamed.function.arguments), (call.function.name, call.function.arguments))


if __name__ == "__main__":
    SERVER = Server("--tool-call-parser", "hermes", "--reasoning-parser", "think")
    run_tests(SERVER)
