#!/usr/bin/env python3
"""The requests of two load generators, byte for byte, their answers read as these clients read them.

    tests/server/load_clients_test.py REDLINE

vLLM's `vllm bench serve` (backends openai and openai-chat, over aiohttp) and NVIDIA's aiperf 0.13.0 (chat and completions). Standard
library only: neither has to be installed."""

import codecs
import concurrent.futures
import http.client
import json
import socket
import unittest

from serving import MESSAGES, WAIT, Server, run_tests

SERVER = None
ANY = "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nUser-Agent: Python/3.11 aiohttp/3.14.5\r\n"
TEXT = "The sea \u00e9 \u2014 and "


class Wire:
    """A connection that is kept, as both clients keep theirs: bytes go out as they are given."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", SERVER.port), WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, path, headers, body=b""):
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{SERVER.port}\r\n{headers}\r\n".encode())
        if body:
            self.socket.sendall(body)  # aiohttp writes it apart from the head
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return response

    def ask(self, *request):
        response = self.send(*request)
        return response.status, response.read().decode(), response.headers

    def vllm(self, path, payload, own=""):
        """`own`: the headers that the benchmark adds to those of aiohttp."""
        body = json.dumps(payload).encode()
        kind = "" if "Content-Type" in own else "Content-Type: application/json\r\n"
        return self.send("POST", path, f"{own}{ANY}Content-Length: {len(body)}\r\n{kind}", body)

    def aiperf(self, path, payload):
        body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        accept = "text/event-stream" if payload.get("stream") else "application/json"
        head = ("User-Agent: aiperf/0.13.0\r\nX-Request-ID: ad8d2282-18c3-4b10-acc7-5bcaaa0b16d1\r\nX-Correlation-ID: 815783d2-8379-4c3c-a937-f3621298ff56\r\n"
                f"Accept: {accept}\r\nContent-Type: application/json\r\nX-Session-Affinity: 815783d2-8379-4c3c-a937-f3621298ff56\r\nContent-Length: {len(body)}\r\n")
        return self.send("POST", path, head, body)


def http_chunks(response):
    """The chunks of an answer as the server cut them."""
    while size := int(response.fp.readline(), 16):
        yield response.fp.read(size)
        assert response.fp.read(2) == b"\r\n"
    assert response.fp.readline() == b"\r\n"
    response.close()


def vllm_events(pieces):
    """vLLM's reading: every piece loses the white space at its ends; an event ends at an empty line, or where it is whole JSON."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
    for piece in pieces:
        rest += decoder.decode(piece.strip())
        *events, rest = rest.split("\n\n")
        if rest.startswith("data: ") and (rest == "data: [DONE]" or is_json(rest.removeprefix("data: "))):
            events, rest = [*events, rest], ""
        yield from (event.strip().removeprefix("data: ") for event in events if event.strip())
    assert rest == "", f"left over: {rest!r}"


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Measured:
    """What a load generator takes from a stream: its text, the chunks that it times, the counts of the server."""

    def __init__(self, events, text_of):
        *chunks, done = events
        assert done == "[DONE]", done
        *chunks, last = [json.loads(chunk) for chunk in chunks]
        assert last["choices"] == [] and all(chunk["choices"] for chunk in chunks), "usage alone, and after everything else"
        assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
        self.chunks, self.usage = chunks, last["usage"]
        self.text = "".join(text_of(chunk["choices"][0]) or "" for chunk in chunks)


def vllm_measured(response):
    assert response.status == 200, (response.status, response.read())
    text_of = lambda choice: choice["delta"].get("content") if "delta" in choice else choice.get("text")
    return Measured(vllm_events(http_chunks(response)), text_of)


def vllm_completion(prompt, tokens, **more):
    return {"model": "tiny", "prompt": prompt, "repetition_penalty": 1.0, "max_tokens": tokens, "logprobs": None, "stream": True,
            "stream_options": {"include_usage": True}, **more}


def vllm_chat(content, tokens, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_completion_tokens": tokens, "stream": True,
            "stream_options": {"include_usage": True}, **more}


class VllmBench(unittest.TestCase):
    REQUEST_ID = "x-request-id: bench-4f2a-0\r\n"
    JSON = "Content-Type: application/json\r\n"

    def test_before_the_load_it_finds_the_model_and_aligns_its_tokenizer(self):
        with Wire() as wire:
            status, text, headers = wire.ask("GET", "/v1/models", ANY)
            model = json.loads(text)["data"][0]
            self.assertEqual((status, model["id"], model["root"], headers["Content-Type"]), (200, "tiny", "tiny", "application/json"))
            tokens = json.loads(wire.vllm("/tokenize", {"model": "tiny", "prompt": TEXT, "add_special_tokens": False}).read())["tokens"]
            self.assertEqual(json.loads(wire.vllm("/detokenize", {"model": "tiny", "tokens": tokens}).read())["prompt"], TEXT)
            status, text, _ = wire.ask("GET", "/metrics", ANY)
            self.assertEqual(status, 200)
            for line in text.splitlines():
                if line and not line.startswith("#"):
                    float(line.rsplit(" ", 1)[1])

    def test_completions_of_every_kind_of_prompt_and_option_on_one_connection(self):
        with Wire() as wire:
            ids = json.loads(wire.vllm("/tokenize", {"prompt": TEXT}).read())["tokens"]
            whole = SERVER.post("/v1/completions", {"prompt": TEXT, "max_tokens": 12, "temperature": 0, "ignore_eos": True})
            sampled = dict(top_p=0.9, top_k=-1, min_p=0.0, temperature=0.7, frequency_penalty=0.0, presence_penalty=0.1)
            for prompt, options, same in ((TEXT, dict(ignore_eos=True, temperature=0), True), (ids, dict(ignore_eos=True, temperature=0.0), True),
                                          ([TEXT], dict(ignore_eos=True, temperature=0), True), (TEXT, dict(ignore_eos=True, temperature=0, logprobs=2), True),
                                          (TEXT, dict(ignore_eos=True, **sampled), False),
                                          (TEXT, dict(ignore_eos=True, seed=3, min_tokens=12, cache_salt="x", kv_transfer_params={"do_remote": False}), False)):
                with self.subTest(prompt=str(prompt)[:20], options=options):
                    response = wire.vllm("/v1/completions", vllm_completion(prompt, 12, **options), "Authorization: Bearer any\r\n" + self.REQUEST_ID)
                    self.assertEqual(response.headers["X-Request-Id"], "bench-4f2a-0")
                    measured = vllm_measured(response)
                    self.assertEqual((measured.usage["prompt_tokens"], measured.usage["completion_tokens"]), (len(ids), 12))
                    self.assertLessEqual(len(measured.chunks), 12)
                    if same:
                        self.assertEqual(measured.text, whole["choices"][0]["text"])

    def test_without_ignore_eos_it_still_gets_a_chunk_to_time(self):
        with Wire() as wire:
            for tokens in (1, 2, 40):
                measured = vllm_measured(wire.vllm("/v1/completions", vllm_completion("Hi", tokens, temperature=0), self.REQUEST_ID))
                self.assertGreaterEqual(len(measured.chunks), 1)
                self.assertLessEqual(measured.usage["completion_tokens"], tokens)

    def test_chats_in_parts_in_messages_and_with_extra_fields(self):
        with Wire() as wire:
            ask = dict(temperature=0, ignore_eos=True)
            whole = SERVER.post("/v1/chat/completions", dict(ask, messages=MESSAGES, max_tokens=12))
            text = MESSAGES[0]["content"]
            for content, extra in (([{"type": "text", "text": text}], {}), (text, {}), ([{"type": "text", "text": text[:4]}, {"type": "text", "text": text[4:]}], {}),
                                   (text, dict(chat_template_kwargs={"enable_thinking": False}, repetition_penalty=1.0, top_k=0))):
                with self.subTest(content=str(content)[:40], extra=extra):
                    measured = vllm_measured(wire.vllm("/v1/chat/completions", vllm_chat(content, 12, **ask, **extra), self.JSON + self.REQUEST_ID))
                    self.assertEqual(measured.text, whole["choices"][0]["message"]["content"])
                    self.assertEqual(measured.usage["completion_tokens"], 12)
                    self.assertEqual(measured.usage["prompt_tokens"], whole["usage"]["prompt_tokens"])

    def test_every_chunk_on_the_wire_is_whole_events(self):
        """The client strips each piece: a cut inside "data: " would lose the space, and the event with it."""
        with Wire() as wire:
            for path, payload in (("/v1/completions", vllm_completion(TEXT, 40, ignore_eos=True, temperature=1.5, seed=1)),
                                  ("/v1/chat/completions", vllm_chat(TEXT, 40, ignore_eos=True, temperature=1.5, seed=1))):
                for chunk in http_chunks(wire.vllm(path, payload, self.REQUEST_ID)):
                    self.assertTrue(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n"), chunk)

    def test_a_refusal_has_a_reason_in_its_first_line(self):
        """All that this client shows of it."""
        with Wire() as wire:
            for change in ({"model": "other"}, {"temperature": -1}, {"prompt": [5] * 70000}):
                response = wire.vllm("/v1/completions", dict(vllm_completion("x", 4), **change), self.REQUEST_ID)
                self.assertIn((response.status, response.reason), ((404, "Not Found"), (400, "Bad Request")))
                self.assertIn("error", json.loads(response.read()))

    def test_sixteen_at_a_time_are_counted_right(self):
        def client(i):
            with Wire() as wire:
                one = vllm_measured(wire.vllm("/v1/completions", vllm_completion(f"{i} birds", 20, ignore_eos=True), self.REQUEST_ID))
                two = vllm_measured(wire.vllm("/v1/chat/completions", vllm_chat([{"type": "text", "text": f"{i}?"}], 10, ignore_eos=True), self.JSON + self.REQUEST_ID))
                return one.usage["completion_tokens"] + two.usage["completion_tokens"]
        before = SERVER.metric("redline_generated_tokens_total")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(client, range(32))), [30] * 32)
        self.assertEqual(SERVER.metric("redline_generated_tokens_total") - before, 30 * 32)


class Aiperf(unittest.TestCase):
    SYSTEM = {"role": "system", "content": "Be brief."}
    USER = {"role": "user", "content": "ites Then tell me I pray thee whats Thersites"}

    def measured(self, response, usage_everywhere=False):
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["X-Request-ID"], "ad8d2282-18c3-4b10-acc7-5bcaaa0b16d1")
        events = response.read().decode().split("\n\n")
        self.assertEqual(events.pop(), "")
        self.assertTrue(all(event.startswith("data: ") for event in events))
        text_of = lambda choice: choice["delta"].get("content") if "delta" in choice else choice["text"]
        measured = Measured([event.removeprefix("data: ") for event in events], text_of)
        self.assertEqual(usage_everywhere, all("usage" in chunk for chunk in measured.chunks))
        return measured

    def test_before_the_load_it_probes_the_model_with_one_token_and_looks_for_metrics(self):
        with Wire() as wire:
            self.assertEqual(wire.ask("GET", "/v1/models", "Accept: */*\r\n")[0], 200)
            body = b'{"messages":[{"role":"user","content":"Lo"}],"max_tokens":1,"model":"tiny"}'
            status, text, _ = wire.ask("POST", "/v1/chat/completions", f"Content-Type: application/json\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n", body)
            self.assertEqual((status, json.loads(text)["usage"]["completion_tokens"]), (200, 1))
            self.assertEqual(wire.ask("HEAD", "/metrics", ANY)[:2], (200, ""))
            for _ in range(3):  # while the load runs
                status, text, headers = wire.ask("GET", "/metrics", ANY)
                self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, "text/plain"))
                self.assertIn("redline_requests_running", text)

    def test_chats_streamed_whole_and_in_turns(self):
        options = {"include_usage": True}
        with Wire() as wire:
            chat = {"messages": [self.USER], "model": "tiny", "stream": True, "max_completion_tokens": 16, "ignore_eos": True, "temperature": 0, "stream_options": options}
            streamed = self.measured(wire.aiperf("/v1/chat/completions", chat))
            self.assertEqual(streamed.usage["completion_tokens"], 16)
            whole = {"messages": [self.USER], "model": "tiny", "stream": False, "max_tokens": 16, "min_tokens": 16, "ignore_eos": True, "temperature": 0}
            answer = json.loads(wire.aiperf("/v1/chat/completions", whole).read())
            self.assertEqual(answer["choices"][0]["message"]["content"], streamed.text)
            self.assertEqual(answer["usage"]["prompt_tokens"], streamed.usage["prompt_tokens"])
            turns = [self.SYSTEM, self.USER, {"role": "assistant", "content": streamed.text}, self.USER]
            both = self.measured(wire.aiperf("/v1/chat/completions", dict(chat, messages=turns, stream_options=dict(options, continuous_usage_stats=True))), True)
            counts = [chunk["usage"]["completion_tokens"] for chunk in both.chunks]
            self.assertEqual((counts, counts[-1]), (sorted(counts), 16))

    def test_completions_streamed(self):
        with Wire() as wire:
            body = {"prompt": self.USER["content"], "model": "tiny", "stream": True, "max_tokens": 8, "ignore_eos": True, "temperature": 0,
                    "stream_options": {"include_usage": True}}
            streamed = self.measured(wire.aiperf("/v1/completions", body))
            self.assertEqual(streamed.usage["completion_tokens"], 8)
            whole = SERVER.post("/v1/completions", {"prompt": self.USER["content"], "max_tokens": 8, "ignore_eos": True, "temperature": 0})
            self.assertEqual(streamed.text, whole["choices"][0]["text"])


if __name__ == "__main__":
    SERVER = Server()
    run_tests(SERVER)
