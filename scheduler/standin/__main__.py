"""Start a stand-in Ollama by hand: `python -m scheduler.standin --port 11434`; it says on stdout when it listens."""

import argparse
import asyncio
import json
import signal
import socket
import sys
from contextlib import suppress

import psutil
from aiohttp import web

from scheduler.standin.server import Server
from scheduler.standin.stage import BadStage, Stage


def main() -> int:
    """Run until SIGTERM, SIGINT or the parent's death; exit code 2 for a stage that cannot be played."""
    options = _arguments()
    try:
        stage = Stage.read(options.stage) if options.stage else Stage.documented(tiny=options.tiny)
        asyncio.run(serve(stage, options.host, options.port, options.with_parent))
    except (BadStage, OSError) as error:
        sys.stderr.write(f"stand-in: {error}\n")
        return 2
    return 0


async def serve(stage: Stage, host: str, port: int, parent: int | None) -> None:
    """Listen, print one line `{"ready": true, "port": N, "url": …}`, serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listening = socket.create_server((host, port))
    async with asyncio.TaskGroup() as tasks:
        server = Server(stage, tasks)
        server.memory.start()
        runner = web.AppRunner(
            server.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, auto_decompress=False
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            bound = listening.getsockname()[1]
            sys.stdout.write(json.dumps({"ready": True, "port": bound, "url": f"http://{host}:{bound}"}) + "\n")
            sys.stdout.flush()
            await _stopped(stop, parent)
        finally:
            server.memory.close()
            await runner.cleanup()


async def _stopped(stop: asyncio.Event, parent: int | None) -> None:
    """Wait for the signal, or for the parent to be gone (looked at each second; its start time makes it that one)."""
    process = None
    if parent is not None:
        try:
            process = psutil.Process(parent)
        except psutil.NoSuchProcess:
            return
    while not stop.is_set() and (process is None or _alive(process)):
        with suppress(TimeoutError):
            async with asyncio.timeout(None if process is None else 1.0):
                await stop.wait()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scheduler.standin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--stage", help="a .toml or .json file, or JSON text; without it the documented models")
    parser.add_argument("--tiny", action="store_true", help="add a small embedding model to the documented ones")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process is gone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
