"""Stands in for `python -m spinor` in the tests of the supervisor: the words bootstrap, server and worker."""

import http.server
import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"version": "stand-in"}).encode()
        self.send_response(200 if self.path == "/api/health" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    word, data = sys.argv[-1], Path(os.environ["SPINOR_DATA_DIR"])
    with (data / "calls").open("a") as calls:
        calls.write(f"{word} {os.getpid()}\n")
    if (data / f"break-{word}").exists():
        print(f"the {word} is broken by the test", flush=True)
        sys.exit(3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if word == "worker":
        while True:
            time.sleep(60)
    if word == "server":
        host, _, port = os.environ["SPINOR_LISTEN"].partition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["SPINOR_TLS_CERT"], os.environ["SPINOR_TLS_KEY"])
        server = http.server.ThreadingHTTPServer((host, int(port)), Health)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
