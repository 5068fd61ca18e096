"""The models and versions that are served; loading and unloading them while requests run.

A version is swapped by putting the new one into the table: requests that come later find it, those under way keep the
old one, which is closed when it owes no answer any more. So nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from taille.errors import Error
from taille.serve.model_host import ModelHost, fingerprint
from taille.serve.refusals import Invalid, NotFound, Overloaded, hint, shown
from taille.serve.settings import Settings
from taille.serve.sources import Source, candidates, read_version

__all__ = ["Repository", "command_version"]

log = logging.getLogger(__name__)

Failures = dict[tuple[str, int], str]


class Repository:
    """Versions by model; used on the server's event loop alone."""

    def __init__(self, sources: Sequence[Source], settings: Settings):
        """Serve these sources; nothing is loaded yet."""
        self._sources = tuple(sources)
        self._settings = settings
        self._hosts: dict[str, dict[int, ModelHost]] = {}
        self._newest: dict[str, ModelHost] = {}
        self._failures: Failures = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._retiring: set[asyncio.Task[bool]] = set()
        self.ready = False
        self.ending = False

    async def start(self) -> None:
        """Load every version of every source.

        Raises:
            ValueError: there is none, or one cannot be read.
        """
        found = candidates(self._sources)
        if not found:
            raise ValueError(f"no artefact in {', '.join(str(s.path) for s in self._sources) or 'what was given'}")
        for name in found:
            await self.load(name)
        self.ready = True

    def find(self, name: str, version: str = "") -> ModelHost:
        """The loaded version; without one, that of the highest number.

        Raises:
            NotFound: there is no such model or version.   Overloaded: the server is ending.
        """
        if self.ending:
            raise Overloaded("the server is ending")
        number = read_version(version) or 0
        host = self._hosts.get(name, {}).get(number) if version else self._newest.get(name)
        if host is None:
            raise self._unknown(name, version)
        return host

    def _unknown(self, name: str, version: str) -> NotFound:
        versions = self._hosts.get(name)
        if versions:
            return NotFound(f"model {shown(name)} has no version {shown(version)}; there are {sorted(versions)}")
        return NotFound(
            f"no model {shown(name)} is loaded; {hint(name, self._hosts)}there are {', '.join(self._hosts) or 'none'}"
        )

    def serves(self, name: str) -> bool:
        """Whether any version of a model is loaded."""
        return name in self._newest

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model, lowest first."""
        return [str(number) for number in sorted(self._hosts.get(name, {}))]

    def hosts(self) -> Iterator[ModelHost]:
        """Every loaded version."""
        for versions in self._hosts.values():
            yield from versions.values()

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """What could be served and in which state, as the protocol's index says it; only what is ready where asked."""
        known = {} if ready else await asyncio.to_thread(candidates, self._sources)
        pairs = {(name, number) for name, versions in known.items() for number in versions}
        pairs |= {(host.name, host.version) for host in self.hosts()} | (set() if ready else set(self._failures))
        return [self._entry(name, number) for name, number in sorted(pairs)]

    def _entry(self, name: str, number: int) -> dict[str, str]:
        loaded = number in self._hosts.get(name, {})
        reason = self._failures.get((name, number), "" if loaded else "not loaded")
        state = "READY" if loaded else "UNAVAILABLE"
        return {"name": name, "version": str(number), "state": state, "reason": reason}

    async def load(self, name: str, version: str = "") -> None:
        """Load one version, or all that there are (then those whose file is gone are unloaded).

        A version whose file has not changed stays as it is; one that has is read anew and swapped in.

        Raises:
            NotFound: the sources have no such model or version.   Invalid: an artefact cannot be read.
        """
        if name not in self._turns and name not in await asyncio.to_thread(candidates, self._sources):
            raise NotFound(f"the repository has no model {shown(name)}")  # nothing is kept for names that are not there
        async with self._turns[name]:
            paths = (await asyncio.to_thread(candidates, self._sources)).get(name, {})
            if version:
                number = read_version(version)
                paths = {n: path for n, path in paths.items() if n == number}
            if not paths:
                of = f"version {shown(version)} of model" if version else "model"
                raise NotFound(f"the repository has no {of} {shown(name)}")
            for number, path in sorted(paths.items()):
                await self._load(name, number, path)
            if not version:
                for number in set(self._hosts.get(name, {})) - set(paths):
                    self._retire(name, number)

    async def _load(self, name: str, number: int, path: Path) -> None:
        old = self._hosts.get(name, {}).get(number)
        try:
            if old is not None and fingerprint(path) == old.fingerprint:
                return
            host = await asyncio.to_thread(ModelHost, name, number, path, self._settings)
        except (Error, OSError, ValueError) as error:
            self._failures[name, number] = str(error)
            log.warning("model %s version %d cannot be loaded: %s", name, number, error)
            raise Invalid(f"model '{name}' version {number} cannot be loaded: {error}") from None
        self._failures.pop((name, number), None)
        self._hosts.setdefault(name, {})[number] = host
        self._choose(name)
        log.info("model %s version %d is loaded", name, number)
        if old is not None:
            self._close_later(old)

    async def unload(self, name: str, version: str = "") -> None:
        """Unload one version, or all; gives back when the requests under way have their answers.

        Raises:
            NotFound: there is no such model or version.
        """
        if name not in self._turns:  # it was never there
            raise self._unknown(name, version)
        async with self._turns[name]:
            loaded = self._hosts.get(name, {})
            number = read_version(version) if version else None
            wanted = sorted(loaded) if not version else [number] if number in loaded else []
            if not wanted:
                raise self._unknown(name, version)
            ends = [self._retire(name, n) for n in wanted if n is not None]
        await asyncio.gather(*ends)

    def _retire(self, name: str, number: int) -> asyncio.Task[bool]:
        host = self._hosts[name].pop(number)
        if not self._hosts[name]:
            del self._hosts[name]
        self._choose(name)
        log.info("model %s version %d is unloaded", name, number)
        return self._close_later(host)

    def _choose(self, name: str) -> None:
        versions = self._hosts.get(name)
        if versions:
            self._newest[name] = versions[max(versions)]
        else:
            self._newest.pop(name, None)

    def _close_later(self, host: ModelHost) -> asyncio.Task[bool]:
        async def close() -> bool:
            drained = await host.drained(self._settings.request_timeout)
            await asyncio.to_thread(host.close)
            return drained

        task = asyncio.get_running_loop().create_task(close())
        self._retiring.add(task)  # a task that nobody holds may be collected
        task.add_done_callback(self._retiring.discard)
        return task

    async def close(self) -> bool:
        """Let every request under way have its answer, then close everything; whether all had it in time."""
        self.ending = True
        ends: list[Any] = [self._close_later(host) for host in self.hosts()]
        ends += self._retiring
        self._hosts.clear()
        self._newest.clear()
        return all(await asyncio.gather(*ends))


def command_version(parameters: Mapping[str, Any]) -> str:
    """The version in the parameters of load or unload, in either protocol.

    Raises:
        Invalid: there are others: files and configurations are not taken over the network.
    """
    unknown = set(parameters) - {"version", "unload_dependents"}
    if unknown:
        raise Invalid(f"load and unload take the parameter version, not {shown(min(unknown))}")
    version = parameters.get("version", "")
    if not isinstance(version, (str, int)) or isinstance(version, bool):
        raise Invalid(f"the version is {shown(version)}; wanted a number of at least 1")
    return str(version)
