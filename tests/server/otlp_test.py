#!/usr/bin/env python3
"""What OpenTelemetry is told of calls, by a small collector that takes nothing that OTLP's JSON encoding does not allow.

    tests/server/otlp_test.py REDLINE

Standard library only, and openssl for a certificate. The model: a small random one (tiny_model.py)."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import tiny_model
from serving import REDLINE, Server

FOLDER = tempfile.TemporaryDirectory()
MODEL = FOLDER.name + "/small.gguf"
SECRET = "PRIVATEWORD"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


def check(condition, *what):
    if not condition:
        raise AssertionError(*what)


def check_keys(message, required, optional=()):
    check(isinstance(message, dict) and required <= message.keys() <= required | set(optional), message)


def value_of(value):
    """An AnyValue, by the rules of OTLP's JSON: 64-bit integers are text, one field each."""
    check(isinstance(value, dict) and len(value) == 1, value)
    kind, content = next(iter(value.items()))
    if kind == "stringValue":
        check(isinstance(content, str), value)
    elif kind == "intValue":
        check(isinstance(content, str) and re.fullmatch("-?[0-9]+", content), value)
        content = int(content)
    elif kind == "doubleValue":
        check(isinstance(content, (int, float)) or content in ("NaN", "Infinity", "-Infinity"), value)
    elif kind == "boolValue":
        check(isinstance(content, bool), value)
    elif kind == "arrayValue":
        check_keys(content, {"values"})
        content = [value_of(each) for each in content["values"]]
    else:
        raise AssertionError(value)
    return content


def attributes_of(attributes):
    for attribute in attributes:
        check_keys(attribute, {"key", "value"})
    found = {attribute["key"]: value_of(attribute["value"]) for attribute in attributes}
    check(len(found) == len(attributes), "a key is there once", attributes)
    return found


def time_of(text):
    check(isinstance(text, str) and re.fullmatch("[0-9]{19}", text), text)
    return int(text)


def spans_of(body):
    """The spans of an ExportTraceServiceRequest, their attributes as a dict, the resource's under "resource"."""
    check_keys(body, {"resourceSpans"})
    found = []
    for resource_spans in body["resourceSpans"]:
        check_keys(resource_spans, {"resource", "scopeSpans"})
        check_keys(resource_spans["resource"], {"attributes"})
        resource = attributes_of(resource_spans["resource"]["attributes"])
        for scope_spans in resource_spans["scopeSpans"]:
            check_keys(scope_spans, {"scope", "spans"})
            check_keys(scope_spans["scope"], {"name", "version"})
            check(scope_spans["spans"], "no envelope is empty")
            for span in scope_spans["spans"]:
                check_keys(span, {"traceId", "spanId", "flags", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"},
                           {"parentSpanId", "traceState"})
                check(re.fullmatch("[0-9a-f]{32}", span["traceId"]) and re.fullmatch("[0-9a-f]{16}", span["spanId"]), span)
                check(re.fullmatch("[0-9a-f]{16}", span.get("parentSpanId", PARENT)), span)
                check(span["kind"] in (1, 2) and isinstance(span["kind"], int) and isinstance(span["flags"], int), span)
                check_keys(span["status"], set(), {"code"})
                check(span["status"].get("code", 0) in (0, 2), span)
                check(time_of(span["startTimeUnixNano"]) <= time_of(span["endTimeUnixNano"]), span)
                found.append(dict(span, attributes=attributes_of(span["attributes"]), resource=resource))
    return found


class Collector:
    """Answers each POST with the next of `answers`, (status, headers, body), then with successes."""

    def __init__(self, answers=(), tls=None):
        self.answers, self.posts, self.bodies, self.faults = list(answers), [], [], []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, headers, answer = collector.answers.pop(0) if collector.answers else (200, {}, {})
                try:
                    check(self.headers["Content-Type"] == "application/json", self.headers)
                    spans = spans_of(json.loads(text))
                except Exception as error:  # told by the test
                    collector.faults.append(repr(error))
                    spans = []
                collector.posts.append((self.path, dict(self.headers), text, status, spans, time.monotonic()))
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in dict({"Content-Type": "application/json", "Content-Length": str(len(data))}, **headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def spans(self):
        check(self.faults == [], self.faults)
        return [span for post in self.posts if post[3] == 200 for span in post[4]]

    def roots(self):
        return [span for span in self.spans() if span["kind"] == 2]

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def until(reached, seconds=60):
    end = time.monotonic() + seconds
    while not reached():
        check(time.monotonic() < end, "it does not come")
        time.sleep(0.02)


class Otlp(unittest.TestCase):
    def collect(self, *answers, tls=None):
        collector = Collector(answers, tls)
        self.addCleanup(collector.close)
        return collector

    def serve(self, *flags, **environment):
        server = Server(*flags, model=MODEL, environment=dict(SOON, **environment))
        self.addCleanup(server.process.kill)
        return server

    def ask(self, server, headers={}, status=200, chat=False, **fields):
        body = dict({"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "ignore_eos": True}, **fields)
        if not chat and "prompt" not in body:
            body["prompt"] = SECRET
        found, text, _ = server.ask("POST", "/v1/completions", body, headers)
        self.assertEqual(found, status, text)
        return json.loads(text) if not fields.get("stream") else text

    def counts(self, server, headers={}):
        text = server.ask("GET", "/metrics", headers=headers)[1]
        return {name: int(count) for name, count in re.findall(r'^redline_otlp_spans_total{outcome="(\w+)"} (\d+)', text, re.M)}

    def test_a_call_is_a_span_of_its_callers_trace_with_what_it_took(self):
        collector = self.collect()
        server = self.serve("--otlp-endpoint", collector.url + "/base/", "--api-key", "alice=" + SECRET,
                            OTEL_EXPORTER_OTLP_HEADERS="x-token=a%20b, x-other = 1", OTEL_RESOURCE_ATTRIBUTES="team=search%2C%20ads,service.name=not me",
                            OTEL_SERVICE_NAME="answers")
        key = {"X-Api-Key": SECRET}
        begin = time.time_ns()
        answer = self.ask(server, dict(key, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="a=b"), prompt=SECRET * 30, n=2, seed=7)
        end = time.time_ns()
        until(lambda: collector.posts)
        path, headers, text, *_ = collector.posts[0]
        self.assertEqual(path, "/base/v1/traces")
        self.assertEqual((headers["x-token"], headers["x-other"]), ("a b", "1"))
        self.assertNotIn(SECRET, text)
        root, *children = collector.spans()
        usage = answer["usage"]
        self.assertEqual((root["name"], root["kind"], root["traceId"], root["parentSpanId"], root["traceState"], root["flags"], root["status"]),
                         ("text_completion tiny", 2, TRACE, PARENT, "a=b", 0x301, {}))
        self.assertEqual((root["resource"]["service.name"], root["resource"]["team"]), ("answers", "search, ads"))
        found = root["attributes"]
        for name, value in {"gen_ai.operation.name": "text_completion", "gen_ai.provider.name": "redline", "gen_ai.request.model": "tiny",
                            "gen_ai.response.model": "tiny", "gen_ai.response.id": answer["id"], "gen_ai.request.max_tokens": 5,
                            "gen_ai.request.temperature": 0.5, "gen_ai.request.choice.count": 2,
                            "gen_ai.response.finish_reasons": ["length", "length"], "gen_ai.usage.input_tokens": usage["prompt_tokens"],
                            "gen_ai.usage.output_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 0, "server.address": "127.0.0.1",
                            "server.port": server.port, "redline.tenant": "alice"}.items():
            self.assertEqual(found[name], value, name)
        self.assertAlmostEqual(found["gen_ai.request.top_p"], 0.9, places=6)
        own = usage["redline"]
        self.assertEqual(found["redline.flops"], own["prefill"]["flops"] + own["decode"]["flops"])
        self.assertEqual(found["redline.bytes"], own["prefill"]["bytes"] + own["decode"]["bytes"])
        self.assertAlmostEqual(found["redline.device_seconds"], own["prefill"]["device_seconds"] + own["decode"]["device_seconds"], delta=1e-12)
        self.assertGreater(found["redline.mfu"], 0)
        times = [value for name, value in found.items() if name.startswith("redline.time.")]
        self.assertAlmostEqual(sum(times), own["waterfall_ns"]["wall"] * 1e-9, delta=1e-9)
        self.assertEqual(len(times), 8)
        self.assertNotIn("redline.joules", found, "no sensor tells")
        self.assertNotIn("error.type", found)
        self.assertEqual([child["name"] for child in children], ["queue", "prefill", "decode"])
        times = [(time_of(span["startTimeUnixNano"]), time_of(span["endTimeUnixNano"])) for span in [root, *children]]
        self.assertLessEqual(begin - 5e7, times[0][0])
        self.assertLessEqual(times[0][1], end + 5e7)
        for child, (start, stop), after in zip(children, times[1:], [*times[2:], None]):
            self.assertEqual((child["traceId"], child["parentSpanId"], child["kind"]), (TRACE, root["spanId"], 1))
            self.assertTrue(times[0][0] <= start <= stop <= times[0][1])
            if after:
                self.assertEqual(stop, after[0], "one begins where the other ends")
        prefill, decode = children[1]["attributes"], children[2]["attributes"]
        self.assertEqual((prefill["redline.tokens"], prefill["redline.flops"]), (usage["prompt_tokens"], own["prefill"]["flops"]))
        self.assertEqual((decode["redline.tokens"], decode["redline.flops"]), (8, own["decode"]["flops"]))
        self.assertEqual(self.counts(server, key), {"exported": 4, "dropped": 0, "rejected": 0})
        self.assertEqual(server.stop(), 0)

    def test_what_the_caller_decides_holds_and_what_is_no_parent_is_none(self):
        collector = self.collect()
        server = self.serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        self.ask(server, {"traceparent": f"00-{TRACE}-{PARENT}-00"})
        for header in (f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "00-" + SECRET, f"ff-{TRACE}-{PARENT}-01"):
            self.ask(server, {"traceparent": header})
        self.ask(server, prompt=["a", "b"], stream=True)
        until(lambda: len(collector.roots()) == 5)
        self.assertEqual(collector.posts[0][0], "/v1/traces")
        self.assertEqual(len({span["traceId"] for span in collector.roots()} | {TRACE, "0" * 32}), 7)
        for root in collector.roots():
            self.assertNotIn("parentSpanId", root)
        last = collector.roots()[-1]
        self.assertTrue(last["attributes"]["gen_ai.request.stream"])
        self.assertGreater(last["attributes"]["gen_ai.response.time_to_first_chunk"], 0)
        children = [span for span in collector.spans() if span.get("parentSpanId") == last["spanId"]]
        self.assertEqual([(child["name"], child["attributes"]["redline.prompt"]) for child in children],
                         [(name, prompt) for prompt in (0, 1) for name in ("queue", "prefill", "decode")])
        self.assertEqual(server.stop(), 0)

    def test_a_refusal_is_told_by_its_code_and_no_word_of_the_client(self):
        collector = self.collect()
        server = self.serve(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.url + "/own?tenant=1", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
        self.ask(server, status=404, model=SECRET)
        self.ask(server, status=400, temperature=SECRET)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            body = json.dumps({"prompt": SECRET, "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertTrue(client.recv(10))
        until(lambda: len(collector.roots()) == 3)
        self.assertEqual(collector.posts[0][0], "/own?tenant=1")
        found = [root["attributes"] for root in collector.roots()]
        self.assertEqual([each.get("http.response.status_code") for each in found], [404, 400, None])
        self.assertEqual([each["error.type"] for each in found], ["model_not_found", found[1]["error.type"], "client_disconnected"])
        self.assertEqual({root["status"].get("code", 0) for root in collector.roots()}, {0}, "a client's mistake is not the server's")
        self.assertGreater(found[2]["gen_ai.usage.output_tokens"], 0)
        self.assertFalse([post[2] for post in collector.posts if SECRET in post[2]])
        self.assertEqual(server.stop(), 0)

    def test_what_may_be_taken_later_is_sent_again_and_the_rest_is_counted(self):
        collector = self.collect((503, {"Retry-After": "1"}, {}), (429, {}, {}), (200, {}, {}), (400, {}, {}),
                                 (200, {}, {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too many"}}))
        server = self.serve("--otlp-endpoint", collector.url)
        self.ask(server)
        until(lambda: len(collector.posts) == 3)
        bodies = [post[2] for post in collector.posts]
        self.assertEqual(bodies, [bodies[0]] * 3)
        times = [post[5] for post in collector.posts]
        self.assertGreaterEqual(times[1] - times[0], 0.99, "the pause that the collector asked for")
        self.assertGreaterEqual(times[2] - times[1], 0.49, "half of the first pause at least")
        until(lambda: self.counts(server) == {"exported": 4, "dropped": 0, "rejected": 0})
        self.ask(server)
        until(lambda: self.counts(server) == {"exported": 4, "dropped": 4, "rejected": 0})
        self.ask(server)
        until(lambda: self.counts(server) == {"exported": 5, "dropped": 4, "rejected": 3})
        self.assertEqual(len(collector.posts), 5)
        self.assertEqual(server.stop(), 0)

    def test_what_waits_is_sent_at_the_end(self):
        collector = self.collect()
        server = self.serve("--otlp-endpoint", collector.url, OTEL_BSP_SCHEDULE_DELAY="600000")
        for _ in range(3):
            self.ask(server)
        self.assertEqual(collector.posts, [])
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(collector.roots()), 3)

    def test_an_unreachable_collector_disturbs_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
            places = {"silent": f"http://127.0.0.1:{silent.getsockname()[1]}", "gone": f"http://127.0.0.1:{gone.getsockname()[1]}",
                      "unknown": "http://no-such-host.invalid:4318"}
            gone.close()
            for name, url in places.items():
                with self.subTest(name):
                    server = self.serve("--otlp-endpoint", url, OTEL_BSP_MAX_QUEUE_SIZE="8", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4")
                    for _ in range(10):
                        self.ask(server)
                    self.assertGreaterEqual(self.counts(server)["dropped"], 4 * (10 - 3 - 1), "two batches wait, one is under way")
                    begin = time.monotonic()
                    self.assertEqual(server.stop(), 0)
                    self.assertLess(time.monotonic() - begin, 30)

    def test_tls_is_spoken_with_a_collector_whose_certificate_is_trusted(self):
        if not shutil.which("openssl"):
            self.skipTest("openssl is not installed")
        folder = pathlib.Path(FOLDER.name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=collector", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        collector = self.collect(tls=tls)
        trusting = self.serve("--otlp-endpoint", collector.url, OTEL_EXPORTER_OTLP_CERTIFICATE=str(folder / "cert.pem"))
        self.ask(trusting)
        until(lambda: len(collector.roots()) == 1)
        self.assertEqual(trusting.stop(), 0)
        wary = self.serve("--otlp-endpoint", collector.url)
        self.ask(wary)
        self.assertEqual(wary.stop(), 0)
        self.assertEqual(len(collector.roots()), 1, "who cannot be trusted is told nothing")

    def test_it_is_off_where_nobody_asks_for_it_and_says_what_it_cannot_do(self):
        collector = self.collect()
        for environment in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "True"},
                            {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_EXPORTER": "none"},
                            {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "always_off"}):
            server = self.serve(**environment)
            self.ask(server)
            self.assertEqual(sum(self.counts(server).values()), 0)
            self.assertEqual(server.stop(), 0)
        self.assertEqual(collector.posts, [])
        for environment, said in (({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, "OTEL_EXPORTER_OTLP_ENDPOINT: 'ftp://x' is no URL"),
                                  ({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: is grpc"),
                                  ({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": SECRET}, "OTEL_EXPORTER_OTLP_HEADERS: member 1")):
            done = subprocess.run([REDLINE, "serve", MODEL, "--port", "0"], capture_output=True, text=True, env=dict(os.environ, **environment), timeout=60)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertNotIn(SECRET, done.stderr)


if __name__ == "__main__":
    tiny_model.write_model(MODEL)
    unittest.main(argv=["otlp_test.py"])
