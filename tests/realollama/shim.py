"""The `llama-server` that Ollama starts on the stage: staged device, sizes and load time, real llama.cpp engine.

Started by the launcher in `lib/ollama/` with llama-server's own command line. It answers Ollama's discovery, and with
`--model` it books the staged size, answers 503 while it "loads", prints the sizes where Ollama reads them, and then
relays the port to the engine (see `relay.py`). What Ollama expects: `discover/llama_server.go` and
`llm/llama_server.go` of v0.32.0.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.realollama.folder import ENVIRONMENT_KEY, Blob, Folder

DEVICE = "MTL0: Apple M2 Max"
LOOK = 0.02  # seconds between two looks at clock and faults while loading


def say(text: str) -> None:
    """One line where Ollama reads: standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def arguments(argv: list[str]) -> argparse.Namespace:
    """The part of llama-server's command line that matters here; the rest is accepted and ignored."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--list-devices", action="store_true")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("-c", dest="context", type=int, default=4096)
    parser.add_argument("-np", dest="parallel", type=int, default=1)
    parser.add_argument("-b", dest="batch", type=int)
    parser.add_argument("-ub", dest="micro_batch", type=int)
    parser.add_argument("--embedding", "--embeddings", dest="embedding", action="store_true")
    parser.add_argument("--context-shift", action="store_true")
    return parser.parse_known_args(argv)[0]


def main() -> None:
    folder = Folder(Path(os.environ[ENVIRONMENT_KEY]))
    options = arguments(sys.argv[1:])
    if options.list_devices:
        sys.stdout.write(
            f"Available devices:\n  {DEVICE} ({folder.device_mib} MiB, {folder.free_mib():.0f} MiB free)\n"
        )
    elif options.model is None:
        say("system_info: n_threads = 1 | MTL : EMBED_LIBRARY = 1 |")
        signal.pause()
    else:
        ctypes.CDLL(None).prctl(15, b"llama-server", 0, 0, 0)  # PR_SET_NAME: how process lists show a runner
        asyncio.run(serve(folder, options))


async def serve(folder: Folder, options: argparse.Namespace) -> None:
    """Load, then serve until killed, or until the test that owns the stage is gone."""
    started = time.monotonic()
    blob = folder.blob(options.model)
    book(folder, blob, options)
    say(f"llama_model_loader: loading {blob.name}")
    engine = asyncio.get_running_loop().run_in_executor(None, start_engine, folder, blob, options)

    from tests.realollama.relay import Relay  # late: the engine starts while this imports

    async with Relay(folder, blob).listening(options.port) as relay:
        await staged_load(folder, blob, started)
        server = await engine
        print_sizes(blob)
        relay.open(server.listening_address)
        folder.note("journal", event="ready", model=blob.name)
        while folder.owner_lives():  # noqa: ASYNC110 (the event is another process's end)
            await asyncio.sleep(1)


def book(folder: Folder, blob: Blob, options: argparse.Namespace) -> None:
    """Take the staged memory and write the load down; one that does not fit is what no daemon may ever cause."""
    with folder.locked():
        free = folder.free_mib()
        holder = folder.enter(blob, options.port)
        load = {"model": blob.name, "context": options.context // options.parallel, "parallel": options.parallel}
        folder.note("journal", event="load", mib=holder.mib, **load)
        if holder.mib > free:
            others = [other.model for other in folder.holders() if other.pid != holder.pid]
            folder.note("overcommit", needs_mib=holder.mib, free_mib=free, beside=others, **load)
    say(f"using device {DEVICE.replace(': ', ' (')}) (unknown id) - {max(free, 0):.0f} MiB free")


async def staged_load(folder: Folder, blob: Blob, started: float) -> None:
    """Pass the staged load time, with the faults of a load."""
    if fault := folder.strike(blob.name, "load_error"):
        say(str(fault["text"]))
        os._exit(1)
    crash = folder.strike(blob.name, "crash_loading")
    endless = folder.strike(blob.name, "load_never_ends")
    spoken = 0
    while True:
        passed = time.monotonic() - started
        if crash and passed >= blob.load_seconds / 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if passed >= blob.load_seconds and not (endless and folder.fault(blob.name, "load_never_ends")):
            return
        if passed > spoken:  # Ollama gives up a load that says nothing for its OLLAMA_LOAD_TIMEOUT
            spoken += 1
            say(f"load_tensors: {passed:.0f} s")
        await asyncio.sleep(LOOK)


def print_sizes(blob: Blob) -> None:
    """The log lines from which Ollama takes what `/api/ps` shows."""
    say("load_tensors: offloaded 3/3 layers to GPU")
    say(f"load_tensors:  MTL0_Mapped model buffer size = {blob.mib:.2f} MiB")
    if blob.kv_mib:
        say(f"llama_kv_cache:  MTL0 KV buffer size = {blob.kv_mib:.2f} MiB")


def start_engine(folder: Folder, blob: Blob, options: argparse.Namespace) -> Any:
    """llama.cpp's own HTTP server on a free port, on the part of the (sparse) file that has content."""
    import xllamacpp

    model = options.model
    if blob.real_bytes is not None:
        model = folder.path / f"model-{os.getpid()}.gguf"
        with options.model.open("rb") as sparse, model.open("wb") as whole:
            whole.write(sparse.read(blob.real_bytes))
    wish = xllamacpp.CommonParams()
    wish.model.path = str(model)
    wish.n_ctx, wish.n_parallel, wish.port = options.context, options.parallel, 0
    wish.n_batch, wish.n_ubatch = options.batch or wish.n_batch, options.micro_batch or wish.n_ubatch
    wish.warmup, wish.ui, wish.fit_params = False, False, False
    wish.endpoint_slots = wish.endpoint_props = True
    wish.use_jinja, wish.chat_template = False, "chatml"
    wish.embedding, wish.ctx_shift = options.embedding, options.context_shift
    wish.cpuparams.n_threads, wish.cache_ram_mib = 1, 256
    server = xllamacpp.Server(wish)
    if model != options.model:
        model.unlink()
    return server


if __name__ == "__main__":
    main()
