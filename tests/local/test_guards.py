import os
import socket

import pytest


def test_sockets_reach_the_loopback_only():
    with socket.socket() as connection, pytest.raises((RuntimeError, UserWarning), match=r"192\.0\.2\.1"):
        connection.connect(("192.0.2.1", 80))


def test_loopback_and_unix_sockets_stay_open(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_the_servers_are_known_before_the_settings():
    assert os.environ["DATABASE_URL"]
    assert os.environ["BROKER_URL"]
