"""DynamoDB for the tests: independent servers that speak its protocol, gone with the test that started them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers import PATIENCE, free_port, lacking

SERVERS = Path(os.environ.get("LDREADER_SERVERS") or Path.home() / ".cache" / "ldreader-servers")
"""Where tests/install-servers.sh puts what the system does not have."""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What boto3 needs to know, and nothing of the machine's own."""

FOREIGN = (
    "AWS_CA_BUNDLE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "REQUESTS_CA_BUNDLE",
    "https_proxy",
    "http_proxy",
)
"""Variables of the machine that would change what boto3 does."""


@cache
def _session() -> Any:
    import boto3

    return boto3.session.Session()  # reads large files, so only once


class DynamoDBServer:
    """One server that runs for the length of a ``with`` block.

    It can be stopped and started again on the same port, but forgets what it held.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, *command: str, **environment: str) -> None:
        self._command = command
        self._environment = environment
        self.port = 0

    @property
    def endpoint_url(self) -> str:
        """The server's address, as boto3 takes it."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, table: str, prefix: str = "", port: int = 0) -> str:
        """The store URL of a table."""
        endpoint = quote(f"http://127.0.0.1:{port or self.port}", safe="")
        return f"dynamodb://{table}?endpoint_url={endpoint}&region=us-east-1&prefix={quote(prefix, safe='')}"

    def client(self, service: str = "dynamodb", **options: Any) -> Any:
        """A new boto3 client of this server."""
        return _session().client(service, endpoint_url=self.endpoint_url, region_name="us-east-1", **options)

    def resource(self, port: int = 0) -> Any:
        """A new boto3 resource of this server."""
        endpoint_url = f"http://127.0.0.1:{port or self.port}"
        return _session().resource("dynamodb", endpoint_url=endpoint_url, region_name="us-east-1")

    def create_table(self, name: str, partition_key: str = "namespace", sort_key: str = "key") -> None:
        """Makes a table as LaunchDarkly's writers need it, unless it is there."""
        client = self.client()
        try:
            client.create_table(
                TableName=name,
                KeySchema=[
                    {"AttributeName": partition_key, "KeyType": "HASH"},
                    {"AttributeName": sort_key, "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[
                    {"AttributeName": partition_key, "AttributeType": "S"},
                    {"AttributeName": sort_key, "AttributeType": "S"},
                ],
                BillingMode="PAY_PER_REQUEST",
            )
            client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
        except client.exceptions.ResourceInUseException:
            pass
        finally:
            client.close()

    def __enter__(self) -> DynamoDBServer:
        self._directory = Path(tempfile.mkdtemp(prefix="ldreader-dynamodb-"))
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Starts it; returns when it answers."""
        for _ in range(5):  # another process may take the port first
            port = self.port or free_port()
            if self._answers_on(port):
                self.port = port
                return
        raise RuntimeError(f"{self._command[0]} did not start:\n{(self._directory / 'log').read_text()}")

    def stop(self) -> None:
        """Ends it, paused or not; returns when it has ended."""
        if self.process.poll() is None:
            self.process.kill()  # it holds nothing that could be saved
            self.process.wait()

    def pause(self) -> None:
        """Keeps it from answering; connections are still accepted, by the kernel."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # until it has stopped; a fast client would still get an answer

    def resume(self) -> None:
        """Lets it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def _answers_on(self, port: int) -> bool:
        """Whether it starts on this port; if not, it has ended."""
        command = [part.replace("PORT", str(port)) for part in self._command]
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **self._environment}, cwd=self._directory
            )
        deadline = time.monotonic() + 3 * PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if connection.recv(64).startswith(b"HTTP/") and self.process.poll() is None:
                        return True
            except OSError:
                pass
            time.sleep(0.02)
        self.stop()
        return False


def moto(**environment: str) -> DynamoDBServer:
    """The server of the package moto, which speaks for more of AWS than DynamoDB."""
    pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    return DynamoDBServer(sys.executable, "-m", "moto.server", "-p", "PORT", **environment)


def amazons_own() -> DynamoDBServer:
    """DynamoDB Local, which Amazon makes; where Java or Maven is not there, dynalite."""
    java, node = shutil.which("java"), shutil.which("node")
    jars = SERVERS / "dynamodb-local"
    if java and any(jars.glob("DynamoDBLocal-*.jar")):
        options = [f"-Djava.library.path={jars}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{jars}/*"]
        server = ["com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory", "-sharedDb"]
        return DynamoDBServer(java, *options, *server, "-disableTelemetry", "-port", "PORT")
    dynalite = SERVERS / "dynalite" / "node_modules" / "dynalite" / "cli.js"
    if node and dynalite.exists():
        return DynamoDBServer(node, str(dynalite), "--port", "PORT", "--createTableMs", "1")
    reason = "neither DynamoDB Local nor dynalite is installed: sh tests/install-servers.sh"
    if (java and shutil.which("mvn")) or shutil.which("npm"):
        lacking(reason, "LDREADER_REQUIRE_SERVERS")
    pytest.skip(reason)
