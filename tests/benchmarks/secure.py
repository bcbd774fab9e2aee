"""TLS in front of a server that has none, with a certificate from an authority of the benchmark's own."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from tests.redis_fixtures import Certificates
from tests.servers import PATIENCE


class Secure:
    """Takes TLS connections and passes on to a port of this machine, for the length of a ``with`` block."""

    def __init__(self, port: int, directory: Path) -> None:
        self._server = port
        certificates = Certificates(directory)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
        usual = ssl.get_default_verify_paths()
        self.authorities = directory / "authorities.pem"
        """The authorities that a client should trust, in one file: those of this machine and one more."""
        known = Path(usual.cafile).read_text(encoding="ascii", errors="ignore") if usual.cafile else ""
        self.authorities.write_text(f"{known}\n{certificates.ca.read_text()}", encoding="ascii")
        self.directory = directory / "authorities"
        """The same in a directory, where OpenSSL finds the one that it needs by its file's name."""
        self.directory.mkdir()
        for link in Path(usual.capath).glob("*.[0-9]") if usual.capath else ():
            (self.directory / link.name).symlink_to(link.resolve())
        (self.directory / f"{_hash(certificates.ca)}.0").symlink_to(certificates.ca)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """Where it listens."""
        self._wake, self._woken = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Secure:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        for thread in self._threads:
            thread.join()
        self._woken.close()

    def _accept(self) -> None:
        with self._listener:
            while self._listener in self._readable(self._listener):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                with (
                    self._context.wrap_socket(client, server_side=True) as secured,
                    socket.create_connection(("127.0.0.1", self._server), PATIENCE) as server,
                ):
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._pass_on(secured, server)
            except OSError:
                pass  # the client has gone, or does not trust the certificate

    def _pass_on(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        while True:
            speakers = [client] if client.pending() else self._readable(client, server)
            for speaker, other in ((client, server), (server, client)):
                if speaker in speakers:
                    piece = speaker.recv(1 << 16)
                    if not piece:
                        return
                    other.sendall(piece)
            if self._woken in speakers:
                return

    def _readable(self, *speakers: socket.socket) -> list[socket.socket]:
        """Those that have something to say, as soon as there are some; what wakes it may be among them."""
        return select.select([*speakers, self._woken], [], [])[0]


def _hash(certificate: Path) -> str:
    """The name by which OpenSSL looks for an authority's certificate."""
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
