"""Artefacts as files: the old one or the new one is there, whatever fails; errors name the path."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from artefact_files import assert_same, everything, load, mlp
from support import output_of, run_python
from taille import _native
from taille.errors import ArtefactError


def test_paths_that_are_no_artefact(tmp_path: Path) -> None:
    for path, message in {
        tmp_path / "missing": "No such file or directory",
        tmp_path: "is a directory",
        Path("/dev/zero"): "is not a regular file",
    }.items():
        with pytest.raises(ArtefactError, match=message) as error:
            _native.load_artefact(path)
        assert str(path) in str(error.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtefactError, match="is not a regular file"):
        _native.load_artefact(tmp_path / "pipe")


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ["plain", b"bytes", b"not utf-8 \xff", Path("path"), "n" * 255]:
        _native.save_artefact(path, mlp())
        assert_same(_native.load_artefact(path)[0], mlp())
    with pytest.raises(ArtefactError, match=r"gone \?: cannot be opened"):
        _native.load_artefact(b"gone \xff")
    assert len(list(tmp_path.iterdir())) == 5


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _native.save_artefact(tmp_path / "model", mlp())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o640


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    with path.open("rb") as old:
        _native.save_artefact(path, everything())
        assert_same(load(old.read()), mlp())
    assert_same(_native.load_artefact(path)[0], everything())


def test_saving_where_it_cannot_be_raises_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        _native.save_artefact(tmp_path / "missing" / "model", mlp())
    assert error.value.filename == str(tmp_path / "missing" / "model")
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        _native.save_artefact(tmp_path / "directory", mlp())
    pipe = tmp_path / "pipe"  # as /dev/null is: a rename would replace it
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="Invalid argument"):
        _native.save_artefact(pipe, mlp())
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["directory", "pipe"]  # noqa: PTH208


def test_saving_without_permission_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    tmp_path.chmod(0o555)
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from artefact_files import everything, load
from taille import _native
os.chdir({str(tmp_path)!r})
graph = everything()
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    _native.save_artefact("model", graph)
except PermissionError as error:
    print(error.filename)
"""
    assert output_of(code) == "model"
    tmp_path.chmod(0o755)
    assert_same(_native.load_artefact(path)[0], mlp())
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from artefact_files import load, mlp
from taille import _native
graph = mlp()
graph.add_constant("large", np.ones(100_000, np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    _native.save_artefact({str(path)!r}, graph)
except OSError as error:
    print(error.strerror, error.filename)
"""
    assert output_of(code) == f"File too large {path}"
    assert_same(_native.load_artefact(path)[0], mlp())
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208


def test_a_killed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """The process ends in the middle of writing (SIGXFSZ, not ignored): what was there stays whole."""
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from artefact_files import load, mlp
from taille import _native
graph = mlp()
graph.add_constant("large", np.ones(100_000, np.float32))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
_native.save_artefact({str(path)!r}, graph)
"""
    assert run_python(code).returncode != 0
    assert_same(_native.load_artefact(path)[0], mlp())


def test_saving_and_loading_release_the_gil(tmp_path: Path) -> None:
    graph = mlp()
    graph.add_constant("large", np.ones(2_000_000, np.float32))
    path, blob = tmp_path / "model", _native.serialize(graph)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)  # so that only a release lets another thread in
    try:
        for call in [
            lambda: _native.save_artefact(path, graph),
            lambda: _native.load_artefact(path),
            lambda: _native.serialize(graph),
            lambda: _native.deserialize(blob),
            lambda: _native.crc32c(blob * 8),
        ]:
            go, came = threading.Event(), []
            thread = threading.Thread(target=lambda go=go, came=came: (go.wait(), came.append(True)))
            thread.start()
            go.set()
            call()
            came_during_call = bool(came)
            thread.join()
            assert came_during_call
    finally:
        sys.setswitchinterval(before)
