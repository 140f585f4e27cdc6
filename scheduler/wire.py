"""How long clients may take, how much they may send and how many there may be: set where the daemon is composed."""

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class WireConfig:
    """Limits of the wire. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 11450
    body_limit: int = 256_000_000  # one request's body
    body_room: int = 768_000_000  # all bodies that are coming in, together
    buffer: int = 16 << 20  # of one answer, waiting for its client
    client_silence: float = 60.0  # a client that takes no byte for so long is cut
    read_seconds: float = 30.0  # for a listing or another read
    head_seconds: float = 60.0  # in which the head of a request must be whole
    idle_seconds: float = 3600.0  # a connection is kept for its next request
    body_silence: float = 60.0  # a client that sends no byte of its request's body for so long is told 408
    body_seconds: float = 900.0  # in which a body that is read before it is understood must be whole
    connections: int = 0  # at a time; 0: as many as the open files allow

    @property
    def loopback(self) -> bool:
        """Whether only this machine is listened to."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
