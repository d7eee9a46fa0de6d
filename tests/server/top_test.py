#!/usr/bin/env python3
"""`redline top`: against pages whose figures are known, and against a real server on a terminal.

    tests/server/top_test.py REDLINE"""

import http.server
import json
import math
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from serving import MODEL, REDLINE, WAIT, Server

KEY = "secret-key"

JSON_DOC = (pathlib.Path(__file__).resolve().parents[2] / "docs/json.md").read_text()


class Pages:
    """A server whose /metrics is each of the pages in turn, and then the last one."""

    def __init__(self, *pages):
        left, looked = list(pages), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/v1/models":
                    return self.answer(200, '{"data": [{"id": "some"}]}')
                if not looked:  # the client's first look asks only whether there are metrics
                    looked.append(True)
                    return self.answer(200, pages[0])
                self.answer(200, left.pop(0) if len(left) > 1 else left[0])

            def answer(self, status, text):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def page(tokens, counts=(0, 0, 0, 0), busy=0, gap=0, idle=0, mfu="NaN", steps=1):
    buckets = "".join(f'redline_inter_token_latency_seconds_bucket{{le="{bound}"}} {sum(counts[:i + 1])}\n'
                      for i, bound in enumerate(("0.01", "0.02", "0.04", "+Inf")))
    return f"""# HELP redline_info x
redline_info{{version="1",model="a \\"model\\"",device="a device"}} 1
redline_steps_total {steps}
redline_generated_tokens_total {tokens}
redline_tokens_total{{phase="decode",work="useful"}} {tokens}
redline_tokens_total{{phase="decode",work="wasted"}} 0
redline_mfu{{phase="decode",basis="busy",peak="attainable"}} {mfu}
redline_mfu{{phase="decode",basis="wall",peak="attainable"}} 0.9
redline_time_seconds_total{{state="busy"}} {busy}
redline_time_seconds_total{{state="gap"}} {gap}
redline_time_seconds_total{{state="idle"}} {idle}
redline_requests_running 3
{buckets}redline_inter_token_latency_seconds_count {sum(counts)}
"""


def top(*arguments, timeout=WAIT):
    return subprocess.run([REDLINE, "top", *arguments], capture_output=True, text=True, timeout=timeout)


class Figures(unittest.TestCase):
    def test_rates_shares_and_percentiles_are_those_of_the_pages(self):
        with Pages(page(100, (2, 0, 0, 0), 10, 1, 100), page(400, (2, 10, 80, 8), 13, 2, 100, mfu="0.25")) as pages:
            done = top(pages.url, "--once", "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        view = json.loads(done.stdout)
        self.assertEqual((view["model"], view["device"], view["peak_basis"], view["running"], view["waiting"]), ('a "model"', "a device", "attainable", 3, None))
        self.assertAlmostEqual(view["generated_tokens_per_s"] * view["interval_s"], 300)
        self.assertAlmostEqual(view["phases"]["decode"]["tokens_per_s"], view["generated_tokens_per_s"])
        self.assertEqual(view["phases"]["decode"]["mfu"], 0.25)
        self.assertEqual(view["phases"]["prefill"]["mfu"], None)
        self.assertEqual([view[state] for state in ("busy", "gap", "idle")], [0.75, 0.25, 0])
        latency = view["latencies"]["inter_token_latency"]
        self.assertEqual(latency["count"], 100)
        self.assertAlmostEqual(latency["p50_s"], 0.02 + 0.02 * (50 - 12) / 80)
        self.assertAlmostEqual(latency["p90_s"], 0.02 + 0.02 * (90 - 12) / 80)
        self.assertEqual(latency["p99_s"], 0.04, "beyond the last bound it is the last bound")

    def test_what_is_not_known_is_a_dash_and_null(self):
        with Pages(page(5), page(5)) as pages:
            text = top(pages.url, "--once").stdout
            view = json.loads(top(pages.url, "--once", "--json").stdout)
        self.assertRegex(text, r"decode +0\.00 +– +– +– +– +–\n")
        self.assertRegex(text, r"token to next token +0 +– +– +–\n")
        self.assertIsNone(view["busy"])

    def test_without_a_terminal_each_look_is_printed_and_json_is_a_line(self):
        with Pages(*(page(100 * i, steps=i + 1) for i in range(20))) as pages:
            process = subprocess.Popen([REDLINE, "top", pages.url, "--json"], stdout=subprocess.PIPE, text=True)
            views = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(WAIT), 130)
            process.stdout.close()
        for view in views:
            self.assertAlmostEqual(view["generated_tokens_per_s"] * view["interval_s"], 100)

    def test_a_server_that_starts_anew_shows_no_negative_rates(self):
        with Pages(page(1000, steps=50), page(1100, steps=60), page(3, steps=2), page(7, steps=3)) as pages:
            process = subprocess.Popen([REDLINE, "top", pages.url, "--json"], stdout=subprocess.PIPE, text=True)
            rates = [(view["generated_tokens_per_s"] * view["interval_s"]) for view in (json.loads(process.stdout.readline()) for _ in range(2))]
            process.send_signal(signal.SIGINT)
            process.wait(WAIT)
            process.stdout.close()
        self.assertEqual([round(rate) for rate in rates], [100, 4])

    def test_another_server_is_seen_from_outside(self):
        def vllm(prompt, generated, requests, steps):
            return "".join(f'vllm:{name}{{engine="0"}} {value}.0\n' for name, value in (
                ("num_requests_running", 1), ("num_requests_waiting", 0), ("prompt_tokens_total", prompt), ("generation_tokens_total", generated),
                ("prefix_cache_hits_total", 0), ("time_to_first_token_seconds_count", requests), ("iteration_tokens_total_count", steps)))
        flags = ("--model", MODEL, "--on", "h100", "--num-devices", "2", "--max-num-batched-tokens", "2048", "--once")
        with Pages(vllm(10, 5, 1, 6), vllm(110, 45, 3, 36)) as pages:
            view = json.loads(top(pages.url, *flags, "--json").stdout)
        with Pages(vllm(10, 5, 1, 6), vllm(110, 45, 3, 36)) as pages:
            text = top(pages.url, *flags).stdout
        shown = re.search(r"## top --model\n.*?```json\n(.*?)```", JSON_DOC, re.S)
        self.assertEqual(set(view), set(json.loads(shown[1])))
        self.assertEqual((view["server"], view["device"], view["num_devices"], view["running"]), ("vllm", "NVIDIA H100 SXM", 2, 1))
        self.assertEqual(view["counts"]["computed_prompt_tokens"], {"label": "counted", "lower": 100, "upper": 100})
        self.assertEqual(view["counts"]["steps"], {"label": "counted", "lower": 30, "upper": 30})
        rows = 100 + 40 - 2  # SmolLM2-135M: 30 layers, hidden 576, 9 and 3 heads of 64, FFN 1536, vocabulary 49152
        self.assertEqual(view["flops"]["ffn"], {"label": "derived", "lower": rows * 6 * 30 * 576 * 1536, "upper": rows * 6 * 30 * 576 * 1536})
        self.assertEqual(view["flops"]["head"]["lower"], 40 * 2 * 576 * 49152)
        self.assertEqual(view["flops"]["attention"]["lower"], 4 * 30 * 576 * 2 * (69 * 70 // 2))
        self.assertEqual(view["flops"]["attention"]["upper"], 4 * 30 * 576 * (138 * 139 // 2))
        self.assertEqual((view["flops"]["attention"]["label"], view["mbu"]["label"]), ("bounded", "bounded"))
        self.assertAlmostEqual(view["mfu"]["upper"], view["flops"]["useful"]["upper"] / 989.4e12 / 2 / view["wall_s"])
        self.assertRegex(text, r"vllm seen from outside, on 2 NVIDIA H100 SXM, .* s\n")
        self.assertRegex(text, r"useful FLOPs +3\d\.\d GFLOP to 3\d\.\d GFLOP +bounded")

    def test_errors_name_the_server_and_what_is_wrong(self):
        with Pages("other_metric 1\n") as pages:
            done = top(pages.url, "--once")
            self.assertEqual(done.returncode, 1)
            self.assertIn("holds none of Redline's metrics", done.stderr)
            self.assertIn("of neither vLLM, SGLang, llama.cpp nor Redline", top(pages.url, "--once", "--model", MODEL).stderr)
            self.assertEqual(top(pages.url, "--once", "--model", MODEL, "--on", "h101").returncode, 2)
        done = top("http://127.0.0.1:9", "--once")
        self.assertEqual((done.returncode, done.stderr), (1, "redline: http://127.0.0.1:9/v1/models: Connection refused\n"))
        self.assertEqual(top("127.0.0.1:8000").returncode, 1)
        self.assertEqual(top().returncode, 2)


def keys(value):
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


class RealServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--api-key", KEY)
        cls.url = f"http://127.0.0.1:{cls.server.port}"
        body = {"prompt": "The sea", "max_tokens": 20, "ignore_eos": True}
        status, text, _ = cls.server.ask("POST", "/v1/completions", body, {"X-Api-Key": KEY})
        assert status == 200, text

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_json_is_as_documented(self):
        shown = re.search(r"## top\n.*?```json\n(.*?)```", JSON_DOC, re.S)
        view = json.loads(top(self.url, "--api-key", KEY, "--once", "--json").stdout)
        self.assertEqual(keys(view), keys(json.loads(shown[1])))
        self.assertEqual((view["model"], view["latencies"]["inter_token_latency"]["count"]), ("tiny", 19))
        self.assertTrue(0 < view["phases"]["decode"]["mfu"] < 1 and math.isclose(view["busy"] + view["gap"] + view["idle"], 1))

    def test_without_the_key_it_says_what_the_server_says(self):
        done = top(self.url, "--once")
        self.assertEqual(done.returncode, 1)
        self.assertIn("HTTP 401: a valid API key is needed", done.stderr)

    def test_on_a_terminal_it_draws_over_itself_and_leaves_all_as_it_was(self):
        child, terminal = pty.fork()
        if child == 0:
            os.environ.update(TERM="xterm", REDLINE_API_KEY=KEY)
            os.execv(REDLINE, [REDLINE, "top", self.url])
        seen, end = b"", time.monotonic() + WAIT / 2
        while seen.count(b"\x1b[H") < 3:
            self.assertLess(time.monotonic(), end, seen)
            seen += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        try:
            while piece := os.read(terminal, 65536):
                seen += piece
        except OSError:
            pass  # its end
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 130)
        os.close(terminal)
        self.assertTrue(seen.startswith(b"\x1b[?1049h\x1b[?25l"))
        self.assertTrue(seen.endswith(b"\x1b[?25h\x1b[?1049l"), seen[-60:])
        self.assertIn(b"tiny on ", seen)
        self.assertIn("latency, last minute", seen.decode())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
