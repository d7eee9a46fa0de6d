"""A server under test, started as a program and asked over sockets.

The program's path is the test's first argument. The model: REDLINE_TEST_MODEL, or where tools/get_model.sh keeps it."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import unittest

from sanitizers import SLOWDOWN

REDLINE = sys.argv[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
MODEL = os.environ.get("REDLINE_TEST_MODEL") or str(CACHE / "redline/SmolLM2-135M-Instruct.Q4_1.gguf")
WAIT = 60 * SLOWDOWN  # seconds, for anything
GREEDY = {"temperature": 0, "max_tokens": 8}
MESSAGES = [{"role": "user", "content": "Name two colours."}]


def wait_for(what, seconds=WAIT):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


class Server:
    def __init__(self, *flags, model=MODEL, prefix=(), environment={}):
        """`prefix`: a command that runs the program, `ulimit`'s shell for one."""
        self.process = subprocess.Popen([*prefix, REDLINE, "serve", str(model), "--port", "0", "--served-model-name", "tiny", *flags],
                                        stderr=subprocess.PIPE, text=True, env=dict(os.environ, **environment))
        for line in self.process.stderr:
            if " is served at " in line:
                self.url = line.split(" is served at ")[1].strip()
                self.port = 0 if self.url.startswith("unix:") else int(self.url.rsplit(":", 1)[1])
                return
        self.process.wait(WAIT)
        self.process.stderr.close()
        raise RuntimeError("the server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(WAIT)
        self.process.stderr.close()
        return status

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)

    def ask(self, method, path, body=None, headers=None):
        connection = self.connection()
        data = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text, response.headers

    def post(self, path, body, status=200):
        found, text, _ = self.ask("POST", path, body)
        assert found == status, (found, text)
        return json.loads(text)

    def events(self, path, body):
        """The data of every event; the connection's proper end is checked by http.client."""
        found, text, headers = self.ask("POST", path, dict(body, stream=True))
        assert found == 200 and headers["Content-Type"] == "text/event-stream", (found, text)
        events = text.split("\n\n")
        assert events.pop() == "" and all(event.startswith("data: ") for event in events), text
        return [event.removeprefix("data: ") for event in events]

    def raw(self, request):
        """Everything that the server sends for these bytes until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), WAIT) as connection:
            try:
                connection.sendall(request)
            except OSError:
                pass
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
            return answer

    def metric(self, name):
        text = self.ask("GET", "/metrics")[1]
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))


def run_tests(server):
    """Runs the tests of the program's own module against `server`, then stops it; does not return."""
    try:
        outcome = unittest.main(argv=sys.argv[:1], verbosity=2, exit=False).result
    finally:
        status = server.stop()
    sys.exit(not outcome.wasSuccessful() or status != 0)
