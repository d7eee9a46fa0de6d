#!/usr/bin/env python3
"""`redline bench --report` in a browser: pictures drawn, nothing fetched, nothing cut off.

    tests/tools/report_test.py REDLINE"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "server"))
REDLINE = sys.argv[1]
TINY = pathlib.Path(__file__).resolve().parents[1] / "goldens/tiny/plain_4to2_d32_long_bf16"


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        from webdriver import Browser

        cls.folder = tempfile.TemporaryDirectory()
        cls.page = pathlib.Path(cls.folder.name) / "report.html"
        command = [REDLINE, "bench", TINY, "-p", "40", "-n", "5", "--batch", "1,3", "-r", "2", "--report", cls.page, "--on", "h100", "--json"]
        cls.rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.folder.cleanup()

    def open(self, width, scheme="light"):
        self.browser.resize(width, 1500)
        self.browser.prefer(scheme)
        self.browser.messages()
        self.browser.open(self.page.as_uri())
        self.assertEqual(self.browser.messages(), [], "the console stays empty")

    def count(self, selector):
        return self.browser.run("return document.querySelectorAll(arguments[0]).length;", selector)

    def test_every_row_step_and_roof_is_drawn(self):
        self.open(1100)
        self.assertEqual(self.count("section"), 3)
        self.assertEqual(self.count("svg"), 3)
        self.assertEqual(self.count("tr"), 1 + len(self.rows))
        steps = sum(row["utilization"]["steps"] for row in self.rows)
        legend = 2
        self.assertEqual(self.count("section:nth-of-type(2) circle"), steps + legend)
        self.assertEqual(self.count("section:nth-of-type(2) .other"), 1, "the H100's roof")
        self.assertGreater(self.count("section:nth-of-type(2) .roof"), 0)
        bars = self.browser.run("return [...document.querySelectorAll('section:nth-of-type(1) rect[height=\"24\"]')].map((e) => [e.getAttribute('y'), +e.getAttribute('width')]);")
        widths = {}
        for y, width in bars:
            widths[y] = widths.get(y, 0) + width
        self.assertEqual(len(widths), len(self.rows))
        for width in widths.values():
            self.assertAlmostEqual(width, 586, delta=0.5)
        box = "return [...document.querySelectorAll('circle')].filter((e) => { const c = e.getBoundingClientRect(), s = e.closest('svg').getBoundingClientRect();" \
              " return c.left < s.left || c.right > s.right || c.top < s.top || c.bottom > s.bottom; }).length;"
        self.assertEqual(self.browser.run(box), 0, "no point lies outside its picture")
        if path := os.environ.get("REDLINE_SCREENSHOT"):
            self.browser.screenshot(path)

    def test_it_says_why(self):
        self.open(1100)
        text = self.browser.run("return document.body.innerText;")
        self.assertIn("prefill of", text)
        self.assertIn("decode at batch 3", text)

    def test_it_fetches_nothing_and_fits_a_phone_light_and_dark(self):
        backgrounds = set()
        for scheme in ("light", "dark"):
            for width in (360, 1100):
                self.open(width, scheme)
                self.assertEqual(self.browser.run("return performance.getEntriesByType('resource').length;"), 0)
                self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth;"), width)
            backgrounds.add(self.browser.run("return getComputedStyle(document.body).backgroundColor;"))
        self.assertEqual(len(backgrounds), 2)
        self.assertNotRegex(self.page.read_text(), r"https?://(?!www\.w3\.org/)|<script")


if __name__ == "__main__":
    if not shutil.which("chromedriver") or not (shutil.which("chromium") or shutil.which("google-chrome")):
        print("SKIPPED: there is no chromedriver, or no chromium (Debian: chromium chromium-driver)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
