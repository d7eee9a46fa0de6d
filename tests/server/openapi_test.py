#!/usr/bin/env python3
"""docs/openapi.json and the server say the same, and no request that it allows, or nearly allows, is a server error.

    tests/server/openapi_test.py REDLINE [EXAMPLES]

The second part uses schemathesis, and is skipped where that is not installed. EXAMPLES: how many requests a route (15)."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from serving import Server, run_tests

try:
    import schemathesis
except ImportError:
    schemathesis = None

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPENAPI = ROOT / "docs/openapi.json"
EXAMPLES = sys.argv[2] if len(sys.argv) > 2 else "15"
SERVER = None


class OpenApi(unittest.TestCase):
    def test_it_lists_every_route_and_no_other(self):
        routes = set(re.findall(r'\{"(GET|POST)", "(/[^"]+)",', (ROOT / "server/api.cpp").read_text()))
        listed = {(method.upper(), path) for path, methods in json.loads(OPENAPI.read_text())["paths"].items() for method in methods}
        self.assertEqual(routes, listed)

    def test_every_listed_get_answers_200_with_its_media_type(self):
        for path, methods in json.loads(OPENAPI.read_text())["paths"].items():
            if "get" in methods:
                status, _, headers = SERVER.ask("GET", path.replace("{model}", "tiny"))
                self.assertEqual((status, [headers["Content-Type"]]), (200, list(methods["get"]["responses"]["200"]["content"])), path)

    @unittest.skipUnless(schemathesis, "schemathesis is not installed")
    def test_no_request_is_a_server_error(self):
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        with tempfile.TemporaryDirectory() as directory:
            run = subprocess.run([sys.executable, "-m", "schemathesis.cli", "run", str(OPENAPI), "--url", f"http://127.0.0.1:{SERVER.port}", "--checks", checks,
                                  "--phases", "examples,fuzzing", "--mode", "all", "--max-examples", EXAMPLES, "--request-timeout", "300"],
                                 capture_output=True, text=True, timeout=3000, cwd=directory)
        self.assertEqual(run.returncode, 0, run.stdout[-6000:] + run.stderr[-2000:])


if __name__ == "__main__":
    SERVER = Server("--ctx", "256")
    run_tests(SERVER)
