"""A real Consul agent for the tests: a server of its own, in memory, gone with the test that started it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.servers import PATIENCE, free_port, lacking

ELECTION = 30.0  # seconds for an agent that was paused to be its own leader again

SERVERS = Path(os.environ.get("LDREADER_SERVERS") or Path.home() / ".cache" / "ldreader-servers")
"""Where tests/install-servers.sh puts what the system does not have."""


def consul_program() -> str:
    """The consul program: the one on PATH, else the one that was installed for the tests."""
    program = shutil.which("consul") or shutil.which(SERVERS / "consul" / "usr" / "bin" / "consul")
    if program is None:
        lacking("consul is not installed: sh tests/install-servers.sh", "LDREADER_REQUIRE_SERVERS")
    return program


class ConsulAgent:
    """A Consul agent that runs for the length of a ``with`` block.

    It can be stopped and started again on the same ports, but forgets what it held. With ``acl``, whoever has no
    token may do nothing; with ``tls``, it also listens for clients that have a certificate.
    """

    process: subprocess.Popen[bytes]

    def __init__(
        self, *, acl: bool = False, tls: bool = False, datacenter: str = "dc1", other: ConsulAgent | None = None
    ) -> None:
        self._program = consul_program()
        self._acl = acl
        self._tls = tls
        self._datacenter = datacenter
        self._other = other
        self._ports: dict[str, int] = {}
        self.token = ""
        """With ``acl``, the token that may do everything."""

    @property
    def port(self) -> int:
        """Where it listens for HTTP."""
        return self._ports["http"]

    @property
    def url(self) -> str:
        """The store URL, without a token."""
        return f"consul://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The store URL for TLS, without a token."""
        return f"consul+https://127.0.0.1:{self._ports['https']}"

    @property
    def authority(self) -> str:
        """The certificate of the authority that the agent's certificate is signed by."""
        return str(self._directory / "consul-agent-ca.pem")

    @property
    def client_certificate(self) -> tuple[str, str]:
        """A client's certificate and key, that the agent asks for."""
        return (
            str(self._directory / f"{self._datacenter}-client-consul-0.pem"),
            str(self._directory / f"{self._datacenter}-client-consul-0-key.pem"),
        )

    def __enter__(self) -> ConsulAgent:
        self._directory = Path(tempfile.mkdtemp(prefix="ldreader-consul-"))
        try:
            if self._tls:
                self._make_certificates()
            self.start()
        except BaseException:
            self._remove_directory()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove_directory()

    def start(self) -> None:
        """Starts it; returns when it answers, which needs a leader."""
        for _ in range(5):  # another process may take a port first
            ports = self._ports or {name: free_port() for name in ("http", "https", "server", "serf_lan", "serf_wan")}
            if self._answers_on(ports):
                self._ports = ports
                break
        else:
            raise RuntimeError(f"consul did not start:\n{self.log()}")
        if self._acl:
            self.token = self._bootstrap()

    def stop(self) -> None:
        """Ends it, paused or not; returns when it has ended."""
        if self.process.poll() is None:
            self.process.kill()  # it holds nothing that could be saved
            self.process.wait()

    def pause(self) -> None:
        """Keeps it from answering; connections are still accepted, by the kernel."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # its threads do not stop at once

    def resume(self) -> None:
        """Lets it answer again; returns when it does, which needs a leader."""
        self.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + ELECTION
        while not self._answers(self.port):
            assert time.monotonic() < deadline, f"no leader {ELECTION:g} s after a pause:\n{self.log()[-2000:]}"
            time.sleep(0.02)

    def log(self) -> str:
        """What it has logged, each request included."""
        return (self._directory / "log").read_text(encoding="utf-8", errors="replace")

    def put(self, key: str, value: bytes, datacenter: str = "") -> None:
        """Writes one value, by a transaction: a URL cannot hold every key."""
        import base64

        operation = {"KV": {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode()}}
        self.call("PUT", f"/v1/txn?dc={datacenter or self._datacenter}", [operation])

    def new_token(self, rules: str) -> str:
        """A new token with a policy of these rules."""
        policy = self.call("PUT", "/v1/acl/policy", {"Name": f"policy-{time.monotonic_ns()}", "Rules": rules})
        token = self.call("PUT", "/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})
        return str(token["SecretID"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What the agent answers, as the token that may do everything."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{quote(path, safe='/?=&')}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Consul-Token": self.token},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.loads(response.read())

    def _make_certificates(self) -> None:
        certificate = f"cert create -dc {self._datacenter}"
        for command in ("ca create", f"{certificate} -server", f"{certificate} -client"):
            subprocess.run(
                [self._program, "tls", *command.split()], cwd=self._directory, check=True, capture_output=True
            )

    def _remove_directory(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _settings(self, ports: dict[str, int]) -> dict[str, Any]:
        ports = {**ports, "https": ports["https"] if self._tls else -1, "dns": -1, "grpc": -1}
        version = subprocess.run([self._program, "version"], check=True, capture_output=True, text=True).stdout
        if tuple(map(int, version.split()[1].lstrip("v").split(".")[:2])) >= (1, 14):
            ports["grpc_tls"] = -1
        settings: dict[str, Any] = {"ports": ports, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1"}
        settings |= {"datacenter": self._datacenter, "node_name": self._datacenter, "log_level": "debug"}
        settings["disable_update_check"] = True
        if self._acl:
            settings["acl"] = {"enabled": True, "default_policy": "deny"}
        if self._tls:
            settings |= {
                "ca_file": self.authority,
                "cert_file": str(self._directory / f"{self._datacenter}-server-consul-0.pem"),
                "key_file": str(self._directory / f"{self._datacenter}-server-consul-0-key.pem"),
                "verify_incoming_https": True,
            }
        if self._other is not None:
            settings["retry_join_wan"] = [f"127.0.0.1:{self._other._ports['serf_wan']}"]
        return settings

    def _answers_on(self, ports: dict[str, int]) -> bool:
        """Whether it starts on these ports; if not, it has ended."""
        settings = self._directory / "settings.json"
        settings.write_text(json.dumps(self._settings(ports)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, "agent", "-dev", "-config-file", str(settings)],
                stdout=log,
                stderr=log,
                env=environment,
            )
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers(ports["http"]):
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _answers(self, port: int) -> bool:
        """Whether it answers as an agent that has a leader."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/kv/any", timeout=1.0):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code in (403, 404)  # 500: no leader yet
        except OSError:
            return False

    def _bootstrap(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return str(self.call("PUT", "/v1/acl/bootstrap")["SecretID"])
            except urllib.error.HTTPError as error:
                error.close()
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
