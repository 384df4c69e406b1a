"""Serves one page to this machine alone."""

import http.server
import threading
from collections.abc import Callable


def serve(make: Callable[[], str], port: int, say: Callable[[str], None]):
    """Serves a page at / and /report.html, on loopback, until Ctrl-C; every other path is not found.

    Args:
      make: gives the page as it is now; if it raises, the error is served in place of the page.
      port: 0 for any free one.
      say: is given the address.

    Raises:
      OSError: the port is taken.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler(make)) as server:
        say(f"http://127.0.0.1:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def handler(make: Callable[[], str]) -> type[http.server.BaseHTTPRequestHandler]:
    """The class that answers requests with the page that `make` gives."""
    one_at_a_time = threading.Lock()  # matplotlib is not safe for threads

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 60

        def do_GET(self):
            # a name of another site that resolves to this machine is refused, so that no page there can read this one
            hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
            if self.path.partition("?")[0] not in ("/", "/report.html") or self.headers.get("Host") not in hosts:
                return self.send_error(404)
            try:
                with one_at_a_time:
                    content = make().encode()
            except Exception as error:
                return self.send_error(500, "the records cannot be read", " ".join(str(error).split()))
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *args):
            """Says nothing."""

    return Handler
