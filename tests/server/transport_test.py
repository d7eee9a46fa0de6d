#!/usr/bin/env python3
"""Below HTTP: TLS, Unix sockets, slow and silent clients, keys' tenants, a server that ends or runs out of descriptors.

    tests/server/transport_test.py REDLINE"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from serving import GREEDY, MODEL, REDLINE, WAIT, Server, run_tests, wait_for

SERVER = None
LONG = {"prompt": "The sea", "max_tokens": 4000, "ignore_eos": True, "stream": True}


def post_bytes(body, path="/v1/completions"):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data


def read_all(connection):
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except OSError:
        pass
    return answer


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class UnixSocket(unittest.TestCase):
    def test_it_serves_there_replaces_a_stale_one_and_removes_its_own(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/redline.sock"
            stale = socket.socket(socket.AF_UNIX)
            stale.bind(path)
            stale.close()
            server = Server("--uds", path)
            server.connection = lambda: UnixConnection(path)
            self.assertEqual(server.url, "unix:" + path)
            self.assertEqual(json.loads(server.ask("GET", "/health")[1]), {"status": "ok"})
            self.assertEqual(server.events("/v1/completions", dict(GREEDY, prompt="The sea"))[-1], "[DONE]")
            second = subprocess.run([REDLINE, "serve", MODEL, "--uds", path], capture_output=True, text=True, timeout=WAIT)
            self.assertEqual(second.returncode, 1, "one that is in use is not taken")
            self.assertIn(path, second.stderr)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.stop(), 0)
            self.assertFalse(os.path.exists(path))


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.cert, cls.key = cls.directory.name + "/cert.pem", cls.directory.name + "/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", cls.key, "-out", cls.cert],
                       check=True, capture_output=True)
        cls.server = Server("--ssl-certfile", cls.cert, "--ssl-keyfile", cls.key)
        cls.context = ssl.create_default_context(cafile=cls.cert)
        cls.server.connection = lambda: http.client.HTTPSConnection("localhost", cls.server.port, timeout=WAIT, context=cls.context)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0
        cls.directory.cleanup()

    def dial(self, **context):
        return self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.server.port), WAIT), server_hostname="localhost")

    def test_answers_and_streams_go_through_it(self):
        self.assertTrue(self.server.url.startswith("https://"))
        answer = self.server.post("/v1/completions", dict(GREEDY, prompt="The sea"))["choices"][0]["text"]
        events = self.server.events("/v1/completions", dict(GREEDY, prompt="The sea"))
        self.assertEqual("".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]), answer)

    def test_a_client_that_goes_ends_its_request(self):
        connection = self.dial()
        connection.sendall(post_bytes(LONG))
        self.assertTrue(connection.recv(10))
        self.assertEqual(self.server.metric("redline_requests_running"), 1)
        try:
            connection.unwrap()  # says good-bye, as clients do
        except (ssl.SSLError, OSError):
            pass
        connection.close()
        wait_for(lambda: self.server.metric("redline_requests_running") == 0)

    def test_old_versions_and_plain_text_are_refused(self):
        old = ssl.create_default_context(cafile=self.cert)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, OSError)):
            old.wrap_socket(socket.create_connection(("127.0.0.1", self.server.port), WAIT), server_hostname="localhost")
        self.assertNotIn(b"HTTP/1.1 200", self.server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_a_bad_certificate_ends_the_start_and_is_named(self):
        for flags in (["--ssl-certfile", "/nonexistent.pem", "--ssl-keyfile", self.key], ["--ssl-certfile", self.cert, "--ssl-keyfile", self.cert],
                      ["--ssl-certfile", self.cert]):
            failed = subprocess.run([REDLINE, "serve", MODEL, "--port", "0", *flags], capture_output=True, text=True, timeout=WAIT)
            self.assertIn(failed.returncode, (1, 2), failed.stderr)
            self.assertRegex(failed.stderr.strip().splitlines()[-1], r"nonexistent\.pem|cert\.pem|--ssl-keyfile")


class SlowClients(unittest.TestCase):
    def test_a_head_that_does_not_come_gets_408_or_the_end(self):
        for begin in (b"", b"POST /v1/completions HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", SERVER.port), WAIT) as connection:
                connection.sendall(begin)
                started = time.monotonic()
                answer = read_all(connection)
                self.assertLess(time.monotonic() - started, 40)
                self.assertEqual(answer[9:12], b"408" if begin else b"")

    def test_a_head_that_trickles_does_not_keep_its_place(self):
        with socket.create_connection(("127.0.0.1", SERVER.port), WAIT) as connection:
            answer = b""
            for _ in range(200):
                try:
                    connection.sendall(b"X")
                except OSError:
                    break
                connection.settimeout(0.2)
                try:
                    answer = connection.recv(100)
                    break
                except TimeoutError:
                    pass
            self.assertIn(answer[9:12], (b"408", b""))

    def test_many_silent_connections_leave_room_for_others(self):
        silent = [socket.create_connection(("127.0.0.1", SERVER.port), WAIT) for _ in range(200)]
        self.assertEqual(SERVER.ask("GET", "/health")[0], 200)

        def num_open():
            count = 0
            for connection in silent:
                connection.setblocking(False)
                try:
                    count += connection.recv(1) != b""
                except BlockingIOError:
                    count += 1
                except OSError:
                    pass
            return count

        wait_for(lambda: num_open() <= 64, 8)  # before the ordinary time-out
        for connection in silent:
            connection.close()

    def test_a_stalled_reader_holds_up_nobody_and_is_cut_off(self):
        before = SERVER.metric("redline_stalled_readers_total")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", SERVER.port))
            # Much to tell for each token, so that buffers fill soon.
            connection.sendall(post_bytes(dict(LONG, logprobs=20, n=8)))
            wait_for(lambda: SERVER.metric("redline_requests_running") > 0)
            for _ in range(5):
                self.assertEqual(SERVER.events("/v1/completions", dict(GREEDY, prompt="The sea"))[-1], "[DONE]")
            wait_for(lambda: SERVER.metric("redline_stalled_readers_total") == before + 1, 120)
            wait_for(lambda: SERVER.metric("redline_requests_running") == 0)
            self.assertNotIn(b"[DONE]", read_all(connection))


class Keys(unittest.TestCase):
    def test_keys_of_the_file_and_of_flags_are_taken_with_and_without_names(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as file:
            file.write("# keys\nred=first-key\r\n\nbase64+key==\n")
            file.flush()
            server = Server("--api-key", "blue=second-key", "--api-key-file", file.name)
            for key, status in (("first-key", 200), ("base64+key==", 200), ("second-key", 200), ("red=first-key", 401), ("# keys", 401), ("", 401)):
                self.assertEqual(server.ask("GET", "/v1/models", headers={"Authorization": "Bearer " + key})[0], status, key)
            self.assertEqual(server.stop(), 0)


class Loading(unittest.TestCase):
    """What can be asked meanwhile: model_server_test.cpp."""

    def test_sigterm_while_the_model_is_loaded_ends_it_at_once_with_0(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/redline.sock"
            process = subprocess.Popen([REDLINE, "serve", MODEL, "--uds", path, "--drain-timeout", "600"], stderr=subprocess.PIPE, text=True)
            self.assertIn(f"is being loaded; unix:{path}/health", process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(WAIT), 0)
            self.assertFalse(os.path.exists(path))
            process.stderr.close()

    def test_a_model_that_cannot_be_loaded_ends_it_with_1_and_the_reason(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(b"GGUF" + bytes(100))
            file.flush()
            failed = subprocess.run([REDLINE, "serve", file.name, "--port", "0"], capture_output=True, text=True, timeout=WAIT)
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr.strip().splitlines()[-1], "^redline: " + file.name)


class Ends(unittest.TestCase):
    def test_kill_9_in_a_stream_breaks_it_off(self):
        server = Server()
        with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
            connection.sendall(post_bytes(LONG))
            self.assertTrue(connection.recv(10))
            server.process.kill()
            rest = read_all(connection)
        self.assertNotIn(b"[DONE]", rest)
        self.assertFalse(rest.endswith(b"0\r\n\r\n"), "no proper end")
        server.process.wait(WAIT)
        server.process.stderr.close()

    def test_sigterm_under_load_ends_with_0_and_tells_whom_it_cuts_off(self):
        server = Server("--drain-timeout", "1")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            def stream(_):
                with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
                    connection.sendall(post_bytes(LONG))
                    return read_all(connection)
            streams = [pool.submit(stream, i) for i in range(12)]
            wait_for(lambda: server.metric("redline_requests_running") == 12)
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            answers = [each.result(WAIT) for each in streams]
        self.assertEqual(server.process.wait(WAIT), 0)
        self.assertLess(time.monotonic() - started, 30)
        server.process.stderr.close()
        for answer in answers:
            self.assertNotIn(b"[DONE]", answer)
            self.assertIn(b'"error"', answer, answer[-300:])

    def test_a_second_signal_ends_it_at_once(self):
        server = Server("--drain-timeout", "600")
        connection = socket.create_connection(("127.0.0.1", server.port), WAIT)
        connection.sendall(post_bytes(LONG))
        connection.recv(10)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", server.port)) != 0)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(WAIT), 0)
        connection.close()
        server.process.stderr.close()

    def test_a_frozen_engine_is_noticed_told_and_the_end(self):
        server = Server("--watchdog", "3", environment={"REDLINE_FAULT_FREEZE_AT_STEP": "5"})
        with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
            connection.sendall(post_bytes(LONG))
            self.assertTrue(connection.recv(10))
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            wait_for(lambda: server.ask("GET", "/health")[0] == 503)
            status, text, _ = server.ask("POST", "/v1/completions", dict(GREEDY, prompt="x"))
            self.assertEqual((status, json.loads(text)["error"]["code"]), (503, "engine_frozen"))
            rest = read_all(connection)
        self.assertIn(b"engine_frozen", rest)
        self.assertNotIn(b"[DONE]", rest)
        self.assertEqual(server.process.wait(WAIT), 1)
        said = server.process.stderr.read()
        self.assertIn("makes no progress", said)
        self.assertRegex(said, r"thread \d+ \(engine\)\n(.*\[0x[0-9a-f]+\]\n){4}", "its stack")
        server.process.stderr.close()

    def test_running_out_of_descriptors_passes(self):
        server = Server(prefix=("bash", "-c", 'ulimit -n 64; exec "$@"', "bash"))
        taken = []
        for _ in range(100):
            taken.append(socket.create_connection(("127.0.0.1", server.port), WAIT))
            taken[-1].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in taken:
            connection.close()
        self.assertEqual(server.events("/v1/completions", dict(GREEDY, prompt="The sea"))[-1], "[DONE]")
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    SERVER = Server()
    run_tests(SERVER)
