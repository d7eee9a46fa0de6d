#!/usr/bin/env python3
"""What deploy/ holds, tried: the rules by promtool, every expression by a real Prometheus that reads a real server,
the unit by systemd.

    tests/deploy/deploy_test.py REDLINE

Needs Prometheus and promtool (Debian's prometheus); without them it exits with 77: skipped."""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/server"))
from serving import REDLINE, WAIT, Server

KEY = "secret-key"

RULES = ROOT / "deploy/prometheus/redline.rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/redline.json").read_text())
DOCUMENTED = set(re.findall(r"`(redline_\w+)`", (ROOT / "docs/metrics.md").read_text()))
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$peak": "attainable"}
# What a machine without such sensors does not say.
OF_SENSORS = re.compile("redline_device_")


def expressions():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def promtool(*arguments, **options):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, **options)


class Files(unittest.TestCase):
    def test_rules_and_configuration_are_valid_and_every_alert_fires_and_keeps_still(self):
        for arguments in (("check", "rules", RULES.name), ("check", "config", "--syntax-only", "prometheus.yml"), ("test", "rules", "redline.rules.test.yml")):
            done = promtool(*arguments, cwd=RULES.parent)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_alerts_are_of_three_severities_and_each_has_a_test_that_fires_and_one_that_does_not(self):
        text = RULES.read_text()
        alerts = dict(re.findall(r"- alert: (\w+).*?severity: (\w+)", text, re.S))
        self.assertEqual(sorted(alerts.values()), ["critical"] * 3 + ["info"] * 3 + ["warning"] * 3)
        tests = (RULES.parent / "redline.rules.test.yml").read_text()
        for alert in alerts:
            self.assertRegex(tests, rf"alertname: {alert}\n *exp_alerts:\n *- exp_labels", "fires")
            self.assertRegex(tests, rf"alertname: {alert}, exp_alerts: \[\]", "keeps still")

    def test_only_metrics_of_the_document_are_used(self):
        for text in (RULES.read_text(), json.dumps([e for _, e in expressions()])):
            used = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bredline_\w+", text)}
            self.assertEqual(used - DOCUMENTED, set())

    def test_the_dashboards_panels_lie_side_by_side(self):
        cells = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & mine, panel["title"])
            cells |= mine
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(ids), len(set(ids)))

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
    def test_systemd_takes_the_unit(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder) / "redline.service"
            unit.write_text((ROOT / "deploy/systemd/redline.service").read_text().replace("/usr/local/bin/redline", str(pathlib.Path(REDLINE).resolve())))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
            complaints = [line for line in done.stderr.splitlines() if "redline.service" in line]
            self.assertEqual((done.returncode, complaints), (0, []), done.stderr)


class RealPrometheus(unittest.TestCase):
    """One server under load, read by one Prometheus every second."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.folder.name)
        cls.server = Server("--api-key", KEY)
        config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8000", f"127.0.0.1:{cls.server.port}").replace("15s", "1s")
        config = config.replace("    # authorization:", "    authorization:").replace("    #   credentials_file: /etc/prometheus/redline.key", f"      credentials_file: {folder}/key")
        (folder / "key").write_text(KEY)
        (folder / "prometheus.yml").write_text(config)
        shutil.copy(RULES, folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            cls.port = probe.getsockname()[1]
        with (folder / "log").open("w") as log:
            cls.prometheus = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                               f"--web.listen-address=127.0.0.1:{cls.port}"], stdout=log, stderr=log)
        cls.going = True
        cls.threads = [threading.Thread(target=cls.ask, args=(i,)) for i in range(3)]
        for thread in cls.threads:
            thread.start()

    @classmethod
    def ask(cls, i):
        headers = {"Authorization": f"Bearer {KEY}"}
        for n in range(10000):
            if not cls.going:
                break
            cls.server.ask("POST", "/v1/completions", {"prompt": "A long beginning that all have. " * 8 + f"{i} {n}", "max_tokens": 20 + 10 * i, "ignore_eos": True}, headers)

    @classmethod
    def tearDownClass(cls):
        cls.going = False
        for thread in cls.threads:
            thread.join()
        cls.prometheus.terminate()
        cls.prometheus.wait(30)
        cls.server.stop()
        cls.folder.cleanup()

    def api(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(query)
        for attempt in range(100):
            try:
                with urllib.request.urlopen(url, timeout=30) as response:
                    return json.load(response)["data"]
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == 99:
                    raise AssertionError(f"{query}: {error.read().decode()}") from None
            except urllib.error.URLError:  # not listening yet
                if attempt == 99:
                    raise
            time.sleep(0.2)

    def values(self, expression):
        return [float(sample["value"][1]) for sample in self.api("query", query=expression)["result"]]

    def wait_for(self, expression, seconds=WAIT):
        end = time.monotonic() + seconds
        while not self.values(expression):
            self.assertLess(time.monotonic(), end, f"{expression} has no value")
            time.sleep(0.5)

    def test_1_every_expression_of_the_dashboard_has_a_value_while_requests_run(self):
        self.wait_for("rate(redline_requests_total[10s]) > 0 and on (instance) redline_mfu{phase='prefill', basis='busy'} > 0")
        for title, expression in expressions():
            with self.subTest(panel=title):
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                self.assertNotIn("$", expression)
                for attempt in range(20):  # a rate needs two readings
                    values = self.values(expression)
                    if OF_SENSORS.search(expression) or any(value == value for value in values):
                        break
                    time.sleep(0.5)
                else:
                    self.fail(f"{expression}: {values}")
        for query in (variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"):
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
            self.assertTrue(all(label in sample["metric"] for sample in self.api("query", query=metric)["result"]))

    def test_2_every_rule_is_evaluated_without_error(self):
        self.wait_for("redline:mfu_busy{phase='decode'}")
        self.wait_for("redline:mfu_busy:baseline{phase='decode'}")
        rules = [rule for group in self.api("rules")["groups"] for rule in group["rules"]]
        self.assertEqual(len(rules), 13)
        for rule in rules:
            self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), rule["name"])

    def test_3_mfu_from_counters_is_the_gauges(self):
        self.wait_for("count_over_time(redline_info[20s]) >= 19")
        gauge, = self.values("avg_over_time(redline_mfu{phase='decode', basis='wall', peak='attainable'}[3s])")
        counter, = self.values("rate(redline_compute_seconds_total{phase='decode', peak='attainable'}[12s])")
        self.assertTrue(gauge / 2 < counter < gauge * 2, (gauge, counter))

    def test_4_an_idle_server_has_no_recorded_ratio(self):
        type(self).going = False
        end = time.monotonic() + WAIT
        while self.values("redline:mfu_busy"):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.5)
        self.assertEqual(self.values("redline_mfu{phase='decode', basis='wall'}"), [0])


if __name__ == "__main__":
    if not shutil.which("promtool") or not shutil.which("prometheus"):
        print("SKIPPED: there is no Prometheus, or no promtool (Debian: prometheus)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
