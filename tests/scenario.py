"""The scenario language: a story as text, facts above `----`, the core's orders below it, time in words.

A story begins with `#` lines that say why it must go so; they are the oracle, the orders are only evidence. Then a
stage, then blocks with a blank line between. A name ending in `:` takes the rest of the line as text.

    stage   budget SIZE [device SIZE] | policy NAME | phase NAME SET... [home SET] [settle TIME] | set NAME MODEL...
            model NAME SIZE [listed SIZE] [ctx N] [kv BYTES] [parallel N] [keep] [blob NAME] [undeclared]
            idle MODEL TIME|never
            patience CLASS TIME | limit NAME VALUE (a field of Config) | resident MODEL[/CTX]... | begin PHASE
    facts   arrive ID MODEL [CLASS] [probe|preload|unload|replace] [body SIZE] | left ID | returned ID: ERROR
            ended ID [OUTCOME] [status N] [first TIME] [cut] [error TEXT...]
            loaded MODEL [size SIZE] [ctx N] | load-failed MODEL: ERROR | unloaded MODEL | unload-failed MODEL: ERROR
            residents MODEL[/CTX|/dead]... [asked TIME ago] | listed MODEL[/CTX]... | up
            engine MODEL busy|idle|mute silent TIME [body SIZE] [working N] [quiet ID...]
            memory SIZE [of SIZE] [warning|critical] [configured] [orphans SIZE]
            down [hung]: ERROR | restarted: [ERROR]
            pin MODEL TIME [refuse] | unpin MODEL | load MODEL | unload MODEL|all | pause [TIME] [refuse] | resume
            cancel ID | passthrough on|off | quiet on|off (each by "a person")
            enter PHASE | reload CLASS TIME | gap TIME | stop | wait TIME (the core is woken as it asked)
    orders  as they are printed; `-` is none; an order given while time passed begins with the seconds since the start
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from scheduler.core import messages as m, sizes
from scheduler.core.commands import Others
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine
from scheduler.units import parse_duration, parse_size

START = 1000.0  # monotonic seconds at which every story begins


@dataclass
class Told:
    """A stage while it is being told."""

    budget: int = 0
    device: int = 0
    models: dict[str, m.Listed] = field(default_factory=dict)
    declared: list[ModelConfig] = field(default_factory=list)
    sets: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    phases: list[PhaseConfig] = field(default_factory=list)
    resident: list[str] = field(default_factory=list)
    config: Config = field(default_factory=Config)

    def tell(self, line: str) -> None:  # noqa: C901 - one arm per word
        """One line of the stage. Raises ValueError."""
        word, *rest = line.split()
        match word:
            case "budget":
                self.budget = parse_size(rest[0])
                self.device = parse_size(_option(rest, "device", rest[0]))
            case "policy":
                self.config = replace(self.config, policy=rest[0])
            case "begin":
                self.config = replace(self.config, phase=rest[0])
            case "limit":
                value = float(rest[1]) if rest[1].isdecimal() else parse_duration(rest[1])
                self.config = replace(self.config, **{rest[0]: value})  # type: ignore[arg-type]
            case "patience":
                self.config = _patience(self.config, rest[0], rest[1])
            case "resident":
                self.resident = rest
            case "set":
                self.sets.append((rest[0], tuple(rest[1:])))
            case "phase":
                names = tuple(name for name in rest[1:] if name in dict(self.sets))
                home, settle = _option(rest, "home", ""), parse_duration(_option(rest, "settle", "0s"))
                self.phases.append(PhaseConfig(rest[0], tuple(dict.fromkeys(names)), home, settle))
            case "idle":
                limit = None if rest[1] == "never" else parse_duration(rest[1])
                self.config = replace(self.config, idle_limits=(*self.config.idle_limits, (rest[0], limit)))
            case "model":
                self._model(rest)
            case _:
                raise ValueError(f"no stage begins with {line!r}")

    def _model(self, words: list[str]) -> None:
        name, size = words[0], parse_size(words[1])
        listed = parse_size(_option(words, "listed", words[1]))
        context = int(_option(words, "ctx", "0"))
        self.models[name] = m.Listed(name, listed, int(_option(words, "kv", "0")), 131072, context, f"digest of {name}")
        if "blob" in words:
            self.models[name] = replace(self.models[name], blob=_option(words, "blob", ""))
        if "undeclared" not in words:
            parallel = int(_option(words, "parallel", "1"))
            self.declared.append(ModelConfig(name, size, 0, parallel, keep="keep" in words))

    def core(self) -> Config:
        """What the core is told."""
        phases = tuple(self.phases) or (PhaseConfig("normal", tuple(name for name, _ in self.sets)),)
        return replace(self.config, models=tuple(self.declared), sets=tuple(self.sets), phases=phases)


class Story:
    """A story being played."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.config = told.core()
        self.at = START
        self.machine = Machine.fresh(self.config, self.at)
        self.wake: float | None = None
        self.since: dict[str, float] = {}
        self.printed: list[str] = []
        self.post(m.MemorySeen(self.at, told.budget, "the story", device=told.device))
        self.post(m.ModelsListed(self.at, tuple(told.models.values())))
        self.post(m.OllamaUp(self.at, "0.32.1"))
        self.residents(told.resident)

    def block(self, facts: Iterable[str]) -> list[str]:
        """Play the facts of one block; the orders they give, as printed."""
        self.printed = []
        for line in facts:
            self.tell(line)
        return self.printed or ["-"]

    def tell(self, line: str) -> None:
        """Play one line. Raises ValueError."""
        head, _, text = line.partition(":")
        word, *rest = (head if line.split()[0].rstrip(":") in _TEXTS else line).split()
        teller = _FACTS.get(word)
        if teller is None:
            raise ValueError(f"no fact begins with {line!r}")
        teller(self, rest, text.strip())

    def post(self, fact: m.Fact, stamp: str = "") -> None:
        """One step; its orders are printed."""
        for order in self.machine.step(fact):
            if isinstance(order, m.WakeAt):
                self.wake = order.when
            else:
                self.printed.append(stamp + printed(order))
            if isinstance(order, m.Load | m.Unload):
                self.since[order.model] = self.at

    def wait(self, seconds: float) -> None:
        """Time passes; the core is woken when it asked to be."""
        until = self.at + seconds
        while self.wake is not None and self.wake <= until:
            self.at, self.wake = max(self.at, self.wake), None
            self.post(m.Ticked(self.at), f"{self.at - START:.0f}s ")
        self.at = until

    def residents(self, names: list[str]) -> None:
        """What /api/ps shows, read now or a while ago."""
        asked = self.at - parse_duration(_option(names, "asked", "0s"))
        names = names[: names.index("asked")] if "asked" in names else names
        self.post(m.Residents(self.at, asked, tuple(self._row(name) for name in names if name != "nothing")))

    def _row(self, text: str) -> m.Resident:
        name, _, context = text.partition("/")
        state = self.machine.state.models.get(name)
        size, dead = state.size if state else 10**9, context == "dead"
        return m.Resident(name, size, int(context) if context and not dead else self.context(name), dead=dead)

    def context(self, name: str) -> int:
        """The context that Ollama gives a model here."""
        listed = self.told.models.get(name)
        return (listed.num_ctx if listed else 0) or min(131072, sizes.context_tier(self.told.device))

    def took(self, name: str) -> float:
        """Seconds since the last order about this model."""
        return self.at - self.since.get(name, self.at)


def printed(order: m.Order) -> str:
    """One order as text."""
    match order:
        case m.Forward():
            return f"forward {order.id}{f' as {order.name}' if order.name else ''}: {order.because}"
        case m.Refuse():
            again = "" if order.retry_after is None else f" (again in {order.retry_after} s)"
            return f"refuse {order.id} {order.status}{again}: {order.message} [{order.because}]"
        case m.AnswerProbe():
            return f"answer-probe {order.id}: {order.because}"
        case m.AnswerWish():
            return f"answer-wish {order.id}{'' if order.granted else ' (refused)'}: {order.because}"
        case m.Recall():
            return f"recall {order.id}: {order.because}"
        case m.Load() | m.AbandonLoad() | m.Unload():
            name = {m.Load: "load", m.AbandonLoad: "abandon-load", m.Unload: "unload"}[type(order)]
            return f"{name} {order.model}: {order.because}"
        case m.Look() | m.RestartOllama():
            return f"{'look' if isinstance(order, m.Look) else 'restart-ollama'}: {order.because}"
        case m.Record():
            return f"record {order.model or '-'} {order.what}: {order.because}"
        case m.WakeAt():
            return f"wake at {order.when}"


def play(text: str) -> str:
    """The story with the orders that it gives now. Raises ValueError for what is no story."""
    told, story, pages = Told(), None, []
    for page in text.strip("\n").split("\n\n"):
        lines = page.splitlines()
        if "----" in lines:
            story = story or Story(told)
            facts = lines[: lines.index("----")]
            given = story.block(line for line in facts if not line.startswith("#"))
            lines = [*facts, "----", *given]
        else:
            for line in lines:
                if not line.startswith("#"):
                    told.tell(line)
        pages.append("\n".join(lines))
    if story is None or not text.startswith("# "):
        raise ValueError("a story begins with its reason and has a block")
    return "\n\n".join(pages) + "\n"


def _option(words: list[str], name: str, otherwise: str) -> str:
    return words[words.index(name) + 1] if name in words else otherwise


def _patience(config: Config, cls: str, time: str) -> Config:
    changed = dict(config.patience) | {cls: parse_duration(time)}
    return replace(config, patience=tuple(changed.items()))


def _arrive(story: Story, words: list[str], text: str) -> None:
    kinds: tuple[m.Kind, ...] = ("probe", "preload", "unload", "replace")
    kind: m.Kind = next((kind for kind in kinds if kind in words), "request")
    cls = next((cls for cls in ("agent", "helper", "batch") if cls in words), "interactive")
    body = parse_size(_option(words, "body", "1kB"))
    story.post(
        m.Arrived(story.at, words[0], words[1], kind, cls, words[1], "chat", f"client of {words[0]}", body_bytes=body)
    )


def _ended(story: Story, words: list[str], text: str) -> None:
    outcomes: tuple[m.Outcome, ...] = ("failed", "abandoned", "stalled", "canned", "cancelled", "pressure")
    outcome: m.Outcome = next((outcome for outcome in outcomes if outcome in words), "answered")
    request = story.machine.state.requests.get(words[0])
    service = story.at - (request.started or story.at) if request else 0.0
    first = parse_duration(_option(words, "first", "0s")) or None
    status = int(_option(words, "status", "200"))
    story.post(m.Ended(story.at, words[0], outcome, first, service, status=status, cut="cut" in words, error=text))


def _loaded(story: Story, words: list[str], text: str) -> None:
    name = words[0]
    size = parse_size(_option(words, "size", f"{story.machine.state.models[name].size}B"))
    context = int(_option(words, "ctx", str(story.context(name))))
    story.post(m.Loaded(story.at, name, size, context, story.took(name)))


def _engine(story: Story, words: list[str], text: str) -> None:
    busy = {"busy": True, "idle": False, "mute": None}[words[1]]
    silent, body = parse_duration(_option(words, "silent", "0s")), parse_size(_option(words, "body", "1kB"))
    working = int(_option(words, "working", "0"))
    quiet = tuple(words[words.index("quiet") + 1 :]) if "quiet" in words else ()
    story.post(m.EngineSeen(story.at, words[0], busy, silent, body, working, quiet))


def _memory(story: Story, words: list[str], text: str) -> None:
    orphans = parse_size(_option(words, "orphans", "0B"))
    level = next((word for word in ("warning", "critical") if word in words), "normal")
    whole = parse_size(_option(words, "of", "0B"))
    seen = m.MemorySeen(story.at, parse_size(words[0]), "the story", orphans, device=story.told.device)
    story.post(replace(seen, pressure=level, whole=whole, configured="configured" in words))


def _listed(story: Story, words: list[str], text: str) -> None:
    """A model named with a context has been made anew with it, one named with a blob (MODEL/@BLOB) with that."""
    for word in words:
        name, _, what = word.partition("/")
        if what:
            anew = {"blob": what[1:]} if what.startswith("@") else {"num_ctx": int(what)}
            story.told.models[name] = replace(story.told.models[name], digest=f"digest of {word}", **anew)
    story.post(m.ModelsListed(story.at, tuple(story.told.models[word.partition("/")[0]] for word in words)))


def _pin(story: Story, words: list[str], text: str) -> None:
    others: Others = "refuse" if "refuse" in words else "wait"
    story.post(m.Pinned(story.at, words[0], story.at + parse_duration(words[1]), "a person", others))


def _pause(story: Story, words: list[str], text: str) -> None:
    others: Others = "refuse" if "refuse" in words else "wait"
    times = [story.at + parse_duration(word) for word in words if word != "refuse"]
    story.post(m.Paused(story.at, "a person", times[0] if times else None, others))


def _reload(story: Story, words: list[str], text: str) -> None:
    story.config = _patience(story.config, words[0], words[1])
    story.post(m.Reloaded(story.at, story.config))


_FACTS: dict[str, Callable[[Story, list[str], str], None]] = {
    "arrive": _arrive,
    "left": lambda s, w, t: s.post(m.Left(s.at, w[0])),
    "returned": lambda s, w, t: s.post(m.Returned(s.at, w[0], t)),
    "ended": _ended,
    "loaded": _loaded,
    "load-failed": lambda s, w, t: s.post(m.LoadFailed(s.at, w[0], t, s.took(w[0]))),
    "unloaded": lambda s, w, t: s.post(m.Unloaded(s.at, w[0], s.took(w[0]))),
    "unload-failed": lambda s, w, t: s.post(m.UnloadFailed(s.at, w[0], t)),
    "residents": lambda s, w, t: s.residents(w),
    "listed": _listed,
    "engine": _engine,
    "up": lambda s, w, t: s.post(m.OllamaUp(s.at, "0.32.1")),
    "down": lambda s, w, t: s.post(m.OllamaDown(s.at, t, "hung" in w)),
    "restarted": lambda s, w, t: s.post(m.Restarted(s.at, t)),
    "memory": _memory,
    "enter": lambda s, w, t: s.post(m.PhaseSet(s.at, w[0], "a person")),
    "pin": _pin,
    "unpin": lambda s, w, t: s.post(m.Unpinned(s.at, w[0], "a person")),
    "load": lambda s, w, t: s.post(m.LoadAsked(s.at, w[0], "a person")),
    "unload": lambda s, w, t: s.post(m.UnloadAsked(s.at, "" if w[0] == "all" else w[0], "a person")),
    "quiet": lambda s, w, t: s.post(m.QuietSet(s.at, w[0] == "on", "a person")),
    "pause": _pause,
    "resume": lambda s, w, t: s.post(m.Resumed(s.at, "a person")),
    "cancel": lambda s, w, t: s.post(m.Cancelled(s.at, w[0], "a person")),
    "passthrough": lambda s, w, t: s.post(m.PassthroughSet(s.at, w[0] == "on", "a person")),
    "reload": _reload,
    "gap": lambda s, w, t: s.post(m.ClockGap(s.at, parse_duration(w[0]))),
    "stop": lambda s, w, t: s.post(m.Stopping(s.at)),
    "wait": lambda s, w, t: s.wait(parse_duration(w[0])),
}
_TEXTS = ("returned", "load-failed", "unload-failed", "down", "restarted", "ended")
