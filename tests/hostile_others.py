"""Plain clients in a process of their own: `python -m tests.hostile_others PORT` asks until its input ends, then prints
the seconds that each answer took, as a JSON list."""

import json
import select
import socket
import sys
import time

ASK = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAUSE = 0.005  # seconds between two requests: no faster than people
SECONDS = 10.0  # in which each is answered


def main(port: int) -> list[float]:
    """Four connections take turns. Raises OSError where one is not answered."""
    clients = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(4)]
    took = []
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        client = clients[len(took) % len(clients)]
        began = time.perf_counter()
        client.sendall(ASK)
        said = b""
        while not said.endswith(b"}"):
            piece = client.recv(1 << 16)
            if not piece:
                raise ConnectionError("closed without an answer")
            said += piece
        if not said.startswith(b"HTTP/1.1 200 OK\r\n"):
            raise ConnectionError(said.decode())
        took.append(time.perf_counter() - began)
    for client in clients:
        client.close()
    return took


if __name__ == "__main__":
    json.dump(main(int(sys.argv[1])), sys.stdout)
