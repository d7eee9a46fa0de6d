#!/usr/bin/env python3
"""Who used what: answers tell it, the ledger keeps it, and `redline report` adds it up.

    tests/server/ledger_test.py REDLINE"""

import concurrent.futures
import csv
import io
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest

from serving import GREEDY, REDLINE, WAIT, Server

ALICE, BOB = {"X-Api-Key": "key-of-alice"}, {"X-Api-Key": "key-of-bob"}
PRICE = 7.2  # an hour: 0.002 a second


def device_seconds(usage):
    return sum(usage["redline"][phase]["device_seconds"] for phase in ("prefill", "decode"))


class Ledger(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "ledger.db")

    def serve(self):
        server = Server("--ledger", self.path, "--price", str(PRICE), "--api-key", "alice=key-of-alice", "--api-key", "bob=key-of-bob")
        self.addCleanup(server.process.kill)
        return server

    def complete(self, server, tenant, **fields):
        status, text, _ = server.ask("POST", "/v1/completions", dict(GREEDY, prompt="The sea", **fields), tenant)
        self.assertEqual(status, 200, text)
        return json.loads(text)["usage"]

    def report(self, *flags):
        done = subprocess.run([REDLINE, "report", self.path, *flags], capture_output=True, text=True, check=True)
        return done.stdout

    def rows(self, by="tenant"):
        report = json.loads(self.report("--by", by, "--since", "1d", "--json", "--price", str(PRICE)))
        return {row[by]: row for row in report["rows"]}, report["device"]

    def until(self, reached):
        end = time.monotonic() + WAIT
        while not reached():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def leave_early(self, server):
        """Bob's call, whose client goes after its first event."""
        connection = server.connection()
        body = dict(prompt="A ship", max_tokens=400, ignore_eos=True, stream=True)
        connection.request("POST", "/v1/completions", json.dumps(body), BOB)
        self.assertEqual(b"data:", connection.getresponse().read(5))
        connection.sock.close()
        connection.close()

    def test_calls_sum_to_the_devices_time_through_an_abort_a_kill_and_a_new_start(self):
        server = self.serve()
        usages = [self.complete(server, ALICE), self.complete(server, ALICE, n=2, seed=1)]
        for usage in usages:
            self.assertGreater(usage["redline"]["prefill"]["flops"], 0)
            self.assertGreater(usage["redline"]["decode"]["bytes"], 0)
            self.assertAlmostEqual(usage["redline"]["cost"], device_seconds(usage) * PRICE / 3600, delta=1e-12)
            self.assertIsNone(usage["redline"]["joules"])
        self.complete(server, BOB)
        self.leave_early(server)
        self.until(lambda: self.rows()[0].get("bob", {}).get("calls") == 2)
        busy = lambda: self.rows()[1]["busy_seconds"]
        self.until(lambda: abs(sum(row["prefill"]["device_seconds"] + row["decode"]["device_seconds"]
                                   for row in self.rows()[0].values()) / busy() - 1) < 1e-6)
        server.process.kill()
        server.process.wait(WAIT)
        server.process.stderr.close()

        tenants, device = self.rows()
        alice = tenants["alice"]
        self.assertEqual(alice["calls"], 2)
        self.assertEqual(alice["prompt_tokens"], sum(usage["prompt_tokens"] for usage in usages))
        self.assertEqual(alice["generated_tokens"], sum(usage["completion_tokens"] for usage in usages))
        self.assertEqual(alice["decode"]["flops"], sum(usage["redline"]["decode"]["flops"] for usage in usages))
        self.assertAlmostEqual(alice["cost"], sum(usage["redline"]["cost"] for usage in usages), delta=1e-9)
        self.assertGreater(device["idle_seconds"], 0)

        server = self.serve()
        self.complete(server, BOB)
        self.assertEqual(server.stop(), 0)
        again, device = self.rows()
        self.assertEqual(again["alice"], alice)
        self.assertEqual(again["bob"]["calls"], 3)
        self.assertEqual(device["runs"], 2)
        self.assertEqual(sorted(row["calls"] for row in self.rows("run")[0].values()), [1, 4])
        self.assertEqual(list(self.rows("model")[0]), ["tiny"])

        table = self.report("--price", str(PRICE))
        self.assertIn("alice", table)
        self.assertIn("Energy: not exposed", table)
        lines = list(csv.DictReader(io.StringIO(self.report("--csv", "--price", str(PRICE)))))
        self.assertEqual({line["tenant"]: int(line["calls"]) for line in lines}, {"alice": 2, "bob": 3})

    def test_a_calls_time_is_accounted_for_to_the_nanosecond(self):
        server = Server("--max-num-seqs", "1")
        self.addCleanup(server.stop)
        body = dict(GREEDY, prompt="The sea", max_tokens=40, ignore_eos=True)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            usages = list(pool.map(lambda _: server.post("/v1/completions", body)["usage"], range(3)))
        walls = []
        for usage in usages:
            waterfall = usage["redline"]["waterfall_ns"]
            walls.append(waterfall.pop("wall"))
            self.assertEqual(sum(waterfall.values()), walls[-1])
            self.assertEqual([name for name, ns in waterfall.items() if ns < 0], [])
            self.assertAlmostEqual(waterfall["prefill"] + waterfall["decode"], 1e9 * device_seconds(usage), delta=2)
            self.assertEqual(waterfall["recomputation"] + waterfall["preempted"], 0)
            self.assertEqual(usage["redline"]["wasted_flops"], {"recomputation": 0})
        self.assertGreater(max(usage["redline"]["waterfall_ns"]["queued"] for usage in usages), min(walls) / 2, "one waited for another")
        self.assertAlmostEqual(sum(walls) * 1e-9, server.metric("redline_e2e_request_latency_seconds_sum"), delta=1e-6)

    def test_joules_are_shared_by_the_time_that_the_device_was_busy(self):
        zone = os.path.join(os.path.dirname(self.path), "class/powercap/intel-rapl:0")
        os.makedirs(zone)
        write = lambda name, text: pathlib.Path(zone, name).write_text(text)
        write("name", "package-0\n")
        write("max_energy_range_uj", "262143328850\n")
        done = threading.Event()

        def draw():  # 50 W, as a file that is never seen half written
            begin = time.monotonic()
            while not done.is_set():
                write("new", f"{int(50e6 * (time.monotonic() - begin))}\n")
                os.replace(os.path.join(zone, "new"), os.path.join(zone, "energy_uj"))
                time.sleep(0.001)

        sensor = threading.Thread(target=draw)
        sensor.start()
        self.addCleanup(sensor.join)
        self.addCleanup(done.set)
        self.until(lambda: os.path.exists(os.path.join(zone, "energy_uj")))
        server = Server("--ledger", self.path, environment={"REDLINE_SYSFS": os.path.dirname(self.path)})
        self.addCleanup(server.process.kill)
        usages = [server.post("/v1/completions", dict(GREEDY, prompt="The sea", max_tokens=200, ignore_eos=True))["usage"] for _ in range(2)]
        for usage in usages:
            watts = usage["redline"]["joules"] / device_seconds(usage)
            self.assertTrue(20 < watts < 125, watts)
        joules = sum(usage["redline"]["joules"] for usage in usages)
        self.assertAlmostEqual(server.metric('redline_energy_joules_total{state="busy"}'), joules, delta=1e-6 * joules)
        self.assertGreater(server.metric('redline_energy_joules_total{state="idle"}'), 0)
        self.assertEqual(server.stop(), 0)
        self.assertAlmostEqual(self.rows()[0]["default"]["joules"], joules, delta=1e-6 * joules)
        self.assertNotIn("not exposed", self.report())

    def test_the_environment_names_the_ledger_where_no_argument_does(self):
        server = self.serve()
        self.complete(server, ALICE, max_tokens=3)
        self.assertEqual(server.stop(), 0)
        without = {name: value for name, value in os.environ.items() if name != "REDLINE_LEDGER"}
        done = subprocess.run([REDLINE, "report", "--since", "1d"], env=dict(without, REDLINE_LEDGER=self.path), capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.splitlines()[1].split()[:2], ["alice", "1"])
        none = subprocess.run([REDLINE, "report", "--since", "1d"], env=without, capture_output=True, text=True)
        self.assertEqual((none.returncode, "REDLINE_LEDGER" in none.stderr), (2, True))

    def test_what_it_cannot_do_is_said(self):
        for flags, said in ((["/nowhere/ledger.db"], "there is no such ledger"),
                            ([self.path, "--by", "colour"], "known are tenant, model, run and day"),
                            ([self.path, "--since", "1 moon"], "expected a time such as")):
            done = subprocess.run([REDLINE, "report", *flags], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stderr)
        with open(self.path, "w") as file:
            file.write("no database, but long enough to be looked at as one" * 10)
        with self.assertRaises(RuntimeError):
            self.serve()


if __name__ == "__main__":
    unittest.main(argv=["ledger_test.py"])
