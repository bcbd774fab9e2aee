"""LaunchDarkly's streaming service, as far as a server-side SDK with a persistent store needs it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

Data: TypeAlias = dict[str, dict[str, Any]]
Message: TypeAlias = tuple[str, dict[str, Any]]

PATHS = {"features": "flags", "segments": "segments"}


class Stream:
    """Says the whole of ``data`` to whoever connects, and then each change that is made."""

    def __init__(self, data: Data) -> None:
        self._data = {kind: dict(items) for kind, items in data.items()}
        self._listeners: list[SimpleQueue[Message | None]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """The base of the service's addresses."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Stream:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for listener in self._listeners:
                listener.put(None)
        self._server.shutdown()
        self._server.server_close()  # waits for the connections' threads

    def upsert(self, kind: str, key: str, item: dict[str, Any]) -> None:
        """Says that an item is new or has changed."""
        with self._lock:
            self._data[kind][key] = item
            self._say("patch", {"path": f"/{PATHS[kind]}/{key}", "data": item})

    def delete(self, kind: str, key: str, version: int) -> None:
        """Says that an item is gone."""
        with self._lock:
            del self._data[kind][key]
            self._say("delete", {"path": f"/{PATHS[kind]}/{key}", "version": version})

    def _say(self, event: str, body: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener.put((event, body))

    def _listen(self) -> SimpleQueue[Message | None]:
        with self._lock:
            listener: SimpleQueue[Message | None] = SimpleQueue()
            data = {PATHS[kind]: dict(items) for kind, items in self._data.items()}
            listener.put(("put", {"path": "/", "data": data}))
            self._listeners.append(listener)
            return listener

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listen = self._listen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/all":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                # In chunks, because a client without them waits for a buffer to fill.
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                listener = listen()
                while (message := listener.get()) is not None:
                    event, body = message
                    # No `\u` escapes: Go's decoder takes those of a surrogate pair for two bad characters.
                    text = f"event: {event}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
                    try:
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
                    except OSError:  # the SDK went first
                        return

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
