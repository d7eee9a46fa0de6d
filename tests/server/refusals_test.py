#!/usr/bin/env python3
"""What a careful HTTP server refuses, this one refuses; and it asks nobody else for anything.

    tests/server/refusals_test.py REDLINE

Standard library only; nginx is asked the same bytes where it is installed. The model: a small random one (tiny_model.py)."""

import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import tiny_model
from serving import Server, run_tests

SERVER = None
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def request(*lines, body=b""):
    return b"\r\n".join(line.encode() for line in lines) + b"\r\n\r\n" + body


# Heads that two servers in a row could take for different requests, by what is wrong with them.
ODD = {
    "both lengths": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two lengths": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: 5", "Content-Length: 6", body=b"aaaaa"),
    "a list of lengths": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: 5, 5", body=b"aaaaa"),
    "a signed length": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: +5", body=b"aaaaa"),
    "a negative length": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: -1"),
    "a hexadecimal length": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: 0x5", body=b"aaaaa"),
    "a length past 64 bits": request("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: 99999999999999999999999"),
    "an unknown coding": request("POST /v1/models HTTP/1.1", "Host: x", "Transfer-Encoding: gzip"),
    "a coding after chunked": request("POST /v1/models HTTP/1.1", "Host: x", "Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "chunked twice": request("POST /v1/models HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a chunk that is no number": request("POST /v1/models HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", body=b"z\r\n\r\n0\r\n\r\n"),
    "no host": request("GET /v1/models HTTP/1.1"),
    "two hosts": request("GET /v1/models HTTP/1.1", "Host: a", "Host: b"),
    "a space before the colon": request("GET /v1/models HTTP/1.1", "Host : x"),
    "a folded field": request("GET /v1/models HTTP/1.1", "Host: x", "X-Key: a", " b"),
    "a field without a colon": request("GET /v1/models HTTP/1.1", "Host: x", "nonsense"),
    "a NUL in a field": request("GET /v1/models HTTP/1.1", "Host: x", "X-Key: a\0b"),
    "a NUL in the path": request("GET /v1/mod\0els HTTP/1.1", "Host: x"),
    "an unknown version": request("GET /v1/models HTTP/3.7", "Host: x"),
    "no version": request("GET /v1/models", "Host: x"),
    "a method of controls": b"G\x01T /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "an empty line of fields": b"\r\n\r\n\r\nX\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
}


def status(port, data):
    """The status of the first answer; 0 where the connection ends, or nothing comes, without one."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, TimeoutError):
            pass
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0


class Refusals(unittest.TestCase):
    def test_odd_heads_are_refused_and_their_connection_closed(self):
        for name, data in ODD.items():
            with self.subTest(name):
                # What follows on the connection must not be read as a request of its own.
                answer = SERVER.raw(data + request("GET /health HTTP/1.1", "Host: x", "Connection: close"))
                self.assertNotIn(b" 200 ", answer)
                self.assertLessEqual(answer.count(b"HTTP/1.1 "), 1, answer)

    @unittest.skipUnless(NGINX, "nginx is not installed")
    def test_what_nginx_refuses_is_refused_here(self):
        with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            pathlib.Path(directory, "nginx.conf").write_text(f"""
                daemon off; pid {directory}/pid; error_log {directory}/error; worker_processes 1;
                events {{}}
                http {{ access_log off; client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
                        uwsgi_temp_path {directory}; scgi_temp_path {directory};
                        server {{ listen 127.0.0.1:{port}; location / {{ return 200 "read"; }} }} }}""")
            nginx = subprocess.Popen([NGINX, "-c", directory + "/nginx.conf", "-e", directory + "/error"])
            try:
                for _ in range(200):
                    try:
                        self.assertEqual(status(port, request("GET / HTTP/1.1", "Host: x", "Connection: close")), 200)
                        break
                    except ConnectionRefusedError:
                        time.sleep(0.05)
                theirs = {name: status(port, data) for name, data in ODD.items()}
            finally:
                nginx.terminate()
                nginx.wait(30)
        self.assertGreater(sum(code >= 400 for code in theirs.values()), len(ODD) // 2, theirs)
        ours = {name: status(SERVER.port, data) for name, data in ODD.items()}
        lenient = {name: (code, theirs[name]) for name, code in ours.items() if theirs[name] >= 400 and code and code < 400}
        self.assertEqual(lenient, {})

    def test_no_request_makes_the_server_open_a_connection(self):
        visits = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.1)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
            done = threading.Event()

            def listen():
                while not done.is_set():
                    try:
                        visits.append(listener.accept())
                    except TimeoutError:
                        pass

            thread = threading.Thread(target=listen)
            thread.start()
            chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
            image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
            tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}
            bodies = [
                dict(chat, messages=[image]), dict(chat, model=url), dict(chat, tools=[tool], tool_choice="required"), dict(chat, user=url),
                dict(chat, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"$ref": url}}}),
                dict(chat, messages=[{"role": "user", "content": url}]), dict(chat, callback_url=url, webhook=url),
            ]
            codes = [SERVER.ask("POST", "/v1/chat/completions", body)[0] for body in bodies]
            codes += [SERVER.ask("POST", "/v1/completions", {"prompt": url, "max_tokens": 2, "grammar": f'root ::= "{url}"'})[0]]
            codes += [status(SERVER.port, request(f"GET {url} HTTP/1.1", "Host: x", "Connection: close")),
                      status(SERVER.port, request(f"CONNECT {url[7:-2]} HTTP/1.1", f"Host: {url[7:-2]}", "Connection: close"))]
            time.sleep(0.3)
            done.set()
            thread.join()
        self.assertEqual(visits, [])
        self.assertEqual(codes[0], 400, "images are not served")
        self.assertLess(max(codes), 502, codes)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as small:
        tiny_model.write_model(small + "/small.gguf")
        SERVER = Server(model=small + "/small.gguf")
        run_tests(SERVER)
