"""Local files: those inside the folder, and none that a path, a link or a special file leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.errors import InvalidRequest, TooLarge
from gateway.media.local import LocalFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("canary")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "out").symlink_to(tmp_path)
    os.link(tmp_path / "secret.txt", folder / "hard.txt")
    os.mkfifo(folder / "fifo.txt")
    return folder


def test_a_file_inside_by_either_path(root: Path) -> None:
    files = LocalFiles(root)
    assert files.read("deep/a.txt", "here", 100) == files.read(f"{root}/deep/a.txt", "here", 100) == b"inside"


OUT = [
    "../secret.txt", "deep/../../secret.txt", "link.txt", "out/secret.txt", "hard.txt", "fifo.txt", "deep", "", ".",
    "/",    "/etc/passwd", "/proc/self/environ", "/dev/zero", "a\0.txt", "none.txt", "%2e%2e/secret.txt",
    "\uff0e\uff0e/secret.txt",
]  # fmt: skip


@pytest.mark.parametrize("path", OUT)
def test_no_path_leads_out(root: Path, path: str) -> None:
    """What is outside has one name, so that nothing but the path itself can be refused; unless the second is asked."""
    if path != "hard.txt":
        (root / "hard.txt").unlink()
    with pytest.raises(InvalidRequest) as refused:
        LocalFiles(root).read(path, "here", 100)
    assert "canary" not in str(refused.value)
    assert str(root) not in str(refused.value)


@pytest.mark.parametrize("path", ["link.txt", "out/secret.txt"])
def test_following_links_is_noticed(root: Path, path: str) -> None:
    """The twin: symbolic links are followed (and the secret has one name, so that nothing else stops it)."""

    class Following(LocalFiles):
        follow = 0

    (root / "hard.txt").unlink()
    with pytest.raises(InvalidRequest):
        LocalFiles(root).read(path, "here", 100)
    assert Following(root).read(path, "here", 100) == b"canary"


def test_without_a_folder_every_path_is_refused(root: Path) -> None:
    with pytest.raises(InvalidRequest, match="--files-root"):
        LocalFiles(None).read(str(root / "deep" / "a.txt"), "here", 100)


def test_a_large_file_is_refused(root: Path) -> None:
    with pytest.raises(TooLarge):
        LocalFiles(root).read("deep/a.txt", "here", 3)
