"""A web server on loopback for the scripts: serve.py DIR PORTFILE writes its port to PORTFILE and serves

/PATH             the file DIR/PATH; / alone is a text
/git/REPO/...     the bare repository DIR/REPO by git http-backend
/auth/VALUE/...   the rest of the path, for requests with "Authorization: VALUE" (base64, for URLs) only
/to/URL           a redirect to URL (base64, for URLs), with the rest of the path
/loop /cut /down /hang  a redirect to itself, half of what the header promises, 503, nothing
and writes a line for each request, with its credentials, to PORTFILE.log.
"""

import base64
import http.server
import os
import subprocess
import sys
import threading
import time

ROOT, PORTFILE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
LOCK = threading.Lock()


def decode(text):
    return base64.urlsafe_b64decode(text).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.chunks()
        given = self.headers.get("Authorization") or "-"
        with LOCK, open(PORTFILE + ".log", "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {given}\n")
        self.answer(self.path, body)

    do_POST = do_GET

    def log_message(self, *_):
        pass

    def chunks(self):
        out = b""
        while size := int(self.rfile.readline(), 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return out

    def answer(self, path, body):
        kind, _, rest = path[1:].partition("/")
        if kind == "auth":
            want, _, rest = rest.partition("/")
            if self.headers.get("Authorization") != decode(want):
                self.reply(401, b"no", ("WWW-Authenticate", "Basic realm=x"))
            else:
                self.answer("/" + rest, body)
        elif kind == "to":
            where, _, rest = rest.partition("/")
            self.reply(302, b"", ("Location", decode(where) + ("/" + rest if rest else "")))
        elif kind == "git":
            self.git(rest, body)
        elif kind == "loop":
            self.reply(302, b"", ("Location", path))
        elif kind == "down":
            self.reply(503, b"")
        elif kind == "hang":
            time.sleep(1000)
        elif kind == "cut":
            self.reply(200, b"half", ("Content-Length", "8"))
        else:
            self.file(path)

    def reply(self, status, body, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def file(self, path):
        if path == "/":
            self.reply(200, b"root")
            return
        name = os.path.join(ROOT, path.partition("?")[0].lstrip("/"))
        if not os.path.isfile(name):
            self.reply(404, b"")
            return
        with open(name, "rb") as f:
            body = f.read()
        self.reply(200, body, ("Last-Modified", self.date_time_string(os.stat(name).st_mtime)))

    def git(self, path, body):
        path, _, query = path.partition("?")
        env = dict(os.environ, GIT_PROJECT_ROOT=ROOT, GIT_HTTP_EXPORT_ALL="1", PATH_INFO="/" + path, QUERY_STRING=query,
                   REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get("Content-Type") or "",
                   CONTENT_LENGTH=str(len(body)), HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding") or "",
                   GIT_PROTOCOL=self.headers.get("Git-Protocol") or "")
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False).stdout
        head, _, body = out.partition(b"\r\n\r\n")
        headers = [line.partition(": ")[::2] for line in head.decode().split("\r\n")]
        status = [value for name, value in headers if name == "Status"] or ["200"]
        self.reply(int(status[0].split()[0]), body, *[h for h in headers if h[0] not in ("Status", "")])


http.server.ThreadingHTTPServer.daemon_threads = True
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(PORTFILE + ".new", "w", encoding="utf-8") as f:
    f.write(str(server.server_address[1]))
os.rename(PORTFILE + ".new", PORTFILE)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
