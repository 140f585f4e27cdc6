"""What is installed: the stage's models, and what clients copied, created and deleted since (server/images.go)."""

import hashlib
import json
import time
from dataclasses import dataclass, replace

from scheduler.standin.names import longest, parts_of, shortest
from scheduler.standin.stage import Stage, StagedModel, spelled_out

INSTALLED_AT = 1_764_000_000.0


@dataclass(frozen=True, slots=True)
class Installed:
    """One name: its model, when it came (wall-clock seconds), and what its own Modelfile adds to the weights."""

    model: StagedModel
    at: float = INSTALLED_AT
    parent: str = ""
    system: str = ""
    template: str = ""
    parameters: tuple[tuple[str, object], ...] = ()
    """Those beside `num_ctx`, which the model has."""


class Library:
    """All of it, by name; `blobs` are the uploads, by digest."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._names: dict[str, Installed] = {}
        self.blobs: dict[str, bytes] = {}
        self.restore()

    def restore(self) -> None:
        """Only what the stage installed."""
        self._names = {spelled_out(model.name): Installed(model) for model in self._stage.models}
        self.blobs.clear()

    def all(self) -> list[Installed]:
        """Newest first, as `/api/tags` lists them."""
        return sorted(self._names.values(), key=lambda each: -each.at)

    def find(self, name: str) -> Installed | None:
        """What is installed under that name: case does not matter, and no tag means `:latest`."""
        return self._names.get(spelled_out(name))

    def existing(self, name: str) -> str:
        """The name with the case that the installed names use for the same parts (`getExistingName`)."""
        parts = list(parts_of(name))
        for installed in self._names.values():
            known = parts_of(installed.model.name)
            parts = [k if k.lower() == p.lower() else p for k, p in zip(known, parts, strict=True)]
        return shortest("{}/{}/{}:{}".format(*parts))

    def has_blob(self, digest: str) -> bool:
        """Whether an upload or an installed model has it."""
        return digest in self.blobs or any(f"sha256:{each.model.key}" == digest for each in self._names.values())

    def copy(self, source: Installed, name: str) -> None:
        """The same manifest under one more name."""
        model = source.model
        own = spelled_out(model.name)
        second = replace(model, name=name, blob=model.blob or own, manifest=model.manifest or own)
        self._put(replace(source, model=second, at=time.time()))

    def derive(
        self, source: Installed, name: str, *, system: str, template: str, parameters: dict[str, object]
    ) -> list[str]:
        """A new name on the weights of another; returns what `/api/create` says of each layer, in order."""
        model = source.model
        given = dict(source.parameters) | parameters
        told = given.pop("num_ctx", model.num_ctx)
        num_ctx = int(told) if isinstance(told, int | float) else None
        manifest = json.dumps([spelled_out(model.name), longest(name), system, template, sorted(parameters), num_ctx])
        child = replace(
            model, name=name, blob=model.blob or spelled_out(model.name), manifest=manifest, num_ctx=num_ctx
        )
        self._put(
            Installed(
                child,
                at=time.time(),
                parent=model.name,
                system=system or source.system,
                template=template or source.template,
                parameters=tuple(given.items()),
            )
        )
        fresh = [text for text in (template, system, json.dumps(parameters) if parameters else "") if text]
        kept = ["weights"] + [kind for kind, anew in (("template", template), ("parameters", parameters)) if not anew]
        layers = [(model.key, "using existing")]
        layers += [(f"{kind} of {model.name}", "using existing") for kind in kept[1:]]
        layers += [(text, "creating new") for text in fresh]
        return [f"{what} layer sha256:{_digest(of, model.key)}" for of, what in layers]

    def delete(self, name: str) -> bool:
        """Forget a name; whether it was there. Whoever is resident under it stays."""
        return self._names.pop(spelled_out(name), None) is not None

    def _put(self, installed: Installed) -> None:
        self._names[spelled_out(installed.model.name)] = installed


def _digest(text: str, key: str) -> str:
    return text if text == key else hashlib.sha256(text.encode()).hexdigest()
