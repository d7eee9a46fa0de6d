#!/usr/bin/env python3
"""What goes wrong with one request, and what the others notice of it: nothing. docs/reliability.md lists the cases.

    tests/server/faults_test.py REDLINE

Standard library only. The models: the real one, and small random ones (tiny_model.py)."""

import concurrent.futures
import json
import pathlib
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

import tiny_model
from sanitizers import SANITIZER
from serving import GREEDY, REDLINE, WAIT, Server, run_tests, wait_for

SERVER = None


def status_of(server, field):
    """A number of the server's /proc/PID/status, in bytes."""
    return int(pathlib.Path(f"/proc/{server.process.pid}/status").read_text().split(field + ":")[1].split()[0]) * 1024


def post_bytes(body, path="/v1/completions"):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data


class SmallModel(unittest.TestCase):
    """A server of a small model of its own; tokens are characters."""
    model, flags, prefix = {}, (), ()

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.path = cls.directory.name + "/small.gguf"
        tiny_model.write_model(cls.path, **cls.model)
        cls.server = Server(*(flag.format(cls.directory.name) for flag in cls.flags), model=cls.path, prefix=cls.prefix)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0
        cls.directory.cleanup()


class BrokenLogits(SmallModel):
    POISON = "~"
    model = {"poison": POISON}
    WITHOUT = {str(tiny_model.CHARACTERS.index(POISON)): -100}

    def sound(self, i):
        body = {"prompt": f"sound {i}", "max_tokens": 200, "seed": i, "ignore_eos": True, "logit_bias": self.WITHOUT}
        return json.loads(self.server.ask("POST", "/v1/completions", body)[1])["choices"][0]["text"]

    def test_a_request_that_breaks_has_500_and_its_neighbours_their_answers(self):
        alone = [self.sound(i) for i in range(8)]
        failed = self.server.metric('redline_requests_total{finish_reason="error"}')
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = pool.map(self.sound, range(8))
            for _ in range(8):
                status, text, _ = self.server.ask("POST", "/v1/completions", {"prompt": "broken " + self.POISON, "max_tokens": 20})
                error = json.loads(text)["error"]
                self.assertEqual((status, error["type"], error["code"]), (500, "server_error", "generation_failed"))
                self.assertIn("NaN", error["message"])
            self.assertEqual(list(answers), alone)
        self.assertEqual(self.server.metric('redline_requests_total{finish_reason="error"}'), failed + 8)

    def test_a_stream_that_breaks_ends_with_an_error_event_and_without_done(self):
        forced = {str(tiny_model.CHARACTERS.index(self.POISON)): 100}  # the first token is the poison
        with socket.create_connection(("127.0.0.1", self.server.port), WAIT) as connection:
            connection.sendall(post_bytes({"prompt": "abc", "max_tokens": 20, "stream": True, "ignore_eos": True, "logit_bias": forced}))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), "a token was told before it broke")
        last = answer.split(b"data: ")[-1]
        self.assertEqual(json.loads(last.split(b"\n\n")[0])["error"]["code"], "generation_failed")
        self.assertNotIn(b"[DONE]", answer)
        self.assertFalse(answer.endswith(b"0\r\n\r\n"), "no proper end")

    def test_its_blocks_are_not_found_again(self):
        prompt = "x" * 64 + self.POISON
        for _ in range(2):
            self.assertEqual(self.server.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 2})[0], 500)
        self.assertEqual(self.server.metric("redline_kv_usage_ratio"), 0)
        usage = self.server.post("/v1/completions", {"prompt": "x" * 64 + "abc", "max_tokens": 2, "logit_bias": self.WITHOUT})["usage"]
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)


class SlowReaders(SmallModel):
    model = dict(layers=1, hidden=32, heads=2, kv_heads=1, ffn=32)
    flags = ("--kv-memory", "64MiB")

    def test_what_waits_for_a_reader_is_bounded_and_he_is_told_what_he_missed(self):
        """Long before the 30 s after which he would be cut off: eight answers with log-probabilities fill their bound in a second or two."""
        before = self.server.metric("redline_stalled_readers_total")
        connections = [socket.socket() for _ in range(4)]
        for connection in connections:
            connection.settimeout(WAIT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", self.server.port))
            connection.sendall(post_bytes({"prompt": "The sea", "max_tokens": 4000, "ignore_eos": True, "stream": True, "logprobs": 20, "n": 8}))
        wait_for(lambda: self.server.metric("redline_requests_running") > 0)
        memory = status_of(self.server, "VmRSS")
        wait_for(lambda: self.server.metric("redline_requests_running") == 0)
        self.assertLess(status_of(self.server, "VmRSS") - memory, 4 * (8 << 20))
        self.assertEqual(self.server.events("/v1/completions", dict(GREEDY, prompt="The sea"))[-1], "[DONE]")
        for connection in connections:  # now they read on
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.close()
            self.assertIn(b'"code":"reader_too_slow"', answer[-2000:])
            self.assertNotIn(b"[DONE]", answer)
        wait_for(lambda: self.server.metric("redline_stalled_readers_total") == before + 4)

    def test_a_pause_is_no_stall(self):
        with socket.socket() as connection:
            connection.settimeout(WAIT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", self.server.port))
            connection.sendall(post_bytes({"prompt": "The sea", "max_tokens": 2000, "ignore_eos": True, "stream": True}))
            self.assertTrue(connection.recv(1))
            time.sleep(3)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        self.assertIn(b"[DONE]", answer)


class Cancelled(unittest.TestCase):
    def test_a_client_that_goes_during_its_prompt_ends_it_there(self):
        tokens = lambda: sum(SERVER.metric(f'redline_tokens_total{{phase="prefill",work="{work}"}}') for work in ("useful", "wasted"))
        length = 7000
        for reset in (False, True):
            before, answered = tokens(), SERVER.metric("redline_generated_tokens_total")
            prompt = [random.Random(reset).randrange(1000, 40000) for _ in range(length)]
            connection = socket.create_connection(("127.0.0.1", SERVER.port), WAIT)
            connection.sendall(post_bytes({"prompt": prompt, "max_tokens": 5}))
            wait_for(lambda: tokens() > before)  # it computes
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            wait_for(lambda: SERVER.metric("redline_requests_running") == 0)
            self.assertLess(tokens() - before, length)
            self.assertEqual(SERVER.metric("redline_generated_tokens_total"), answered)
            self.assertEqual(SERVER.metric("redline_kv_usage_ratio"), 0)


class Memory(unittest.TestCase):
    def test_a_head_that_promises_a_long_body_costs_nothing_until_it_comes(self):
        before, sent, connections = status_of(SERVER, "VmData"), 0, []
        for _ in range(50):
            connections.append(socket.create_connection(("127.0.0.1", SERVER.port), WAIT))
            data = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 33000000\r\n\r\n" + b"x" * 1000
            connections[-1].sendall(data)
            sent += len(data)
        self.assertEqual(SERVER.ask("GET", "/health")[0], 200)
        self.assertLess(status_of(SERVER, "VmData") - before, 100 * sent + (16 << 20))
        for connection in connections:
            connection.close()

    def test_no_body_costs_a_hundred_times_its_size(self):
        size = 2 << 20
        for name, body in {"lists": "[" + "[]," * (size // 3) + "[]]", "objects": "[" + "{}," * (size // 3) + "{}]", "numbers": "[" + "1," * (size // 2) + "1]",
                           "keys": "{" + ",".join(f'"{i}":0' for i in range(size // 10)) + "}", "strings": "[" + '"",' * (size // 3) + '""]',
                           "escapes": '"' + "\\u00e9" * (size // 6) + '"'}.items():
            before = status_of(SERVER, "VmHWM")
            status, text, _ = SERVER.ask("POST", "/v1/completions", '{"prompt": ' + body + ', "max_tokens": 1}')
            expected = {"keys": "invalid_json", "numbers": "invalid_request", "escapes": "invalid_request"}.get(name, "invalid_value")  # some are prompts, too long
            self.assertEqual((status, json.loads(text)["error"]["code"]), (400, expected), text[:300])
            self.assertLess(status_of(SERVER, "VmHWM") - before, 100 * size, name)


    def test_a_thousand_answers_share_what_they_were_asked(self):
        many = {"prompt": ["a"] * 8, "n": 128, "max_tokens": 2, "temperature": 0}
        whole = SERVER.post("/v1/completions", many)  # takes its blocks of the cache
        for name, more in {"stop": {"stop": [chr(97 + i) * 4000 for i in range(16)]}, "bad_words": {"bad_words": ["xyzw " * 60] * 1000},
                           "logit_bias": {"logit_bias": {str(i): 1e-6 for i in range(1024)}}, "allowed_token_ids": {"allowed_token_ids": list(range(49152))}}.items():
            before, size = status_of(SERVER, "VmHWM"), len(json.dumps(dict(many, **more)))
            self.assertEqual([c["text"] for c in SERVER.post("/v1/completions", dict(many, **more))["choices"]], [c["text"] for c in whole["choices"]], name)
            self.assertLess(status_of(SERVER, "VmHWM") - before, 100 * size + (8 << 20), name)


class FullDisk(SmallModel):
    """Files that cannot grow: EFBIG instead of ENOSPC, and nothing to mount."""
    flags = ("--ledger", "{}/ledger.db")
    prefix = ("bash", "-c", "trap '' XFSZ; exec \"$@\"", "bash")

    def num_calls(self):
        report = subprocess.run([REDLINE, "report", self.directory.name + "/ledger.db", "--since", "1d", "--json"], capture_output=True, text=True, check=True)
        return sum(row["calls"] for row in json.loads(report.stdout)["rows"])

    def ask(self, times):
        for _ in range(times):
            self.server.post("/v1/completions", {"prompt": "abc", "max_tokens": 3})

    def test_calls_go_on_while_the_ledger_cannot_be_written_and_are_in_it_once_it_can(self):
        limit = lambda size: resource.prlimit(self.server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        self.ask(2)
        wait_for(lambda: self.num_calls() == 2)
        limit(1024)
        self.ask(20)
        time.sleep(2)  # several attempts
        self.assertEqual(self.num_calls(), 2, "what it holds is whole")
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        limit(resource.RLIM_INFINITY)
        wait_for(lambda: self.num_calls() == 22)

    def test_a_server_that_ends_before_its_ledger_could_be_written_says_so(self):
        ledger = self.directory.name + "/lost.db"
        server = Server("--ledger", ledger, model=self.path, prefix=self.prefix)
        server.post("/v1/completions", {"prompt": "abc", "max_tokens": 3})
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        server.post("/v1/completions", {"prompt": "abc", "max_tokens": 3})
        server.process.send_signal(signal.SIGTERM)
        said = server.process.stderr.read().splitlines()
        server.process.stderr.close()
        self.assertEqual(server.process.wait(WAIT), 1)
        self.assertEqual(said[-1], f"redline: {ledger}: the accounts of the last calls were not written")
        self.assertTrue(any(line.startswith("the ledger cannot be written, calls wait: ") for line in said), said)

    def test_a_batch_says_that_its_output_is_full_and_goes_on_once_there_is_room(self):
        lines = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": {"prompt": "abc", "max_tokens": 3}} for i in range(20)]
        source, out = pathlib.Path(self.directory.name, "in.jsonl"), pathlib.Path(self.directory.name, "out.jsonl")
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        batch = ["batch", self.path, str(source), str(out)]
        full = subprocess.run(["bash", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "bash", REDLINE, *batch], capture_output=True, text=True, timeout=WAIT)
        self.assertEqual(full.returncode, 1, full.stderr)
        self.assertRegex(full.stderr.strip().splitlines()[-1], f"^redline: {out}: cannot be written: ")
        written = out.read_bytes()
        self.assertTrue(0 < len(written) <= 4096)
        subprocess.run([REDLINE, *batch], capture_output=True, check=True, timeout=WAIT)
        self.assertTrue(out.read_bytes().startswith(written[:written.rfind(b"\n") + 1]), "what was whole stays")
        results = [json.loads(line) for line in out.read_text().splitlines()]
        self.assertEqual(sorted(int(result["custom_id"]) for result in results), list(range(20)))
        self.assertEqual({result["response"]["status_code"] for result in results}, {200})


class FullMemory(SmallModel):
    def test_a_body_without_room_is_its_clients_loss_alone(self):
        size = status_of(self.server, "VmSize")
        if size > 1 << 40:
            self.skipTest("a sanitizer's address space")
        limit = lambda most: resource.prlimit(self.server.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        body = json.dumps({"prompt": "x" * (24 << 20), "max_tokens": 1})

        def ask(_):
            try:
                return self.server.ask("POST", "/v1/completions", body)[0]
            except OSError:
                return None  # its answer came before its body had gone

        limit(size + (8 << 20))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for status in pool.map(ask, range(8)):
                self.assertIn(status, (503, None))
        self.assertEqual(self.server.ask("POST", "/v1/completions", dict(GREEDY, prompt="abc"))[0], 200)
        limit(resource.RLIM_INFINITY)
        self.assertEqual(ask(0), 400, "too long a prompt")


def memory_group():
    """The control group of memory that this process is in, and the names of its files for limit, usage and kills."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return pathlib.Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"
        controllers_file = pathlib.Path("/sys/fs/cgroup" + path) / "cgroup.subtree_control"
        if not controllers and controllers_file.exists() and "memory" in controllers_file.read_text():
            return controllers_file.parent, "memory.max", "memory.current", "memory.events"
    raise OSError("no control group of memory is mounted")


class FullGroup(unittest.TestCase):
    """A control group kills what outgrows it: the server has allocations fail before that."""

    def setUp(self):
        try:
            group, self.limit, self.usage, self.kills = memory_group()
            self.group = pathlib.Path(tempfile.mkdtemp(prefix="redline", dir=group))
            self.addCleanup(self.remove_group)
            (self.group / self.limit).write_text(str(256 << 20))
        except OSError as error:
            self.skipTest(f"no control group can be made: {error}")
        if SANITIZER:
            self.skipTest("a sanitizer's memory")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        tiny_model.write_model(self.folder + "/small.gguf")

    def remove_group(self):
        wait_for(lambda: not (self.group / "cgroup.procs").read_text())
        self.group.rmdir()

    def test_requests_beyond_its_memory_are_refused_and_the_others_answered_and_accounted_for(self):
        ledger = self.folder + "/ledger.db"
        into_group = f'echo $$ > {self.group}/cgroup.procs; exec "$@"'
        server = Server("--kv-memory", "16MiB", "--ledger", ledger, model=self.folder + "/small.gguf", prefix=("bash", "-c", into_group, "bash"))
        self.addCleanup(server.process.kill)
        statuses = []

        def ask_much(size):
            try:
                return server.ask("POST", "/v1/completions", json.dumps({"prompt": "x" * size, "max_tokens": 1}))[0]
            except OSError:
                return None  # its answer came before its body had gone

        small = lambda i: server.post("/v1/completions", {"prompt": f"abc{i}", "max_tokens": 20, "ignore_eos": True})["usage"]["completion_tokens"]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            for _ in range(3):
                much = [pool.submit(ask_much, 30 << 20) for _ in range(16)]
                self.assertEqual(list(pool.map(small, range(20))), [20] * 20)
                statuses += [each.result() for each in much]
        self.assertIn(503, statuses)
        self.assertLessEqual(set(statuses), {503, 400, None})
        self.assertEqual(ask_much(2 << 20), 400, "there is room again, and it is too long a prompt")
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertEqual(server.metric("redline_kv_usage_ratio"), 0)
        self.assertEqual(server.stop(), 0)
        report = subprocess.run([REDLINE, "report", ledger, "--since", "1d", "--json"], capture_output=True, text=True, check=True)
        self.assertEqual(sum(row["generated_tokens"] for row in json.loads(report.stdout)["rows"]), 60 * 20)
        kills = re.search(r"^oom_kill (\d+)", (self.group / self.kills).read_text(), re.M)
        self.assertEqual(int(kills[1]), 0)


class Admission(SmallModel):
    flags = ("--kv-memory", "64KiB")

    def test_what_the_cache_can_never_hold_is_refused_with_both_numbers(self):
        longest = json.loads(self.server.ask("GET", "/v1/models")[1])["data"][0]["max_model_len"]
        for length in (longest, longest + 1, 8000):
            error = json.loads(self.server.ask("POST", "/v1/completions", {"prompt": "x" * length, "max_tokens": 1})[1])["error"]
            self.assertEqual(error["param"], "prompt")
            self.assertIn(f"{length} tokens", error["message"])
            self.assertIn(str(longest), error["message"])
        for n in (1, 8):
            answer = self.server.post("/v1/completions", {"prompt": "x" * (longest - 1), "n": n})
            self.assertEqual(answer["usage"]["completion_tokens"], n)

    def test_more_than_fits_at_once_is_answered_one_after_the_other(self):
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            body = lambda i: {"prompt": f"{i:03}" * 8, "max_tokens": 50, "ignore_eos": True, "seed": i, "temperature": 1}
            answers = list(pool.map(lambda i: self.server.post("/v1/completions", body(i)), range(48)))
        for i, answer in enumerate(answers):
            self.assertEqual(answer["usage"]["completion_tokens"], 50)
        again = [self.server.post("/v1/completions", body(i))["choices"][0]["text"] for i in range(0, 48, 7)]
        self.assertEqual(again, [answer["choices"][0]["text"] for answer in answers[::7]])


class Contamination(SmallModel):
    def test_every_answer_continues_its_own_prompt(self):
        """A marker for each of 64 requests: what its prompt is, and what greedy choice alone made of it."""
        body = lambda i: dict(prompt=f"<{i * 7919 % 1000:03}>" * 4, max_tokens=40, temperature=0, ignore_eos=True, echo=True)
        alone = [self.server.post("/v1/completions", body(i))["choices"][0]["text"] for i in range(64)]
        self.assertEqual(len(set(alone)), 64)
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            for _ in range(3):
                self.assertEqual(list(pool.map(lambda i: self.server.post("/v1/completions", body(i))["choices"][0]["text"], range(64))), alone)


class Templates(unittest.TestCase):
    ASK = [{"role": "user", "content": "Name two colours."}]

    def test_clients_bring_no_template(self):
        prompt = SERVER.post("/apply-template", {"messages": self.ASK})["prompt"]
        for field in ("chat_template", "template"):
            self.assertEqual(SERVER.post("/apply-template", {"messages": self.ASK, field: "{% for i in range(999999999) %}x{% endfor %}"})["prompt"], prompt)
        kwargs = {"chat_template_kwargs": {"chat_template": "x"}}
        self.assertEqual(SERVER.post("/apply-template", dict(kwargs, messages=self.ASK))["prompt"], prompt)

    def test_endless_conversations_are_refused_while_others_are_served(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            bomb = pool.submit(SERVER.ask, "POST", "/v1/chat/completions", {"messages": self.ASK * 300000, "max_tokens": 1})
            for _ in range(5):
                self.assertEqual(SERVER.ask("GET", "/health")[0], 200)
            status, text, _ = bomb.result(2 * WAIT)
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, "messages"), text[:300])


if __name__ == "__main__":
    SERVER = Server()
    run_tests(SERVER)
