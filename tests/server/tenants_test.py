#!/usr/bin/env python3
"""Tenants of one server: who waits for whom, and what each may take.

    tests/server/tenants_test.py REDLINE"""

import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
import time
import unittest

from serving import GREEDY, MODEL, REDLINE, WAIT, Server

ALICE, BOB, ADMIN = ({"X-Api-Key": "key-of-" + name} for name in ("alice", "bob", "ops"))
LONG = dict(prompt="The sea", max_tokens=300, temperature=0, ignore_eos=True)


class Tenants(unittest.TestCase):
    def serve(self, *flags):
        self.server = Server("--api-key", "alice=key-of-alice", "--api-key", "bob=key-of-bob", "--admin-api-key", "ops=key-of-ops", *flags)
        self.addCleanup(self.server.stop)

    def call(self, body, tenant):
        status, text, headers = self.server.ask("POST", "/v1/completions", body, tenant)
        return status, json.loads(text), headers

    def metric(self, name):
        text = self.server.ask("GET", "/metrics", headers=ADMIN)[1]
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " ")), None)

    def use(self, what, tenant):
        return self.metric('redline_tenant_%s{tenant="%s"}' % (what, tenant))

    def until(self, what, tenant, number):
        end = time.monotonic() + 2 * WAIT
        while self.use(what, tenant) != number:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def fill(self, pool, num_running, num_waiting):
        """Alice's calls: so many run, and so many wait."""
        running = [pool.submit(self.call, LONG, ALICE) for _ in range(num_running)]
        self.until("requests_running", "alice", num_running)
        waiting = [pool.submit(self.call, LONG, ALICE) for _ in range(num_waiting)]
        self.until("requests_waiting", "alice", num_waiting)
        return running + waiting

    def refused(self, answer, code):
        status, body, headers = answer
        self.assertEqual((status, body["error"]["code"]), (429, code), body)
        self.assertGreater(int(headers["Retry-After"]), 0)
        return body["error"]["message"]

    def test_one_that_floods_waits_and_the_other_is_served_before_its_queue(self):
        self.serve("--max-num-seqs", "2", "--tenant-max-waiting", "3", "--tenant-max-waiting", "alice=6")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            flood = self.fill(pool, 2, 6)
            self.assertGreater(self.use("kv_blocks", "alice"), 0)
            message = self.refused(self.call(LONG, ALICE), "tenant_queue_full")
            self.assertIn("6 requests of tenant alice wait", message)
            status, beside, _ = self.call(dict(GREEDY, prompt="A ship"), BOB)
            self.assertEqual(status, 200, beside)
            self.assertGreaterEqual(self.use("requests_waiting", "alice"), 3, "bob came last of all and is served")
            answers = [answer.result() for answer in flood]
        self.assertEqual([(status, body["usage"]["completion_tokens"]) for status, body, _ in answers], [(200, 300)] * 8)
        alone = self.call(dict(GREEDY, prompt="A ship"), BOB)[1]
        self.assertEqual(beside["choices"], alone["choices"])
        for what in ("requests_running", "requests_waiting", "kv_blocks"):
            for tenant in ("alice", "bob"):
                self.assertEqual(self.use(what, tenant), 0)

    def test_a_tenant_sees_its_own_figures_and_an_admin_everybodys(self):
        self.serve()
        for tenant in (ALICE, ALICE, BOB):
            self.assertEqual(self.call(dict(GREEDY, prompt="A ship"), tenant)[0], 200)
        named = lambda key: set(re.findall(r'^redline_tenant_.*tenant="(\w+)"', self.server.ask("GET", "/metrics", headers=key)[1], re.M))
        self.assertEqual((named(ALICE), named(BOB), named(ADMIN)), ({"alice"}, {"bob"}, {"alice", "bob"}))
        page = self.server.ask("GET", "/metrics", headers=BOB)[1]
        self.assertIn('redline_tenant_requests_total{tenant="bob"} 1\n', page)
        self.assertIn('redline_requests_total{finish_reason="length"} 3\n', page, "sums are everybody's")

    def test_by_default_none_can_fill_the_queue(self):
        self.serve("--max-num-seqs", "1", "--max-queue", "4")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            flood = self.fill(pool, 1, 2)
            self.refused(self.call(LONG, ALICE), "tenant_queue_full")
            self.assertEqual(self.call(dict(GREEDY, prompt="A ship"), BOB)[0], 200)
            self.assertEqual([answer.result()[0] for answer in flood], [200] * 3)

    def test_clients_that_go_leave_their_tenants_queue(self):
        self.serve("--max-num-seqs", "1", "--tenant-max-waiting", "1")
        first = self.server.connection()
        first.request("POST", "/v1/completions", json.dumps(dict(LONG, max_tokens=6000)), ALICE)
        self.until("requests_running", "alice", 1)
        for _ in range(3):
            other = self.server.connection()
            other.request("POST", "/v1/completions", json.dumps(LONG), ALICE)
            self.until("requests_waiting", "alice", 1)
            self.refused(self.call(LONG, ALICE), "tenant_queue_full")
            other.close()
            self.until("requests_waiting", "alice", 0)
        self.assertEqual(self.use("requests_running", "alice"), 1)
        first.close()
        self.until("requests_running", "alice", 0)

    def test_a_prompt_beyond_its_tenants_share_is_refused_with_both_numbers(self):
        self.serve("--tenant-kv-share", "bob=0.1", "--ctx", "2000", "--kv-memory", "48000000")
        most = int(0.1 * self.metric("redline_kv_blocks")) * 16
        body = {"prompt": [5] * (most + 1), "max_tokens": 4, "ignore_eos": True}
        status, refused, _ = self.call(body, BOB)
        self.assertEqual(status, 400)
        self.assertIn(f"{most + 1} tokens, the tenant's share of the cache holds {most + 1}", refused["error"]["message"])
        self.assertEqual(self.call(body, ALICE)[1]["usage"]["completion_tokens"], 4)
        self.assertEqual(self.call(dict(body, prompt=[5] * most), BOB)[1]["usage"]["completion_tokens"], 1)

    def test_the_key_file_gives_limits_and_flags_that_name_a_tenant_win(self):
        keys = self.key_file("# both\nalice=key-of-alice max-waiting=2 kv-share=0.1\nbob=key-of-bob kv-share=0.2 # a guest\nops=key-of-ops admin")
        self.server = Server("--api-key-file", keys, "--tenant-max-waiting", "9", "--tenant-kv-share", "bob=0.1", "--max-num-seqs", "1", "--ctx", "2000",
                             "--kv-memory", "48000000")
        self.addCleanup(self.server.stop)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            flood = self.fill(pool, 1, 2)
            self.assertIn("beyond 2 no more", self.refused(self.call(LONG, ALICE), "tenant_queue_full"))
            self.assertEqual(self.call(dict(GREEDY, prompt="A ship"), BOB)[0], 200)
            self.assertEqual([answer.result()[0] for answer in flood], [200] * 3)
        most = int(0.1 * self.metric("redline_kv_blocks")) * 16
        for tenant in (ALICE, BOB):
            status, refused, _ = self.call({"prompt": [5] * (most + 1), "max_tokens": 4}, tenant)
            self.assertEqual(status, 400)
            self.assertIn(f"the tenant's share of the cache holds {most + 1}", refused["error"]["message"])

    def key_file(self, text):
        file = tempfile.NamedTemporaryFile("w", suffix=".keys")
        self.addCleanup(file.close)
        file.write(text)
        file.flush()
        return file.name

    def test_a_line_of_the_key_file_that_is_wrong_is_named_and_its_key_is_not(self):
        keys = self.key_file("alice=s3cr3t\nbob=s3cr3t2 kv-share=2\n")
        ended = subprocess.run([REDLINE, "serve", MODEL, "--api-key-file", keys], capture_output=True, text=True, timeout=WAIT)
        self.assertEqual(ended.returncode, 1)
        self.assertTrue(ended.stderr.strip().splitlines()[-1].startswith(f"redline: {keys}:2: 'kv-share=2' is not"), ended.stderr)
        self.assertNotIn("s3cr3t", ended.stderr)

    def test_limits_that_are_none_or_nobodys_are_refused_at_the_start(self):
        for flags, message in ((("--tenant-kv-share", "carol=0.5"), "no key is of a tenant 'carol'"), (("--tenant-kv-share", "1.5"), "'1.5' is not"),
                               (("--tenant-max-waiting", "alice="), "'alice=' is not"), (("--tenant-max-waiting", "0"), "'0' is not")):
            ended = subprocess.run([REDLINE, "serve", MODEL, "--api-key", "alice=a", *flags], capture_output=True, text=True, timeout=WAIT)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(message, ended.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
