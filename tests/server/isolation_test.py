#!/usr/bin/env python3
"""What a tenant can find out about others' prompts through the prefix cache: nothing.

    tests/server/isolation_test.py REDLINE

A spy asks for a prompt's beginning, and looks at everything that is counted of the answer: had somebody else asked for it before? Work is
counted, so that the same work shows the same numbers, and the best classifier of them is a table of what has been seen. Wall-clock time is
tools/prefix_timing.py's. Standard library only; the model is a small random one."""

import collections
import json
import random
import tempfile
import unittest

import tiny_model
from serving import Server, run_tests

SERVER = None
NUM_TRIALS, PREFIX_LENGTH = 100, 200  # tokens are characters; a block has 16
VICTIM, SPY = {"X-Api-Key": "key-of-victim"}, {"X-Api-Key": "key-of-spy"}


def ask(prompt, tenant):
    status, text, _ = SERVER.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 2, "temperature": 0, "ignore_eos": True}, tenant)
    assert status == 200, text
    return json.loads(text)["usage"]


def work_so_far():
    """Steps, tokens, FLOPs and bytes of the engine: a spy may look at /metrics too."""
    page = SERVER.ask("GET", "/metrics", headers=SPY)[1]
    names = ("redline_steps_total", "redline_tokens_total", "redline_flops_total", "redline_bytes_total", "redline_prefix_cache_hits_total")
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in page.splitlines() if line.startswith(names))}


class PrefixCache(unittest.TestCase):
    def observe(self, rng, owner, was_asked):
        """All that is counted of the spy's prompt, after `owner` has asked for the same one, or for another one as long."""
        prompt, other = ("".join(rng.choice(tiny_model.CHARACTERS) for _ in range(PREFIX_LENGTH)) for _ in range(2))
        ask(prompt if was_asked else other, owner)
        before = work_so_far()
        usage = ask(prompt, SPY)
        del usage["redline"]["prefill"]["device_seconds"], usage["redline"]["decode"]["device_seconds"], usage["redline"]["waterfall_ns"]  # time
        work = tuple(value - before[name] for name, value in work_so_far().items())
        return json.dumps(usage, sort_keys=True), work

    def accuracy(self, owner, seed):
        """Of the best guess at whether the prompt was asked for, from a table of what was seen when; and how much was seen."""
        rng = random.Random(seed)
        table = collections.defaultdict(lambda: [0, 0])
        for trial in range(NUM_TRIALS):
            was_asked = trial % 2 == 0
            table[self.observe(rng, owner, was_asked)][was_asked] += 1
        return sum(max(counts) for counts in table.values()) / NUM_TRIALS, len(table)

    def test_what_is_computed_for_a_prompt_does_not_tell_whether_another_tenant_asked_for_it(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        self.assertEqual(self.accuracy(VICTIM, seed), (0.5, 1), "every trial looks the same: guessing is all that is left")

    def test_the_same_spy_sees_at_once_what_its_own_tenant_asked_for(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        self.assertEqual(self.accuracy(SPY, seed), (1.0, 2), "the classifier sees what there is to see")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tiny_model.write_model(folder + "/small.gguf")
        SERVER = Server("--api-key", "victim=key-of-victim", "--api-key", "spy=key-of-spy", model=folder + "/small.gguf")
        run_tests(SERVER)
