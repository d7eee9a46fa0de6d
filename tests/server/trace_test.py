#!/usr/bin/env python3
"""The timeline of a server: whole when it ends, and when it is killed.

    tests/server/trace_test.py REDLINE"""

import concurrent.futures
import json
import os
import tempfile
import time
import unittest

from serving import GREEDY, Server


class Trace(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "trace.json")
        self.server = Server("--trace", self.path, "--max-num-seqs", "2", "-c", "512")
        self.addCleanup(self.server.process.kill)

    def ask_four(self):
        bodies = [dict(GREEDY, prompt=f"{i} ships", n=2 if i == 0 else 1, ignore_eos=True) for i in range(4)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return [answer["usage"] for answer in pool.map(lambda body: self.server.post("/v1/completions", body), bodies)]

    def lanes(self, text):
        """Rows of requests: their spans [name, begin, end, args], in microseconds; the first is the whole."""
        lanes = {}
        for event in json.loads(text):
            if event["pid"] != 2 or event["ph"] not in "BEX":
                continue
            lane = lanes.setdefault(event["tid"], [])
            if event["ph"] == "B":
                lane.append([event["name"], event["ts"], None, {}])
            elif event["ph"] == "E":
                lane[0][2:] = [event["ts"], event["args"]]
            else:
                lane.append([event["name"], event["ts"], event["ts"] + event["dur"], event["args"]])
        return lanes

    def check(self, text, usages):
        lanes = self.lanes(text)
        self.assertEqual(len(lanes), 4)
        for lane in lanes.values():
            self.assertEqual([lane[0][0], lane[1][0]], ["request", "queued"])
            ends = [span[2] for span in lane[1:]]
            self.assertEqual(lane[1][1], lane[0][1])
            self.assertLessEqual(ends[-1], lane[0][2] + 1e-6)
            for before, after in zip(lane[1:], lane[2:]):
                self.assertLessEqual(before[2], after[1] + 1e-6, "steps and waits of a request follow each other")
        steps = [span[3] for lane in lanes.values() for span in lane if "step" in span[3]]
        self.assertEqual(sum(step.get("prefill_tokens", 0) for step in steps),
                         sum(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] for usage in usages))
        self.assertEqual(sum(step.get("decode_tokens", 0) for step in steps), 5 * 7, "the first token of an answer is prefill's")
        flops = sum(lane[0][3][phase]["executed_flops"] for lane in lanes.values() for phase in ("prefill", "decode"))
        self.assertEqual(flops, sum(usage["redline"][phase]["flops"] for usage in usages for phase in ("prefill", "decode")))

    def test_a_server_that_ends_leaves_whole_json(self):
        usages = self.ask_four()
        self.assertEqual(self.server.stop(), 0)
        with open(self.path) as file:
            self.check(file.read(), usages)

    def test_a_server_that_is_killed_leaves_all_but_the_last_bracket(self):
        usages = self.ask_four()
        time.sleep(0.2)  # the engine tells the trace of a request's end after it tells the client
        self.server.process.kill()
        self.server.process.wait(60)
        self.server.process.stderr.close()
        with open(self.path) as file:
            self.check(file.read() + "]", usages)


if __name__ == "__main__":
    unittest.main(argv=["trace_test.py"])
