#!/usr/bin/env python3
"""`redline serve` as its clients meet it: routes, errors, HTTP, keys, queue, draining.

    tests/server/serve_test.py REDLINE

Standard library only, but for the tests with OpenAI's client, which are skipped where it is not installed."""

import concurrent.futures
import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from serving import GREEDY, MESSAGES, MODEL, REDLINE, WAIT, Server, run_tests, wait_for

TINY = pathlib.Path(__file__).resolve().parents[1] / "goldens/tiny/plain_4to2_d32_long_bf16"
OPENAPI = pathlib.Path(__file__).resolve().parents[2] / "docs/openapi.json"
KEY = "secret-key"

SERVER = None


class Routes(unittest.TestCase):
    def test_health_models_version_and_load_answer(self):
        self.assertEqual(json.loads(SERVER.ask("GET", "/health")[1]), {"status": "ok"})
        model = json.loads(SERVER.ask("GET", "/v1/models")[1])["data"][0]
        self.assertEqual((model["id"], model["root"], model["object"]), ("tiny", "tiny", "model"))
        self.assertGreater(model["max_model_len"], 100)
        for path in ("/v1/models/tiny", "/models/tiny", "/v1/models/t%69ny"):
            self.assertEqual(json.loads(SERVER.ask("GET", path)[1]), model, path)
        self.assertEqual(json.loads(SERVER.ask("GET", "/load")[1]), {"server_load": 0})
        self.assertIn("version", json.loads(SERVER.ask("GET", "/version")[1]))

    def test_the_last_minute_is_explained_and_its_terms_sum(self):
        SERVER.post("/v1/completions", dict(GREEDY, prompt="The sea"))
        minute = json.loads(SERVER.ask("GET", "/v1/utilization")[1])
        self.assertEqual(list(minute), ["window_s", "utilization", "explanation"])
        waterfall = minute["explanation"]["waterfall"]
        self.assertAlmostEqual(sum(seconds or 0 for seconds in waterfall["terms_s"].values()), minute["window_s"], 6)
        self.assertTrue(0 < waterfall["mfu"] < 1 and waterfall["terms_s"]["idle"] > 0, waterfall)
        self.assertGreater(minute["utilization"]["phases"]["decode"]["tokens"], 0)
        self.assertEqual([why["phase"] for why in minute["explanation"]["why"]], ["prefill", "decode"])

    def test_a_completion_is_what_run_prints(self):
        answer = SERVER.post("/v1/completions", dict(GREEDY, prompt="The sea"))
        run = subprocess.run([REDLINE, "run", MODEL, "--raw", "-p", "The sea", "-n", "8", "--json"], capture_output=True, check=True)
        self.assertEqual(answer["choices"][0]["text"], json.loads(run.stdout)["text"])
        self.assertEqual(answer["usage"]["completion_tokens"], 8)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")

    def test_a_stream_adds_up_to_the_whole_answer(self):
        body = dict(GREEDY, messages=MESSAGES, stream_options={"include_usage": True})
        *chunks, usage, done = SERVER.events("/v1/chat/completions", body)
        self.assertEqual(done, "[DONE]")
        chunks, usage = [json.loads(chunk) for chunk in chunks], json.loads(usage)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual([delta.get("role") for delta in deltas], ["assistant"] + [None] * (len(deltas) - 1))
        self.assertEqual(deltas[0], {"role": "assistant", "content": ""})
        whole = SERVER.post("/v1/chat/completions", dict(GREEDY, messages=MESSAGES))
        self.assertEqual("".join(delta["content"] for delta in deltas), whole["choices"][0]["message"]["content"])
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
        self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)
        self.assertEqual(usage["choices"], [])
        self.assertEqual(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])

    def test_several_prompts_and_answers_are_counted_together(self):
        answer = SERVER.post("/v1/completions", dict(GREEDY, prompt=["The sea", "A"], n=2, echo=True))
        self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1, 2, 3])
        self.assertTrue(answer["choices"][1]["text"].startswith("The sea"))
        self.assertTrue(answer["choices"][2]["text"].startswith("A"))
        self.assertEqual(answer["usage"]["completion_tokens"], 32)
        events = SERVER.events("/v1/completions", dict(GREEDY, prompt=["The sea", "A"], n=2, echo=True))
        texts = ["", "", "", ""]
        for event in events[:-1]:
            choice = json.loads(event)["choices"][0]
            texts[choice["index"]] += choice["text"]
        self.assertEqual(texts, [choice["text"] for choice in answer["choices"]])

    def test_logprobs_have_the_form_of_each_route(self):
        answer = SERVER.post("/v1/completions", dict(GREEDY, prompt="The sea", logprobs=2))["choices"][0]["logprobs"]
        self.assertEqual({len(answer[key]) for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}, {8})
        self.assertEqual(len(answer["top_logprobs"][0]), 2)
        content = SERVER.post("/v1/chat/completions", dict(GREEDY, messages=MESSAGES, logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content[0]["top_logprobs"]), 3)
        self.assertEqual(bytes(content[0]["bytes"]).decode(), content[0]["token"])
        self.assertEqual(content[0]["logprob"], content[0]["top_logprobs"][0]["logprob"])

    def test_a_prompts_logprobs_are_those_of_the_same_tokens_generated(self):
        body = dict(GREEDY, prompt="The sea", logprobs=2)
        whole = SERVER.post("/v1/completions", body)
        told = whole["choices"][0]["logprobs"]
        ids = SERVER.post("/tokenize", {"prompt": "The sea" + whole["choices"][0]["text"]})["tokens"]
        again = dict(prompt=ids, max_tokens=0, temperature=0)
        SERVER.post("/v1/completions", dict(again, max_tokens=1))  # so that it is in the prefix cache
        echoed = SERVER.post("/v1/completions", dict(again, echo=True, logprobs=2, n=2))
        self.assertEqual(echoed["usage"]["completion_tokens"], 0)
        self.assertEqual(echoed["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        for choice in echoed["choices"]:
            logprobs = choice["logprobs"]
            self.assertEqual((logprobs["tokens"][0], logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]), ("The", None, None))
            self.assertEqual({len(of_tokens) for of_tokens in logprobs.values()}, {len(ids)})
            for key, values in logprobs.items():
                self.assertEqual(values[2:], told[key] if key != "text_offset" else [7 + at for at in told[key]], key)
        apart = SERVER.post("/v1/completions", dict(again, prompt=[ids, ids[:1]], prompt_logprobs=1))["choices"]
        self.assertEqual(apart[1]["prompt_logprobs"], [None])
        first, *others = apart[0]["prompt_logprobs"]
        self.assertIsNone(first)
        for token, entry, logprob, piece in zip(ids[2:], others[1:], told["token_logprobs"], told["tokens"]):
            self.assertEqual(entry[str(token)], {"logprob": logprob, "rank": 1, "decoded_token": piece}, "greedy")
            self.assertEqual(len(entry), 1)
        chat = SERVER.post("/v1/chat/completions", dict(GREEDY, messages=MESSAGES, prompt_logprobs=0))
        self.assertEqual(len(chat["prompt_logprobs"]), chat["usage"]["prompt_tokens"])
        self.assertEqual({len(entry) for entry in chat["prompt_logprobs"][1:]}, {1})

    def test_a_streams_echo_has_the_prompts_logprobs_in_each_answers_first_chunk(self):
        body = dict(GREEDY, prompt=["The sea", "Bl\u00fce waves"], n=2, echo=True, logprobs=1)
        whole = [choice["logprobs"] for choice in SERVER.post("/v1/completions", body)["choices"]]
        streamed = [{key: [] for key in whole[0]} for _ in whole]
        for event in SERVER.events("/v1/completions", body)[:-1]:
            choice = json.loads(event)["choices"][0]
            for key, values in choice["logprobs"].items():
                streamed[choice["index"]][key] += values
        self.assertEqual(streamed, whole)
        self.assertTrue("".join(whole[2]["tokens"]).startswith("Bl\u00fce waves"))
        self.assertEqual(whole[2]["text_offset"][2:4], [3, 4], "in characters")

    def test_the_rows_of_logits_that_a_prompts_logprobs_take_are_charged(self):
        flops = lambda **more: SERVER.post("/v1/completions", dict(GREEDY, prompt=[5] * 300, cache_prompt=False, **more))["usage"]["redline"]["prefill"]["flops"]
        ids = SERVER.post("/v1/completions", dict(GREEDY, prompt=[5], cache_prompt=False))["usage"]["redline"]["prefill"]["flops"]
        plain, asked = flops(), flops(prompt_logprobs=0)
        head = (asked - plain) / 299
        self.assertEqual(head, int(head))
        self.assertTrue(0 < head < ids)

    def test_answers_keep_to_allowed_tokens_and_from_bad_words(self):
        prompt = {"prompt": "The sky is", "temperature": 0, "max_tokens": 24, "ignore_eos": True}
        text = lambda **more: SERVER.post("/v1/completions", dict(prompt, **more))["choices"][0]["text"]
        ids = lambda text: SERVER.post("/tokenize", {"prompt": text})["tokens"]
        plain = text()
        words = [word for word in plain.split() if word.isalpha() and len(word) > 3][:3]
        self.assertTrue(words, plain)
        for n in range(len(words)):
            self.assertEqual([word for word in words[:n + 1] if " " + word in text(bad_words=words[:n + 1])], [])
        few = ids(" blue green") + ids(".")
        found = SERVER.post("/v1/completions", dict(prompt, allowed_token_ids=few, temperature=2, logprobs=0))["choices"][0]["logprobs"]["tokens"]
        self.assertEqual(set(found) - {SERVER.post("/detokenize", {"tokens": [token]})["prompt"] for token in few}, set())
        self.assertGreater(len(set(found)), 1)
        chat = SERVER.post("/v1/chat/completions", dict(GREEDY, messages=MESSAGES, allowed_token_ids=ids(" red"), max_tokens=3))
        self.assertEqual(chat["choices"][0]["message"]["content"], " red red red")

    def test_a_text_that_ends_within_a_character_ends_in_its_substitute(self):
        half = SERVER.post("/tokenize", {"prompt": "\u2605"})["tokens"][:1]  # the first of a star's bytes
        self.assertEqual(SERVER.post("/detokenize", {"tokens": half})["prompt"], "\ufffd")
        body = dict(GREEDY, prompt="The sea", allowed_token_ids=half, max_tokens=1)
        self.assertEqual(SERVER.post("/v1/completions", body)["choices"][0]["text"], "\ufffd")
        events = SERVER.events("/v1/completions", body)[:-1]
        self.assertEqual("".join(json.loads(event)["choices"][0]["text"] for event in events), "\ufffd")

    def test_the_same_seed_gives_the_same_answer_and_another_another(self):
        sampled = {"prompt": "The sea", "max_tokens": 12, "temperature": 1.5}
        text = lambda seed: SERVER.post("/v1/completions", dict(sampled, seed=seed))["choices"][0]["text"]
        self.assertEqual(text(7), text(7))
        self.assertNotEqual(text(7), text(8))

    def test_tokenize_detokenize_and_apply_template_take_both_peers_forms(self):
        ids = SERVER.post("/tokenize", {"prompt": "Hello world"})
        self.assertEqual(ids["count"], len(ids["tokens"]))
        self.assertEqual(SERVER.post("/tokenize", {"content": "Hello world"})["tokens"], ids["tokens"])
        self.assertEqual(SERVER.post("/detokenize", {"tokens": ids["tokens"]})["prompt"], "Hello world")
        prompt = SERVER.post("/apply-template", {"messages": MESSAGES})["prompt"]
        self.assertIn("Name two colours.", prompt)
        self.assertEqual(SERVER.post("/tokenize", {"messages": MESSAGES})["count"],
                         SERVER.post("/v1/chat/completions", dict(GREEDY, messages=MESSAGES))["usage"]["prompt_tokens"])

    def test_streams_side_by_side_are_those_of_each_alone(self):
        bodies = [dict(prompt=f"{i} little birds", max_tokens=12, temperature=0.9, seed=i) for i in range(16)]
        text = lambda body: "".join(json.loads(e)["choices"][0]["text"] for e in SERVER.events("/v1/completions", body)[:-1])
        alone = [text(body) for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(text, bodies)), alone)


class Errors(unittest.TestCase):
    def refused(self, path, body, status, param=None):
        found, text, _ = SERVER.ask("POST", path, body)
        self.assertEqual(found, status, text)
        error = json.loads(text)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual(error["param"], param, text)
        return error

    def test_every_field_out_of_range_is_named(self):
        for field, values in {
            "max_tokens": [0, -1, 10**18, 10**19, 1.5, "8", True], "temperature": [-0.1, 1e308, "1", []], "top_p": [0, 1.1, -1],
            "top_k": [-2, 2**31, 0.5], "min_p": [-1, 2], "n": [0, 129, 10**12], "presence_penalty": [1e308, "x"],
            "frequency_penalty": [-1e9], "repetition_penalty": [0, -1], "seed": [1.5, "a", 2**64], "stop": [5, [1], ["a"] * 17, "a" * 4097],
            "logit_bias": [[], {"x": 1}, {"-1": 1}, {"99999999": 1}, {"1": 1e308}], "stream": [1, "yes"], "stop_token_ids": [[-1], "a"],
            "min_tokens": [-1], "logprobs": [21, -1], "prompt": [5, {}, [], [[]], [[-1]], [10**9], [""] * 200], "best_of": [5],
            "prompt_logprobs": [-1, 21, True], "allowed_token_ids": [[], [-1], [10**9], ["a"], 5], "bad_words": [[""], ["  "], [5], ["a"] * 1025],
        }.items():
            for value in values:
                with self.subTest(field=field, value=str(value)[:40]):
                    body = {"prompt": "x", "max_tokens": 1, field: value}
                    self.assertIn(field if field != "prompt" else "prompt", self.refused("/v1/completions", body, 400, field)["message"])

    def test_null_is_absent_and_unknown_fields_are_ignored(self):
        body = dict(GREEDY, prompt="The sea", top_p=None, stop=None, n=None, seed=None, frobnicate={"a": 1}, user="me", top_k=-1)
        self.assertEqual(len(SERVER.post("/v1/completions", body)["choices"]), 1)

    def test_what_is_no_json_object_or_nests_too_deep(self):
        for body in ("", "{", "[1]", '"x"', "{\"a\": " + "[" * 200000 + "]" * 200000 + "}", b"\xff\xfe".decode("latin1")):
            self.assertEqual(self.refused("/v1/completions", body, 400)["code"], "invalid_json")

    def test_numbers_that_json_lacks_are_refused_by_their_field(self):
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999"):
            error = self.refused("/v1/completions", '{"prompt": "x", "temperature": %s, "max_tokens": 1}' % number, 400, "temperature")
            self.assertEqual(error["code"], "invalid_json")
            self.assertRegex(error["message"], r"wrong at byte \d\d, in or after temperature")

    def test_over_long_prompts_name_both_numbers(self):
        message = self.refused("/v1/completions", {"prompt": [5] * 70000, "max_tokens": 1}, 400, "prompt")["message"]
        self.assertIn("70000 tokens", message)
        self.assertRegex(message, r"the context holds \d+")

    def test_unknown_models_routes_and_methods(self):
        self.refused("/v1/completions", {"prompt": "x", "model": "gpt-4"}, 404, "model")
        for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [5]}), ("/apply-template", {"messages": MESSAGES})):
            self.refused(path, dict(body, model="gpt-4"), 404, "model")
        self.refused("/v1/nothing", {}, 404)
        self.refused("/v1/embeddings", {"input": "x"}, 501)
        self.refused("/v1/models", {}, 405)
        for method, path, allowed in (("GET", "/v1/completions", "POST, OPTIONS"), ("DELETE", "/v1/models/tiny", "GET, HEAD, OPTIONS")):
            status, _, headers = SERVER.ask(method, path)
            self.assertEqual((status, headers["Allow"]), (405, allowed))
        self.assertEqual(SERVER.ask("GET", "/v1/completions/")[0], 404)
        for path in ("/v1/models/gpt-4", "/models/gpt-4", "/v1/models/tiny/", "/v1/models/%"):
            status, text, _ = SERVER.ask("GET", path)
            self.assertEqual((status, json.loads(text)["error"]["code"]), (404, "model_not_found"), path)
        self.assertEqual(SERVER.ask("GET", "/v1/models/")[0], 404)

    def test_what_is_not_served_says_so(self):
        self.assertEqual(self.refused("/v1/completions", {"prompt": "x", "suffix": "y"}, 400, "suffix")["code"], "unsupported")
        self.refused("/v1/completions", {"prompt": "x", "prompt_logprobs": 1, "stream": True}, 400, "prompt_logprobs")

    def test_messages_that_are_none(self):
        for messages in (None, [], "x", [1], [{}], [{"role": 1}]):
            self.refused("/v1/chat/completions", {"messages": messages}, 400, "messages")
        self.refused("/v1/chat/completions", {"messages": MESSAGES, "stream_options": {}}, 400, "stream_options")


class Http(unittest.TestCase):
    HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"

    def status(self, request):
        answer = SERVER.raw(request)
        self.assertTrue(answer.startswith(b"HTTP/1.1 "), answer[:80])
        return int(answer[9:12])

    def test_limits_of_headers_and_body(self):
        for request, status, code in ((b"X: " + b"a" * 70000 + b"\r\n\r\n", 431, "head_too_large"), (b"".join(b"X%d: 1\r\n" % i for i in range(101)) + b"\r\n", 431, "head_too_large"),
                                      (b"Content-Length: 40000000\r\n\r\n", 413, "body_too_large"), (b"Content-Length: x\r\n\r\n", 400, "invalid_http")):
            self.assertEqual(self.status(self.HEAD + request), status)
            self.assertEqual(json.loads(SERVER.raw(self.HEAD + request).split(b"\r\n\r\n", 1)[1])["error"]["code"], code)

    def test_ambiguous_messages_are_refused_and_the_connection_closed(self):
        for request in (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
                        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", b"Content-Length: -1\r\n\r\n",
                        b"X y: 1\r\n\r\n", b"X: a\r\n b\r\n\r\n", b"X: a\nContent-Length: 3\n\n", b"Content-Length : 3\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"):
            with self.subTest(request=request):
                answer = SERVER.raw(self.HEAD + request)
                self.assertEqual(answer[9:12], b"400", answer[:200])
                self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    def test_a_chunked_body_cut_anywhere_holds_up_nobody(self):
        body = json.dumps(dict(GREEDY, prompt="The sea")).encode()
        text = self.HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:]))
        text += b"0\r\nTrailer: x\r\n\r\n"
        expected = SERVER.post("/v1/completions", dict(GREEDY, prompt="The sea"))["choices"][0]["text"]
        connections, cuts = [], range(text.index(b"\r\n\r\n") + 4, len(text))
        for at in cuts:
            connections.append(socket.create_connection(("127.0.0.1", SERVER.port), WAIT))
            connections[-1].sendall(text[:at])
        self.assertEqual(SERVER.ask("GET", "/health")[0], 200)
        for at, connection in zip(cuts, connections):
            connection.sendall(text[at:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.close()
            self.assertEqual(json.loads(answer.split(b"\r\n\r\n", 1)[1])["choices"][0]["text"], expected, (at, answer[:200]))

    def test_connections_are_kept_and_request_ids_echoed(self):
        connection = http.client.HTTPConnection("127.0.0.1", SERVER.port, timeout=WAIT)
        for i in range(3):
            connection.request("GET", "/health", headers={"X-Request-Id": f"id-{i}"})
            response = connection.getresponse()
            self.assertEqual((response.status, response.headers["X-Request-Id"]), (200, f"id-{i}"))
            response.read()
        connection.close()

    def test_head_has_no_body_and_preflight_answers_200(self):
        self.assertEqual(SERVER.ask("HEAD", "/health")[:2], (200, ""))
        status, _, headers = SERVER.ask("OPTIONS", "/v1/chat/completions")
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (200, "*"))

    def test_browsers_may_read_answers_streams_and_errors(self):
        for method, path, body in (("GET", "/health", None), ("POST", "/v1/completions", dict(GREEDY, prompt="x")),
                                   ("POST", "/v1/completions", dict(GREEDY, prompt="x", stream=True)), ("POST", "/v1/completions", {}), ("GET", "/no", None)):
            self.assertEqual(SERVER.ask(method, path, body)[2]["Access-Control-Allow-Origin"], "*", (path, body))

    def test_a_client_that_goes_ends_its_request(self):
        before = SERVER.metric('redline_requests_total{finish_reason="abort"}')
        for stream in (True, False):
            body = json.dumps({"prompt": "The sea", "max_tokens": 4000, "ignore_eos": True, "stream": stream}).encode()
            connection = socket.create_connection(("127.0.0.1", SERVER.port))
            connection.sendall(self.HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if stream:
                self.assertTrue(connection.recv(10))
            wait_for(lambda: SERVER.metric("redline_requests_running") == 1)
            connection.close()
            wait_for(lambda: SERVER.metric("redline_requests_running") == 0)
            self.assertEqual(SERVER.metric("redline_kv_usage_ratio") < 0.5, True)
        wait_for(lambda: SERVER.metric('redline_requests_total{finish_reason="abort"}') >= before + 1)


class Log(unittest.TestCase):
    def test_each_request_is_a_line_without_what_it_says(self):
        server = Server("--log-requests", "--max-model-len", "500")
        self.assertEqual(json.loads(server.ask("GET", "/props")[1])["max_model_len"], 500)
        server.ask("GET", "/health?key=s3cr3t", headers={"X-Api-Key": "s3cr3t"})
        server.events("/v1/completions", dict(GREEDY, prompt="s3cr3t"))
        server.ask("POST", "/v1/completions", {"prompt": 5})
        server.raw(b"GET /\xc2\x9bm HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        gone = socket.create_connection(("127.0.0.1", server.port))
        body = json.dumps(dict(prompt="The sea", max_tokens=400, ignore_eos=True)).encode()
        gone.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        wait_for(lambda: json.loads(server.ask("GET", "/load")[1])["server_load"] == 1)
        gone.close()
        wait_for(lambda: json.loads(server.ask("GET", "/load")[1])["server_load"] == 0)
        server.process.send_signal(signal.SIGTERM)
        lines = [line for line in server.process.stderr.read().splitlines() if " /load " not in line]
        server.process.stderr.close()
        self.assertEqual(server.process.wait(WAIT), 0)
        self.assertEqual([re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*) \d+\.\d{3} s$", r"\1", line) for line in lines],
                         ["GET /props 200", "GET /health 200", "POST /v1/completions 200", "POST /v1/completions 400", "GET /??m 404",
                          "POST /v1/completions 499"])


class Keys(unittest.TestCase):
    def test_an_empty_key_is_refused_at_the_start(self):
        refused = subprocess.run([REDLINE, "serve", MODEL, "--api-key", ""], capture_output=True, text=True, timeout=WAIT)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("an API key is empty", refused.stderr)

    def test_every_route_but_health_needs_the_key_and_sigterm_ends_with_0(self):
        server = Server("--api-key", KEY)
        for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/nothing"), ("POST", "/v1/completions"), ("POST", "/tokenize"),
                             ("GET", "/props"), ("POST", "//v1/completions"), ("GET", "/health/..")):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"X-Api-Key": KEY + "x"}, {"Authorization": KEY}):
                self.assertEqual(server.ask(method, path, "{}" if method == "POST" else None, headers)[0], 401, (path, headers))
        routes = {(method.upper(), path) for path, methods in json.loads(OPENAPI.read_text())["paths"].items() for method in methods}
        public = {("GET", "/health"), ("GET", "/v1/health")}
        self.assertLess(public, routes)
        for method, path in {(method, path.replace("{model}", "tiny")) for method, path in routes - public}:
            for target in (path, path + "?/health", path + "/", "http://x" + path, "/health/.." + path, "/health#" + path, path.replace("/", "/%2e/", 1)):
                answer = server.raw(f"{method} {target} HTTP/1.1\r\nHost: /health\r\nX-Original-URL: /health\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                self.assertEqual(answer[9:12], b"401", (method, target, answer[:200]))
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}):
            self.assertEqual(server.ask("GET", "/v1/models", headers=headers)[0], 200)
        self.assertEqual(server.stop(), 0)


class Defaults(unittest.TestCase):
    def serve(self, config):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        model = pathlib.Path(self.directory.name) / "model"
        shutil.copytree(TINY, model)
        (model / "generation_config.json").write_text(config)
        return Server(model=model)

    def test_the_models_own_sampling_holds_until_a_field_says_otherwise(self):
        body = {"prompt": [5, 9, 2], "max_tokens": 24, "logprobs": 0, "ignore_eos": True}
        for config, same in (('{"temperature": 0}', True), ('{"top_k": 1, "temperature": 0.9}', True), ("{}", False)):
            server = self.serve(config)
            tokens = [server.post("/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"] for _ in range(2)]
            self.assertEqual(tokens[0] == tokens[1], same, config)
            hot = [server.post("/v1/completions", dict(body, temperature=2, top_k=0))["choices"][0]["logprobs"]["token_logprobs"] for _ in range(2)]
            self.assertNotEqual(*hot)
            self.assertEqual(server.stop(), 0)

    def test_values_out_of_range_are_a_broken_file(self):
        with self.assertRaises(RuntimeError):
            self.serve('{"top_p": 7}')


class Queue(unittest.TestCase):
    def test_calls_beyond_the_queue_get_429_and_when_to_come_again(self):
        server = Server("--max-queue", "1")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.events, "/v1/completions", dict(prompt="The sea", max_tokens=200, ignore_eos=True))
            while json.loads(server.ask("GET", "/load")[1])["server_load"] == 0:
                time.sleep(0.01)
            status, text, headers = server.ask("POST", "/v1/completions", "not even JSON")
            self.assertEqual((status, json.loads(text)["error"]["code"]), (429, "queue_full"), "known before the body is read")
            self.assertGreater(int(headers["Retry-After"]), 0)
            self.assertEqual(answer.result(WAIT)[-1], "[DONE]")
        self.assertEqual(len(server.post("/v1/completions", dict(GREEDY, prompt="x"))["choices"]), 1)
        self.assertEqual(server.stop(), 0)


class Draining(unittest.TestCase):
    def test_sigterm_lets_answers_end_and_takes_no_more(self):
        server = Server()
        body = dict(prompt="The sea", max_tokens=150, ignore_eos=True)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.events, "/v1/completions", body)
            wait_for(lambda: server.metric("redline_requests_running") == 1)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(answer.result(WAIT)[-1], "[DONE]")
        self.assertEqual(server.process.wait(WAIT), 0)
        with self.assertRaises(OSError):
            server.ask("GET", "/health")
        server.process.stderr.close()


try:
    import openai
except ImportError:
    openai = None


@unittest.skipUnless(openai, "OpenAI's client is not installed")
class OpenAiClient(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{SERVER.port}/v1", api_key="none", max_retries=0,
                                    _strict_response_validation=True)

    def test_chat_completions_streams_and_errors(self):
        chat = self.client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2)
        self.assertEqual(chat.choices[0].message.role, "assistant")
        stream = self.client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, temperature=0, stream=True,
                                                     stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chat.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, chat.usage.completion_tokens)
        text = self.client.completions.create(model="tiny", prompt="The sea", max_tokens=4, logprobs=1)
        self.assertEqual(text.usage.completion_tokens, 4)
        self.assertEqual(self.client.models.list().data[0].id, "tiny")
        self.assertEqual(self.client.models.retrieve("tiny").id, "tiny")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("org/other")
        more = self.client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=2, extra_body={"prompt_logprobs": 1, "bad_words": ["red"]})
        self.assertEqual(len(more.prompt_logprobs), more.usage.prompt_tokens)
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="other", messages=MESSAGES)
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(model="tiny", messages=[], max_tokens=1)


if __name__ == "__main__":
    SERVER = Server()
    run_tests(SERVER)
