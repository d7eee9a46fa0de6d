#!/usr/bin/env python3
"""The dashboard as a browser shows it.

    tests/server/dashboard_test.py REDLINE

Needs Chromium and its driver (Debian's chromium, chromium-driver); without them it exits with 77: skipped.
With REDLINE_SCREENSHOT=FILE it leaves a picture of the page."""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from serving import Server
from webdriver import Browser

KEY = "secret-key"

MORE_CONTRAST = 4.5, 3  # WCAG 2.2 AA: text, graphics
CONTRAST = """
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (css) => { const [r, g, b] = css.match(/[0-9.]+/g).map(Number); return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b); };
  const of = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return arguments[0].map(([selector, property, behind]) => ratio(light(of(selector, property)), light(of(behind, "backgroundColor"))));
"""


class Load:
    """Answers that are generated while it lasts."""

    def __init__(self, server, headers=None):
        self.server, self.headers, self.going = server, headers, True
        self.threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(3)]

    def ask(self, i):
        for n in range(10000):
            if not self.going:
                break
            self.server.ask("POST", "/v1/completions", {"prompt": f"Birds number {i}{n} " * 20, "max_tokens": 30 + 20 * i, "ignore_eos": True}, self.headers)

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.going = False
        for thread in self.threads:
            thread.join()


def number(text):
    """The one that a tile shows: "1.2 k" is 1200, a dash -1."""
    match = re.match(r"([0-9.]+)(?: ([kM%]))?", text)
    return float(match[1]) * {"k": 1e3, "M": 1e6, "%": 0.01, None: 1}[match[2]] if match else -1


def duration(text):
    """"3.40 ms" in seconds."""
    value, unit = text.split()
    return float(value) * {"ms": 1e-3, "s": 1}[unit]


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.stop()

    def setUp(self):
        self.browser.resize(1100, 1500)
        self.browser.prefer("light")
        self.browser.messages()
        self.browser.open(f"http://127.0.0.1:{self.server.port}/")
        self.browser.wait("!document.querySelector('main').hidden")

    def tearDown(self):
        self.assertEqual(self.browser.messages(), [], "the console stays empty")

    def text(self, selector):
        return self.browser.run("return document.querySelector(arguments[0]).textContent;", selector)

    def test_it_shows_what_runs_and_moves_while_it_does(self):
        self.assertEqual(self.text("#model"), "tiny")
        self.browser.wait("document.querySelector('#status').textContent === 'idle'")
        with Load(self.server):
            self.browser.wait("document.querySelector('#status').textContent === 'working'")
            self.browser.wait("parseFloat(document.querySelector('#generated').textContent) > 0")
            self.browser.wait("document.querySelectorAll('#roofline circle').length > 10")
            self.browser.wait("document.querySelectorAll('#roofline .roof').length > 0")
            for phase in ("prefill", "decode"):
                for chart in ("mfu", "mbu"):
                    self.browser.wait(f"/{phase} [0-9]/.test(document.querySelector('#{chart} .legend').textContent)")
            self.browser.wait("document.querySelectorAll('#waterfall rect.ideal_compute').length === 3")
            self.browser.wait("/[0-9] m?s/.test(document.querySelector('#latency tr td:nth-child(3)').textContent)")
            for chart in ("mfu", "mbu", "tokens", "queue", "blocks", "time"):
                self.browser.wait(f"/L/.test(document.querySelector('#{chart} .series').getAttribute('d')) || document.querySelector('#{chart} > svg .series[d*=\"L\"]')")
            seen = {self.text("#tokens .legend") for _ in range(8) if not time.sleep(0.5)}
            self.assertGreater(len(seen), 2, "values change")
            if path := os.environ.get("REDLINE_SCREENSHOT"):
                time.sleep(float(os.environ.get("REDLINE_SCREENSHOT_AFTER_S", "0")))
                self.browser.screenshot(path)
        self.browser.wait("document.querySelector('#status').textContent === 'idle'")
        self.browser.wait("document.querySelector('#running').textContent === '0'")

    def test_the_waterfall_opens_from_phases_to_operations_and_sums_to_the_time(self):
        self.server.post("/v1/completions", {"prompt": "The sea and the sky " * 8, "max_tokens": 40, "ignore_eos": True})
        self.browser.wait("document.querySelector('#open-decode') && document.querySelector('#open-prefill')", 40)
        widths = "return [...document.querySelectorAll('#waterfall svg')].map((bar) => [...bar.children].reduce((sum, e) => sum + Number(e.getAttribute('width')), 0));"
        self.assertEqual(self.browser.run("return document.querySelectorAll('#waterfall .kind').length;"), 0)
        self.browser.run("document.querySelector('#open-decode').focus(); document.querySelector('#open-decode').click();")
        self.assertEqual(self.browser.run("return [document.activeElement.id, document.activeElement.ariaExpanded];"), ["open-decode", "true"])
        kinds = self.browser.run("return [...document.querySelectorAll('#waterfall .kind th')].map((e) => e.textContent);")
        told = json.loads(self.server.ask("GET", "/v1/utilization")[1])["explanation"]
        self.assertEqual(set(kinds), {kind["kind"] for kind in told["waterfall"]["phases"]["decode"]["kinds"]})
        for sum_of_widths in self.browser.run(widths):
            self.assertAlmostEqual(sum_of_widths, 100, delta=0.01)
        self.assertEqual(self.browser.run("return [...document.querySelectorAll('#why li')].length;"), len(told["why"]))
        time.sleep(4)  # drawn anew, with what was open
        self.assertGreater(self.browser.run("return document.querySelectorAll('#waterfall .kind').length;"), 0)
        self.browser.run("document.querySelector('#open-decode').click();")
        self.assertEqual(self.browser.run("return document.querySelectorAll('#waterfall .kind').length;"), 0)

    def test_what_it_shows_is_what_the_metrics_say(self):
        self.server.post("/v1/completions", {"prompt": "x", "max_tokens": 20, "ignore_eos": True})
        self.browser.wait("document.querySelector('#latency tr:nth-child(2) td').textContent === '19'")
        mean = self.server.metric("redline_inter_token_latency_seconds_sum") / self.server.metric("redline_inter_token_latency_seconds_count")
        self.assertTrue(mean / 10 < duration(self.text("#latency tr:nth-child(2) td:nth-child(3)")) < mean * 10)
        usage = self.server.metric("redline_kv_usage_ratio")
        self.assertAlmostEqual(number(self.text("#kv")), usage, places=3)

    def test_on_a_phone_nothing_is_cut_off_and_all_can_be_read(self):
        for width in (320, 390):
            self.browser.resize(width, 800, phone=True)
            self.browser.wait(f"innerWidth === {width}")
            self.browser.open(f"http://127.0.0.1:{self.server.port}/")
            self.browser.wait("document.querySelectorAll('#roofline .roof').length > 0")
            time.sleep(1.2)  # drawn anew
            self.assertEqual(self.browser.run("return document.documentElement.scrollWidth;"), width)
            self.assertEqual(self.browser.run("""return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                                                     .map((e) => e.outerHTML.slice(0, 90));"""), [])

    def test_light_and_dark_have_enough_contrast(self):
        text = [["body", "color", "body"], [".tiles div", "color", ".tiles div"], [".tiles span", "color", ".tiles div"], ["small", "color", ".charts section"]]
        graphics = [[f"#time .s{i}", "stroke", ".charts section"] for i in range(3)]
        terms = ("ideal_compute", "kernel_inefficiency", "memory_bound_penalty", "clock_loss", "waste", "exposed_communication", "gap", "idle")
        self.browser.run("""const bar = document.createElementNS('http://www.w3.org/2000/svg', 'svg'); bar.id = 'every-term';
                            for (const term of arguments[0]) { const e = document.createElementNS('http://www.w3.org/2000/svg', 'rect'); e.setAttribute('class', `term ${term}`); bar.append(e); }
                            document.body.append(bar);""", list(terms))
        graphics += [[f"#every-term .{term}", "fill", ".charts section"] for term in terms]
        backgrounds = set()
        for scheme in ("light", "dark"):
            self.browser.prefer(scheme)
            for wanted, least in zip((text, graphics), MORE_CONTRAST):
                for what, ratio in zip(wanted, self.browser.run(CONTRAST, wanted)):
                    self.assertGreaterEqual(ratio, least, (scheme, what))
            backgrounds.add(self.browser.run("return getComputedStyle(document.body).backgroundColor;"))
        self.assertEqual(len(backgrounds), 2)

    def test_charts_have_names_controls_have_labels_and_the_keyboard_reaches_them(self):
        self.assertEqual(self.browser.run("return [...document.querySelectorAll('[id] > svg')].filter((e) => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label')).length;"), 0)
        self.assertEqual(self.browser.run("return [...document.querySelectorAll('input:not([hidden]), select')].filter((e) => !e.labels.length).length;"), 0)
        self.assertEqual(self.browser.run("return [...document.querySelectorAll('section')].filter((e) => !e.getAttribute('aria-label') && !document.getElementById(e.getAttribute('aria-labelledby'))).length;"), 0)
        self.assertEqual(self.browser.run("return document.documentElement.lang;"), "en")
        self.browser.run("document.querySelector('#basis').focus();")
        self.assertEqual(self.browser.run("return document.activeElement.id;"), "basis")

    def test_over_all_time_an_idle_phase_shows_zero_and_over_its_own_nothing(self):
        self.browser.wait("/decode –/.test(document.querySelector('#mfu .legend').textContent)", 40)
        self.browser.run("const e = document.querySelector('#basis'); e.value = 'wall'; e.dispatchEvent(new Event('change'));")
        self.browser.wait("/decode 0 %/.test(document.querySelector('#mfu .legend').textContent)")

    def test_it_asks_nobody_but_its_server_and_may_not(self):
        time.sleep(1.5)
        origin = f"http://127.0.0.1:{self.server.port}/"
        asked = set(self.browser.run("return performance.getEntriesByType('resource').map((e) => e.name);"))
        self.assertTrue(asked and all(name.startswith(origin) for name in asked), asked)
        for path in ("/", "/dashboard.js", "/dashboard.css", "/icon.svg"):
            status, text, headers = self.server.ask("GET", path)
            self.assertEqual(status, 200, path)
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertNotRegex(headers["Content-Security-Policy"], "unsafe|http|\\*")
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertNotRegex(text, r"https?://(?!www\.w3\.org/)", path)


class Front(http.server.BaseHTTPRequestHandler):
    """Passes requests on; while `loading`, answers as a server that has no model yet."""
    server_behind, loading = None, True

    def do_GET(self):
        if self.loading and self.path == "/metrics":
            status, text, kind = 200, 'redline_info{version="1",model="tiny",device=""} 1\nredline_load_progress_ratio 0.25\n', "text/plain"
        elif self.loading and self.path.startswith("/steps"):
            status, text, kind = 503, "{}", "application/json"
        else:
            status, text, headers = self.server_behind.ask("GET", self.path)
            kind = headers["Content-Type"]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Loading(unittest.TestCase):
    def test_it_says_how_far_the_model_is_loaded_and_then_shows_it(self):
        Front.server_behind = Server()
        front, browser = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front), Browser()
        threading.Thread(target=front.serve_forever).start()
        try:
            browser.open(f"http://127.0.0.1:{front.server_port}/")
            browser.wait("document.querySelector('#status').textContent === 'loading: 25 %'")
            self.assertEqual(browser.run("return [document.querySelector('main').hidden, document.querySelector('#model').textContent];"), [True, "tiny"])
            Front.loading = False
            browser.wait("!document.querySelector('main').hidden && document.querySelector('#status').textContent === 'idle'")
            self.assertEqual(browser.messages(), [])
        finally:
            browser.close()
            front.shutdown()
            front.server_close()
            Front.server_behind.stop()


class Keys(unittest.TestCase):
    def setUp(self):
        self.server = Server("--api-key", KEY)
        self.browser = Browser()

    def tearDown(self):
        self.browser.close()
        self.server.stop()

    def enter(self, key):
        self.browser.run("document.querySelector('#key').value = arguments[0]; document.querySelector('#key-form button').click();", key)

    def test_it_asks_for_the_key_and_sends_it(self):
        self.browser.open(f"http://127.0.0.1:{self.server.port}/")
        self.browser.wait("document.querySelector('#status').textContent === 'a key is needed'")
        self.assertEqual(self.browser.run("return [document.querySelector('main').hidden, document.activeElement.id];"), [True, "key"])
        self.assertEqual(self.browser.messages(), [])
        self.enter("wrong")
        self.browser.wait("document.querySelector('#status').textContent === 'that key is not known'")
        self.assertTrue(self.browser.run("return document.querySelector('main').hidden;"))
        self.enter(KEY)
        self.browser.wait("!document.querySelector('main').hidden && document.querySelector('#model').textContent === 'tiny'")
        self.browser.open(f"http://127.0.0.1:{self.server.port}/")  # the tab remembers it
        self.browser.wait("!document.querySelector('main').hidden")
        self.assertNotIn(KEY, self.browser.run("return location.href + document.documentElement.outerHTML + JSON.stringify(localStorage) + document.cookie;"))
        status, text, _ = self.server.ask("GET", "/")
        self.assertEqual((status, KEY in text, "tiny" in text), (200, False, False), "the page itself holds nothing")
        for path in ("/steps", "/metrics"):
            self.assertEqual(self.server.ask("GET", path)[0], 401)

    def test_it_says_so_when_the_server_goes(self):
        self.browser.open(f"http://127.0.0.1:{self.server.port}/")
        self.enter(KEY)
        self.browser.wait("!document.querySelector('main').hidden")
        self.server.process.send_signal(signal.SIGTERM)
        self.browser.wait("/no answer/.test(document.querySelector('#status').textContent)")


class Steps(unittest.TestCase):
    def test_steps_are_handed_out_after_the_serial_that_is_given(self):
        server = Server()
        try:
            server.post("/v1/completions", {"prompt": "The sea", "max_tokens": 10, "ignore_eos": True})
            steps = json.loads(server.ask("GET", "/steps")[1])["steps"]
            self.assertEqual([step["serial"] for step in steps], list(range(1, 11)))
            shown = re.search(r"## GET /steps\n.*?```json\n(.*?)```", (pathlib.Path(__file__).parents[2] / "docs/json.md").read_text(), re.S)
            self.assertEqual(list(json.loads(shown[1])["steps"][0]), list(steps[0]), "docs/json.md shows the keys")
            self.assertEqual([(step["prefill_tokens"] > 0, step["decode_tokens"]) for step in steps], [(True, 0)] + [(False, 1)] * 9)
            self.assertTrue(all(step["flops"] > step["bytes"] > 0 and step["wall_s"] >= step["busy_s"] > 0 for step in steps))
            self.assertEqual([step["serial"] for step in json.loads(server.ask("GET", "/steps?since=8")[1])["steps"]], [9, 10])
            for query in ("since=", "since=-1", "since=x", "since=1&a=b", "until=3", "since=99999999999999999999"):
                self.assertEqual(server.ask("GET", "/steps?" + query)[0], 400, query)
        finally:
            server.stop()


if __name__ == "__main__":
    if not shutil.which("chromedriver") or not (shutil.which("chromium") or shutil.which("google-chrome")):
        print("SKIPPED: there is no chromedriver, or no chromium (Debian: chromium chromium-driver)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
