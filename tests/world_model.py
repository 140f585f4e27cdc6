"""A virtual machine with an Ollama on it: it answers every order of the core with facts, after random bounded times.

It is the truth the core is held against: what really sits in memory, who really runs, whether Ollama would have had to
evict. Times are virtual seconds, sizes bytes. `tests.promises` watches it; `tests.world_script` says what befalls it.
"""

from dataclasses import replace
from functools import partial

from scheduler.core import messages as m, sizes
from scheduler.core.machine import Machine
from tests.world_clients import Clients
from tests.world_parts import Broken, Client, Installed, Runner, Trouble


class World(Clients):
    """The machine, its Ollama, the clients, and the daemon's core between them."""

    # --- residency -------------------------------------------------------------------------------------------------

    def _load(self, name: str) -> None:
        self.loading = name
        began, life, epoch = self.now, self.life, self.epoch
        if not self.alive:
            self.after(0.01, lambda: self._load_failed(name, began, "connection refused", life))
            return
        trouble = self.trouble.loads.pop(0) if self.trouble.loads and not self.calm else None
        if trouble == "never ends":
            return
        if trouble == "fails" or name not in self.installed:
            self.after(self.some(0.1, 30.0), lambda: self._load_failed(name, began, "no more room", life, epoch))
        else:
            self.after(self.some(0.5, 40.0), lambda: self._loaded(name, began, life, epoch))

    def _loaded(self, name: str, began: float, life: int, epoch: int) -> None:
        if self.loading != name or self.life != life or self.epoch != epoch:
            return
        self.loading = None
        if name not in self.runners:
            context = self.installed[name].context if name in self.installed else 4096
            self.runners[name] = Runner(name, self.real(name), context)
            free = self.stage.device - sum(runner.size for runner in self.runners.values())
            self.runners[name].free_after = free if self.known else None  # nobody can know what strangers hold unseen
        runner = self.runners[name]
        self.post(m.Loaded(self.now, name, runner.size, runner.context, self.now - began))

    def _load_failed(self, name: str, began: float, error: str, life: int, epoch: int | None = None) -> None:
        if self.loading != name or self.life != life or (epoch is not None and self.epoch != epoch):
            return
        self.loading = None
        if name in self.runners:  # somebody else has loaded it meanwhile
            self.loading = name
            self._loaded(name, began, life, self.epoch)
            return
        if not self.alive:
            self.post(m.OllamaDown(self.now, error))
        self.post(m.LoadFailed(self.now, name, error, self.now - began))
        self.look()

    def _abandon(self, name: str) -> None:
        if self.loading == name:
            life = self.life
            self.after(0.05, lambda: self._load_failed(name, self.now - 600.0, "the load was abandoned", life))

    def _unload(self, name: str) -> None:
        life, epoch = self.life, self.epoch
        self.unloading[name] = life
        if not self.alive:
            self.after(0.01, lambda: self._unload_failed(name, life))
        elif self.trouble.unloads and not self.calm:
            self.trouble.unloads -= 1
            self.after(self.some(0.1, 60.0), lambda: self._unload_failed(name, life, epoch))
        else:
            self.after(self.some(0.02, 3.0), partial(self._unloaded, name, self.now, life, epoch))

    def _unloaded(self, name: str, began: float, life: int, epoch: int) -> None:
        if self.epoch != epoch:
            return
        self.runners.pop(name, None)
        for client in self.outstanding(name):  # an earlier daemon had asked for this unload
            self.broken_off(client, client.run)
        if self.life == life and self.unloading.pop(name, None) is not None:
            self.post(m.Unloaded(self.now, name, self.now - began))

    def _unload_failed(self, name: str, life: int, epoch: int | None = None) -> None:
        if (epoch is not None and self.epoch != epoch) or self.life != life or name not in self.unloading:
            return
        del self.unloading[name]
        if not self.alive:
            self.post(m.OllamaDown(self.now, "connection refused"))
        self.post(m.UnloadFailed(self.now, name, "still listed"))
        self.look()

    def look(self) -> None:
        """Read what is resident, unless that is being done."""
        if self._looking:
            return
        self._looking = True
        asked, life = self.now, self.life

        def tell(rows: tuple[m.Resident, ...] | None) -> None:
            self._looking = False
            if self.life == life:
                self.post(
                    m.OllamaDown(self.now, "connection refused") if rows is None else m.Residents(self.now, asked, rows)
                )

        def read() -> None:
            rows = tuple(m.Resident(r.name, r.size, r.context) for r in self.runners.values()) if self.alive else None
            self.after(self.some(0.001, 0.2), lambda: tell(rows))

        self.after(self.some(0.001, 0.2), read)

    def _replaced(self, client: Client, run: int) -> None:
        """A model is deleted or made anew, whatever became of who asked for it."""
        if client.run != run or client.place != "sent" or not self.alive:
            return
        if client.model in self.runners:  # somebody else has loaded it: its runner is out of reach, as after a pull
            self.changed()
        if self.chance.random() < 0.4 and len(self.installed) > 1:
            self.installed.pop(client.model, None)
        else:
            self.remade(client.model, str(self.now))
        self._ended(client, run, "answered")
        self.listing()

    def remade(self, name: str, digest: str) -> None:
        """The model is there with another size and context."""
        old = self.installed.get(name) or self.stage.models[name]
        context = 16384 if old.context != 16384 else 8192
        listed = replace(old.listed, size=old.listed.size * 9 // 10, num_ctx=context, digest=f"{digest} of {name}")
        self.installed[name] = Installed(listed, old.real * 9 // 10, context)

    # --- what befalls Ollama and the machine -------------------------------------------------------------------------

    def changed(self) -> None:
        """Truth changed without an order of ours."""
        self.changed_at = self.now

    def memory(self, pressure: m.Pressure = "normal", whole: int = 0, *, configured: bool = False) -> None:
        """The daemon learns what memory is."""
        seen = m.MemorySeen(self.now, self.budget, "test", self.orphans, self.stage.device)
        self.post(replace(seen, pressure=pressure, whole=whole, configured=configured))

    def listing(self) -> None:
        """The daemon learns what is installed."""
        self.post(m.ModelsListed(self.now, tuple(model.listed for model in self.installed.values())))

    def up(self) -> None:
        """The daemon hears Ollama answer."""
        if self.alive:
            self.post(m.OllamaUp(self.now, "0.32.1"))

    def kill(self, *, orphaned: bool) -> None:
        """Ollama dies; its runners with it, or left behind as orphans. Nothing that it was doing ends well."""
        self.alive = False
        self.epoch += 1
        self.changed()
        if orphaned:
            self.orphans += sum(runner.size for runner in self.runners.values())
        self.runners.clear()
        for client in [c for c in self.clients.values() if c.place == "sent"]:
            self.after(self.some(0.0, 1.0), partial(self.broken_off, client, client.run))
        if self.loading is not None:
            name, life = self.loading, self.life
            self.after(self.some(0.0, 1.0), lambda: self._load_failed(name, self.now, "went away", life))
        for name, life in self.unloading.items():
            self.after(self.some(0.0, 1.0), partial(self._unload_failed, name, life))

    def revive(self) -> None:
        """Ollama is started again. What orphans hold is told before it is said to be up."""
        if not self.alive:
            self.alive = True
            self.changed()
            self.memory()
            self.up()

    def gates_admit(self, name: str) -> str:
        """What Ollama's own gates would say of a load now: "" if they let it in without evicting."""
        if name in self.runners or not self.runners:
            return ""
        if len(self.runners) >= self.config.max_loaded:
            return f"{len(self.runners)} are loaded"
        free = self.stage.device - sum(runner.size for runner in self.runners.values())
        if self.config.stale_free:
            free = min([free, *(r.free_after for r in self.runners.values() if r.free_after is not None)])
        listed, context = self.installed[name].listed, self.installed[name].context
        predicted = listed.size + listed.kv_token * context * self.config.num_parallel + sizes.surcharge(context)
        return "" if predicted * 100 <= free * 80 else f"{predicted} predicted, {free} free"

    def restart(self) -> None:
        """The daemon starts anew and knows nothing; the connections of the old one are cut."""
        for watcher in self.watchers:
            watcher.ended(self)
        self.life += 1
        for client in list(self.clients.values()):
            client.again, client.left = 0, True
            client.run += 1
            self._done(client)
        self.loading, self.unloading, self._looking = None, {}, False
        for runner in self.runners.values():
            runner.free_after = None
        self._tick += 1
        self.seen_asked = -1.0
        self.changed()
        self.stopped = False
        self.steps = []
        self.machine = Machine.fresh(self.config, self.now)

    # --- the end -----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything is well from now on, and nobody new comes."""
        self.calm = True
        self.trouble = Trouble()
        self.installed = dict(self.stage.models)
        self.orphans, self.budget = 0, self.stage.budget
        for client in self.clients.values():
            client.again = 0
        self.changed()
        if not self.alive:
            self.revive()
        else:
            self.memory()
            self.up()
        self.listing()
        self.look()
        self.post(m.Resumed(self.now, "a person"))
        self.post(m.QuietSet(self.now, False, "a schedule"))
        for name in list(self.machine.state.pins):
            self.post(m.Unpinned(self.now, name, "a person"))

    def rest(self) -> None:
        """Let everything come to its end; raises Broken if somebody is never answered."""
        config = self.config
        limit = 1200.0 + (0.0 if self.stage.askable else config.stall_silence)
        moved = self.now
        while self._coming:
            open_before, runners = len(self.clients), len(self.runners)
            self._next()
            if (len(self.clients), len(self.runners)) != (open_before, runners) or self.loading:
                moved = self.now
            if self.clients and self.now - moved > limit:
                raise Broken(f"P3: nothing moves for {limit:.0f} s while {sorted(self.clients)} wait: {self.machine!r}")
        self.rested = True
        if self.clients:
            raise Broken(f"P3: {sorted(self.clients)} are never answered: {self.machine!r}")
