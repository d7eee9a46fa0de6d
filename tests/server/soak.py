#!/usr/bin/env python3
"""Many clients of one `redline serve` at once, some of them bad: nothing may be lost, reordered, duplicated or kept.

    tests/server/soak.py REDLINE [--full] [--streams N] [--seconds S] [--model tiny|null] [--record FILE]

Without --full: 300 streams for 20 s and what the stalled ones take, for CI. --full: 2,000 streams of the tiny model for three minutes, then 10,000 of the null
model. For --seconds every place holds one stream after another. One place in ten stalls: it reads the beginning of a long answer and then
nothing. Each second one place in a hundred drops its connection, wherever its answer is. All others must get, character by character,
what the same request got alone. Afterwards every stream is accounted for, the cache is empty, descriptors are back, and the memory that
the server took has not grown from the first half of the run to the second.

tiny: 2 layers, hidden 64, 70 k weights. null: 1 layer, hidden 32, 13 k weights: next to no arithmetic, all else as ever. Both have
random weights and tokens of one character. Standard library only."""

import argparse
import asyncio
import datetime
import http.client
import json
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tiny_model
from sanitizers import SANITIZER, SLOWDOWN

MODELS = {"tiny": {}, "null": dict(layers=1, hidden=32, heads=2, kv_heads=1, ffn=32)}
NUM_REQUESTS = 200  # different ones, each with its own prompt, seed and length
STALL_TOKENS, STALL_LOGPROBS = 4000, 20  # of the answers of those who stall: soon more than the sockets' buffers hold
STALLED_SHARE, DROPPED_SHARE = 0.1, 0.01
BYTES_PER_STREAM = 96 << 10  # of the server's memory, at most, kernel buffers not counted
BYTES_PER_STALLED = 2 << 20  # more for an answer that waits for its reader: the tokens and log-probabilities until it is cut off


class Server:
    def __init__(self, program, model, streams):
        self.flags = ["--ctx", "8192", "--max-num-seqs", str(streams), "--max-num-batched-tokens", str(2 * streams), "--max-queue",
                      str(2 * streams), "--kv-memory", "2GiB"]
        self.process = subprocess.Popen([program, "serve", model, "--port", "0", *self.flags], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if " is served at http://" in line:
                self.port = int(line.rsplit(":", 1)[1])
                return
        raise RuntimeError("the server did not start")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * SLOWDOWN)
        connection.request(method, path, body and json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == 200, text
        return text

    def metrics(self):
        samples = {}
        for line in self.ask("GET", "/metrics").splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def request_body(index, stalls=False):
    rng = random.Random(index)
    prompt = "".join(rng.choice("abcdefghij klmnop") for _ in range(rng.randint(3, 60)))
    body = {"prompt": prompt, "seed": index, "temperature": 1, "ignore_eos": True, "max_tokens": rng.randint(20, 100)}
    return dict(body, max_tokens=STALL_TOKENS, logprobs=STALL_LOGPROBS) if stalls else body


class Stream(asyncio.Protocol):
    """One streamed answer's bytes. Done when the connection is."""

    def __init__(self, body, stalls):
        self.body, self.stalls = json.dumps(dict(body, stream=True)).encode(), stalls
        self.received, self.done, self.dropped, self.stalled_at = bytearray(), asyncio.get_running_loop().create_future(), False, None

    def request(self):
        return b"POST /v1/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        if self.stalls and self.stalled_at is None:
            self.stalled_at = time.monotonic()
            self.transport.pause_reading()

    def connection_lost(self, error):
        if not self.done.done():
            self.done.set_result(None)

    def drop(self):
        if self.done.done():
            return
        self.dropped = True
        self.transport.abort()

    def events(self):
        """(the events' data, whether the answer is whole)."""
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(f"refused: {bytes(self.received[:300])}")
        content, whole = bytearray(), False
        while not whole:
            size, found, rest = rest.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                break
            content += rest[:int(size, 16)]
            whole, rest = int(size, 16) == 0, rest[int(size, 16) + 2:]
        events = content.decode().split("\n\n")
        return [event.removeprefix("data: ") for event in events[:-1]], whole and events[-1] == ""


def text_of(events):
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    assert len({chunk["id"] for chunk in chunks}) <= 1, "chunks of another answer"
    return "".join(chunk["choices"][0]["text"] for chunk in chunks)


class Soak:
    def __init__(self, server, streams, seconds, seed):
        self.server, self.streams, self.seconds, self.random = server, streams, seconds, random.Random(seed)
        self.live, self.counts, self.memory, self.problems = {}, dict(sent=0, whole=0, dropped=0, cut=0), [], []
        self.num_running, self.stall_seconds = 0, 38 if seconds < 60 else seconds - 20  # the server's 30, and what filling the buffers takes

    def reference(self, index, stalls):
        key = (index, stalls)
        if key not in self.references:
            self.references[key] = json.loads(self.server.ask("POST", "/v1/completions", request_body(index, stalls)))["choices"][0]["text"]
        return self.references[key]

    async def place(self, number):
        stalls = number < self.streams * STALLED_SHARE
        await asyncio.sleep(number / self.streams * min(5, self.seconds / 8))  # not all in one instant
        while time.monotonic() < self.end:
            index = self.random.randrange(5 if stalls else NUM_REQUESTS)
            connection = socket.socket()
            if stalls:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # At once: this loop may come round late, and of a crowd the server expects the head within a second.
            stream = Stream(request_body(index, stalls), stalls)
            connection.connect(("127.0.0.1", self.server.port))
            connection.send(stream.request())
            await asyncio.get_running_loop().create_connection(lambda: stream, sock=connection)
            self.counts["sent"] += 1
            self.live[number] = stream
            if stalls:  # long enough to be cut off; then read what is left
                while not stream.done.done() and not (stream.stalled_at and time.monotonic() > stream.stalled_at + self.stall_seconds):
                    await asyncio.sleep(0.5)
                if not stream.done.done():
                    stream.transport.resume_reading()
                    asyncio.get_running_loop().call_later(10, stream.drop)  # the server was too slow to fill the buffers
            await stream.done
            del self.live[number]
            self.check(stream, index)

    def check(self, stream, index):
        if stream.dropped:
            self.counts["dropped"] += 1
            return
        try:
            events, whole = stream.events()
            text, expected = text_of(events), self.references[index, stream.stalls]
            assert expected.startswith(text), f"other text: {text[:60]!r} for {expected[:60]!r}"
            assert stream.stalls or (whole and events[-1] == "[DONE]" and text == expected), f"broken off after {len(text)} of {len(expected)}"
        except AssertionError as problem:
            self.problems.append(f"request {index}: {problem}")
        else:
            self.counts["whole" if whole else "cut"] += 1

    async def disturb(self):
        while True:
            await asyncio.sleep(1)
            self.memory.append((time.monotonic(), self.server.memory()))
            self.num_running = max(self.num_running, len(self.live))
            readers = [stream for stream in self.live.values() if not stream.stalls]
            for stream in self.random.sample(readers, min(len(readers), round(self.streams * DROPPED_SHARE))):
                stream.drop()

    async def run(self):
        self.end = time.monotonic() + self.seconds
        middle = time.monotonic() + self.seconds / 2
        disturbing = asyncio.create_task(self.disturb())
        await asyncio.gather(*(self.place(number) for number in range(self.streams)))
        disturbing.cancel()
        return max((m for t, m in self.memory if t < middle), default=0), max((m for t, m in self.memory if t >= middle), default=0)

    def verify(self):
        server = self.server
        self.references = {}
        for index in range(NUM_REQUESTS):
            self.reference(index, False)
        for index in range(5):
            self.reference(index, True)
        before, descriptors, base = server.metrics(), server.descriptors(), server.memory()
        start = time.monotonic()
        first, second = asyncio.run(self.run())
        seconds = time.monotonic() - start
        for _ in range(100 * SLOWDOWN):
            after = server.metrics()
            if after["redline_requests_running"] == after["redline_requests_waiting"] == 0 and server.descriptors() <= descriptors + 1:
                break
            time.sleep(0.1)

        def expect(condition, message):
            if not condition:
                self.problems.append(message)

        ended = {name: after[name] - before[name] for name in after if name.startswith("redline_requests_total{")}
        expect(sum(ended.values()) == self.counts["sent"], f"{self.counts['sent']} streams were sent, {ended} ended")
        expect(sum(value for name, value in ended.items() if "error" in name) == 0, f"answers ended in errors: {ended}")
        expect(after["redline_requests_running"] == after["redline_requests_waiting"] == 0, "requests are left")
        expect(after["redline_kv_usage_ratio"] == 0, f"{after['redline_kv_usage_ratio']} of the cache is still in use")
        expect(server.descriptors() <= descriptors + 1, f"{server.descriptors()} descriptors, {descriptors} before")
        waiting = int(self.streams * STALLED_SHARE * BYTES_PER_STALLED)
        # A sanitizer's own memory is no measure.
        expect(SANITIZER or max(first, second) <= base + self.streams * BYTES_PER_STREAM + waiting + (64 << 20), f"{max(first, second)} bytes, {base} before")
        expect(SANITIZER or second <= first * 1.15 + waiting + (16 << 20), f"{second} bytes in the second half, {first} in the first")
        expect(self.num_running >= self.streams * 0.9, f"only {self.num_running} streams at a time")
        expect(self.counts["dropped"] > 0 and self.counts["cut"] > 0, f"nobody was bad: {self.counts}")
        tokens = after["redline_generated_tokens_total"] - before["redline_generated_tokens_total"]
        return {"streams_at_a_time": self.num_running, "seconds": round(seconds), **self.counts, "tokens": int(tokens),
                "tokens_per_s": round(tokens / seconds), "rss_before_mb": base >> 20, "rss_first_half_mb": first >> 20, "rss_second_half_mb": second >> 20,
                "preemptions": int(after["redline_preemptions_total"] - before["redline_preemptions_total"]), "problems": len(self.problems)}


def soak(program, model, streams, seconds, record):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{model}.gguf"
        tiny_model.write_model(path, **MODELS[model])
        server = Server(program, path, streams)
        try:
            run = Soak(server, streams, seconds, seed=streams)
            row = run.verify()
        finally:
            server.process.send_signal(signal.SIGTERM)
            status = server.process.wait(60 * SLOWDOWN)
    if status != 0:
        run.problems.append(f"the server ended with {status}")
    row = {"date": datetime.date.today().isoformat(), "test": "soak", "model": model, "cores": os.cpu_count(),
           "load_average": round(os.getloadavg()[0], 1), "server_flags": " ".join(server.flags), **row}
    print(json.dumps(row))
    for problem in run.problems[:10]:
        print("PROBLEM:", problem)
    if record:
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return not run.problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("redline")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--record")
    options = parser.parse_args()
    runs = [("tiny", 2000, 180), ("null", 10000, 180)] if options.full else [(options.model, options.streams, options.seconds)]
    sys.exit(not all([soak(options.redline, *run, options.record) for run in runs]))


if __name__ == "__main__":
    main()
