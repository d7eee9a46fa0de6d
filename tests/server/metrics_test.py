#!/usr/bin/env python3
"""/metrics, held against what was asked, against what `redline run` says the same work costs, and against
docs/metrics.md.

    tests/server/metrics_test.py REDLINE

Standard library only, but for the test with promtool, which is skipped where it is not installed."""

import concurrent.futures
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from serving import GREEDY, MODEL, REDLINE, WAIT, Server

METRICS = pathlib.Path(__file__).resolve().parents[2] / "docs/metrics.md"
PROMTOOL = shutil.which("promtool")


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_counters_grow_by_exactly_what_was_done(self):
        names = ["redline_generated_tokens_total", "redline_prompt_tokens_total", 'redline_requests_total{finish_reason="length"}',
                 "redline_time_to_first_token_seconds_count", "redline_inter_token_latency_seconds_count",
                 "redline_e2e_request_latency_seconds_count", "redline_request_queue_time_seconds_count",
                 "redline_request_prefill_time_seconds_count", "redline_request_decode_time_seconds_count"]
        before = [self.server.metric(name) for name in names]
        usage = self.server.post("/v1/completions", dict(GREEDY, prompt="One more metric", n=2))["usage"]
        after = [self.server.metric(name) for name in names]
        self.assertEqual([b - a for a, b in zip(before, after)], [usage["completion_tokens"], usage["prompt_tokens"], 2, 2, 14, 2, 2, 2, 2])

    def test_an_answers_times_add_up(self):
        parts = [f"redline_request_{part}_time_seconds_sum" for part in ("queue", "prefill", "decode")]
        names = parts + ["redline_e2e_request_latency_seconds_sum", "redline_time_to_first_token_seconds_sum", "redline_inter_token_latency_seconds_sum"]
        before = [self.server.metric(name) for name in names]
        self.server.events("/v1/completions", dict(prompt="The sea is wide and", max_tokens=20, ignore_eos=True))
        queue, prefill, decode, whole, first, gaps = [self.server.metric(name) - a for name, a in zip(names, before)]
        self.assertAlmostEqual(decode, gaps, places=5)
        self.assertAlmostEqual(whole, first + decode, places=5)
        self.assertLessEqual(queue + prefill, first + 1e-5)
        self.assertGreater(prefill, 0)

    def test_ratios_rise_while_it_runs(self):
        self.server.post("/v1/completions", dict(GREEDY, prompt="Up", max_tokens=30, ignore_eos=True))
        for name in ("mfu", "hfu", "mbu", "sol"):
            for basis in ("busy", "wall"):
                value = self.server.metric(f'redline_{name}{{phase="decode",basis="{basis}",peak="attainable"}}')
                self.assertGreater(value, 0, (name, basis))
        self.assertGreater(self.server.metric('redline_tokens_total{phase="decode",work="useful"}'), 0)
        overhead = self.server.metric("redline_meter_overhead_ratio")
        self.assertTrue(0 < overhead < 1, overhead)

    def test_every_sample_belongs_to_a_declared_metric(self):
        declared = set()
        for line in self.server.ask("GET", "/metrics")[1].splitlines():
            if line.startswith("# TYPE "):
                declared.add(line.split()[2])
            elif not line.startswith("#"):
                name = line.split("{")[0].split(" ")[0]
                self.assertTrue(name in declared or re.sub("_(bucket|sum|count)$", "", name) in declared, name)
                float(line.rsplit(" ", 1)[1])
        table = METRICS.read_text().split("## The Prometheus page")[1]
        self.assertEqual(declared, set(re.findall(r"`(redline_\w+)`", table)), "docs/metrics.md names them all, and no other")

    def test_vllms_names_are_those_of_the_document(self):
        server = Server("--metrics-alias", "vllm")
        server.post("/v1/completions", dict(GREEDY, prompt="x"))
        text = server.ask("GET", "/metrics")[1]
        self.assertEqual(set(re.findall(r"^# TYPE (vllm:\w+)", text, re.M)), set(re.findall(r"`(vllm:\w+)`", METRICS.read_text())))
        self.assertIn('vllm:generation_tokens_total{model_name="tiny",engine="0"} 8\n', text)
        self.assertEqual(server.stop(), 0)
        refused = subprocess.run([REDLINE, "serve", MODEL, "--metrics-alias", "sglang"], capture_output=True, text=True, timeout=WAIT)
        self.assertEqual((refused.returncode, "known is vllm" in refused.stderr), (2, True), refused.stderr)

    def test_nothing_of_a_request_is_on_the_page(self):
        secret = "PRIVATEWORD"
        self.server.post("/v1/completions", dict(GREEDY, prompt=secret, user=secret, stop=[secret]))
        self.server.ask("POST", "/v1/completions", {"prompt": "x", "model": secret}, {"X-Request-Id": secret, "Authorization": secret})
        self.assertNotIn(secret, self.server.ask("GET", "/metrics")[1])

    @unittest.skipUnless(PROMTOOL, "promtool is not installed (Debian's prometheus)")
    def test_promtool_finds_no_fault_with_the_page(self):
        self.server.post("/v1/completions", dict(GREEDY, prompt="x"))
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=self.server.ask("GET", "/metrics")[1], capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_a_prompt_asked_again_is_found_in_the_prefix_cache(self):
        names = ["redline_prefix_cache_queries_total", "redline_prefix_cache_hits_total"]
        prompt = "Nobody has asked this before, and it is longer than a block or two of the cache. " * 3
        growth = []
        for _ in range(2):
            before = [self.server.metric(name) for name in names]
            usage = self.server.post("/v1/completions", dict(GREEDY, prompt=prompt))["usage"]
            growth.append([self.server.metric(name) - a for name, a in zip(names, before)])
        self.assertEqual(growth[0], [usage["prompt_tokens"], 0])
        self.assertEqual(growth[1], [usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]])
        self.assertGreater(growth[1][1], 16)


def samples(server):
    """Each sample's value by its name and labels."""
    lines = (line.rsplit(" ", 1) for line in server.ask("GET", "/metrics")[1].splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


class Work(unittest.TestCase):
    """A server of its own each, so that nothing else is counted."""

    def serve(self, *flags):
        server = Server(*flags)
        self.addCleanup(server.stop)
        return server

    def test_flops_and_bytes_are_those_that_run_reports_for_the_same_work(self):
        server = self.serve()
        server.post("/v1/completions", dict(GREEDY, prompt="The sea is", ignore_eos=True))
        run = subprocess.run([REDLINE, "run", MODEL, "--raw", "-p", "The sea is", "-n", "8", "--ignore-eos", "--json"], capture_output=True, check=True)
        page = samples(server)
        for phase, wanted in json.loads(run.stdout)["utilization"]["phases"].items():
            for part in ("projections", "attention", "ffn", "head"):
                self.assertEqual(page[f'redline_flops_total{{phase="{phase}",part="{part}",work="useful"}}'], wanted["flops"][part], (phase, part))
            for part in ("weights", "kv_read", "kv_write"):
                self.assertEqual(page[f'redline_bytes_total{{phase="{phase}",part="{part}"}}'], wanted["bytes"][part], (phase, part))
            self.assertEqual(page[f'redline_tokens_total{{phase="{phase}",work="useful"}}'], wanted["tokens"], phase)

    def executed_flops(self, page):
        return sum(value for name, value in page.items() if name.startswith("redline_flops_total") and 'work="other"' not in name)

    def test_a_full_cache_preempts_and_what_is_computed_again_is_wasted(self):
        server = self.serve("--ctx", "512", "--kv-memory", "16MiB")
        body = dict(GREEDY, max_tokens=300, ignore_eos=True, n=1)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(server.post, "/v1/completions", dict(body, prompt=f"{i} ships")) for i in range(8)]
            most = 0
            while not all(answer.done() for answer in answers):
                page = samples(server)
                most = max(most, page["redline_kv_usage_ratio"])
                self.assertLessEqual(0, page["redline_kv_fragmentation_ratio"])
                self.assertLess(page["redline_kv_fragmentation_ratio"], 1)
                time.sleep(0.05)
        self.assertEqual([answer.result()["usage"]["completion_tokens"] for answer in answers], [300] * 8)
        page = samples(server)
        self.assertGreater(most, 0.9)
        self.assertGreater(page["redline_preemptions_total"], 0)
        self.assertGreater(page['redline_tokens_total{phase="prefill",work="wasted"}'], 0)
        self.assertGreater(page['redline_flops_total{phase="prefill",part="ffn",work="wasted"}'], 0)
        self.assertEqual(page['redline_tenant_flops_total{tenant="default"}'], self.executed_flops(page), "what tenants cost is what the engine did")
        for phase in ("prefill", "decode"):
            causes = {cause: page[f'redline_wasted_flops_total{{phase="{phase}",cause="{cause}"}}'] for cause in ("padding", "recomputation", "aborted")}
            wasted = sum(page[f'redline_flops_total{{phase="{phase}",part="{part}",work="wasted"}}'] for part in ("projections", "attention", "ffn", "head"))
            self.assertEqual(causes, {"padding": 0, "recomputation": wasted, "aborted": 0}, phase)
        waterfall = json.loads(server.ask("GET", "/v1/utilization")[1])["explanation"]["waterfall"]
        self.assertGreater(waterfall["waste_s"]["recomputation"], 0)
        self.assertAlmostEqual(sum(waterfall["waste_s"].values()), waterfall["terms_s"]["waste"], delta=1e-9)

    def test_tenants_add_up_to_the_engine_when_clients_go_and_answers_are_many(self):
        server = self.serve()
        server.post("/v1/completions", dict(GREEDY, prompt=["The sea", "A ship"], n=3))
        body = json.dumps({"prompt": "The sea", "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertTrue(client.recv(10))
        end = time.monotonic() + WAIT / 2
        while samples(server).get('redline_requests_total{finish_reason="abort"}') == 0:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        page = samples(server)
        self.assertEqual(page["redline_requests_running"], 0)
        self.assertEqual(page['redline_tenant_requests_total{tenant="default"}'], 7)
        self.assertEqual(page['redline_tenant_generated_tokens_total{tenant="default"}'], page["redline_generated_tokens_total"])
        self.assertEqual(page['redline_tenant_prompt_tokens_total{tenant="default"}'], page["redline_prompt_tokens_total"])
        self.assertEqual(page['redline_tenant_flops_total{tenant="default"}'], self.executed_flops(page))
        executed_bytes = sum(value for name, value in page.items() if re.match(r"redline_bytes_total.*(weights|kv_read|kv_write|wasted)", name))
        self.assertEqual(page['redline_tenant_bytes_total{tenant="default"}'], executed_bytes)

    def test_tenants_are_counted_apart_and_share_no_prefixes(self):
        server = self.serve("--api-key", "alice=key-of-alice", "--api-key", "bob=key-of-bob", "--admin-api-key", "a-key")
        prompt = "A beginning that is longer than a block of the cache, twice as long perhaps, or more. " * 2
        cached = {}
        for key in ("key-of-alice", "key-of-alice", "key-of-bob", "a-key"):
            status, text, _ = server.ask("POST", "/v1/completions", dict(GREEDY, prompt=prompt), {"X-Api-Key": key})
            self.assertEqual(status, 200, text)
            cached.setdefault(key, []).append(json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.assertGreater(cached["key-of-alice"][1], 16)
        self.assertEqual([cached["key-of-alice"][0], *cached["key-of-bob"], *cached["a-key"]], [0, 0, 0])
        text = server.ask("GET", "/metrics", headers={"X-Api-Key": "a-key"})[1]
        self.assertEqual(dict(re.findall(r'redline_tenant_requests_total{tenant="(\w+)"} (\d+)', text)), {"alice": "2", "bob": "1", "default": "1"})
        self.assertNotIn("key", re.sub("(?m)^#.*", "", text), "no key is on the page")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
