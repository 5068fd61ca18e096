"""What a search has found so far, on disk: a line per candidate, appended and fsynced, and the candidates' artefacts.

A search that is called again with the same model, contract and seed goes on where the journal ends, however it ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import taille
from taille.models import BaseMLModel

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Entry", "Journal", "alone", "default_folder", "fingerprint"]

log = logging.getLogger(__name__)

FORMAT = 1
UNMARKED = ("time_budget_s",)  # constraints that do not make it another search


@dataclass
class Entry:
    """One candidate that was evaluated.

    Attributes:
        key: the recipe in words.   recipe: its fields.   metrics: as measured; empty where it failed.
        predicted_ms: the latency that was expected; None where nothing was.   seconds: that it took to make and judge.
        file: its artefact in the journal's folder.   error: why there is none.
    """

    key: str
    recipe: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    predicted_ms: float | None = None
    seconds: float = 0.0
    file: str = ""
    error: str = ""


def default_folder(mark: str) -> Path:
    """Where the journal of a search lies if nobody says: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "taille" / "searches" / mark


def fingerprint(model: TorchModel, contract: Mapping[str, Any], config: Mapping[str, Any], seed: int) -> str:
    """32 hex digits that change with weights, structure, contract, settings, seed and version."""
    digest = hashlib.sha256()
    kept = {k: v for k, v in contract.items() if k not in UNMARKED}
    settings = {name: dict(section) for name, section in config.items()}
    digest.update(json.dumps([FORMAT, taille.__version__, model.name, kept, settings, seed], sort_keys=True).encode())
    digest.update(repr(model.module).encode())
    for name, tensor in model.module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()[:32]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a journal's folder, which is made where it is missing, against other searches, until the end or a crash.

    Raises:
        ValueError: another search holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the open file: it goes with the process
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise ValueError(
                f"journal is {folder}, in which another search is at work (process {holder}); wait for its end, or "
                "give another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class Journal:
    """The journal in one folder."""

    def __init__(self, folder: Path, mark: str):
        """Open it, or begin it.

        Args:
            folder: made where it is missing.
            mark: `fingerprint`'s.

        Raises:
            ValueError: the folder has the journal of another search.
        """
        self.folder = folder
        self._file = folder / "journal.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.entries: dict[str, Entry] = {}
        head, *rest = [*self._lines()] or [{}]
        if not head:
            self._append({"format": FORMAT, "fingerprint": mark})
        elif head.get("fingerprint") != mark:
            raise ValueError(f"journal is {folder}, which holds the search of another model, contract or seed; "
                             "wanted that of this one, or an empty folder")  # fmt: skip
        for number, line in enumerate(rest, 2):
            try:
                entry = Entry(**line)
            except TypeError as error:
                raise ValueError(f"{self._file}: line {number} is no candidate ({error}); remove the folder to begin "
                                 "anew") from None  # fmt: skip
            if not entry.file or (folder / entry.file).exists():
                self.entries[entry.key] = entry
        if self.entries:
            log.info("%s: %d candidates are there already", folder, len(self.entries))

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The objects in the file; a last line that was cut off is dropped, from the file too."""
        if not self._file.exists():
            return
        data = self._file.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self._file.open("r+b") as file:
                file.truncate(whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                found = json.loads(line)
            except ValueError:
                raise ValueError(f"{self._file}: line {number} is not JSON; remove the folder to begin anew") from None
            if not isinstance(found, dict):
                raise ValueError(f"{self._file}: line {number} is no JSON object; remove the folder to begin anew")
            yield found

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._file.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def save(self, key: str, model: BaseMLModel) -> str:
        """Write a candidate's artefact; gives its name in the folder."""
        name = key.replace(" ", "-") + ".safetensors"
        model.save(self.folder / name)
        return name

    def add(self, entry: Entry) -> None:
        """Note a candidate whose artefact, if it has one, is saved."""
        self._append(vars(entry))
        self.entries[entry.key] = entry

    def path(self, entry: Entry) -> Path:
        """The artefact of a candidate."""
        return self.folder / entry.file
