"""A disk with folders that forgets, for files that come and go: as `disk.py`, but each folder is synced for itself.

A name that was made, taken or deleted is certain once its folder was synced, and only if the folder is; a rename within
a folder happens whole or not. What was not synced of names may be there or not, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from random import Random

from tests.durability.disk import Content, Create, Cut, Delete, Fate, Files, Sync, Truncate, Write

END = -1
"""The offset of a write behind all that is there."""


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """`folder` is there now."""

    folder: str


@dataclass(frozen=True, slots=True)
class Rename:
    """What was called `file` is called `to`, in place of what was called that."""

    file: str
    to: str


@dataclass(frozen=True, slots=True)
class Link:
    """What is called `file` is called `to` too."""

    file: str
    to: str


Operation = Create | Delete | Write | Truncate | Sync | MakeFolder | Rename | Link
"""The sync of a folder makes its names durable; that of all is called ''."""
_Names = dict[str, Content | None]
"""What names stand for; None where they do no more."""
_FOLDER = Content()


class Tree:
    """What is durable, and what was done since. `files` lay on it, durable, at the beginning."""

    def __init__(self, files: Files) -> None:
        self._names: _Names = {name: Content(content, [], bytearray(content)) for name, content in files.items()}
        for name in files:
            self._names |= {str(above): _FOLDER for above in PurePosixPath(name).parents if above.name}
        self._durable = dict(self._names)
        self._changed: list[_Names] = []

    def do(self, operation: Operation) -> None:
        """The next operation."""
        match operation:
            case Write(file, offset, data):
                content = self._content(file)
                content.do(Write(file, len(content.present) if offset == END else offset, data))
            case Truncate(file):
                self._content(file).do(operation)
            case Sync(file):
                if file and self._names[file] is not _FOLDER:
                    self._content(file).sync()
                else:
                    self._sync(file)
            case Create(file):
                if self._names.get(file) is None:
                    self._change({file: Content()})
            case MakeFolder(folder):
                self._change({folder: _FOLDER})
            case Delete(file):
                self._change({file: None})
            case Link(file, to):
                self._change({to: self._names[file]})
            case Rename(file, to):
                self._change({to: self._names[file], file: None})

    def after_a_power_cut(self, fate: Fate) -> Files:
        """What is found on it."""
        names, throws = dict(self._durable), Random(f"{fate} names {len(self._changed)}")
        for change in self._changed:
            if fate is Cut.EVERYTHING or (fate is not Cut.NOTHING and throws.random() < 0.5):
                names |= change
        folders = {name for name, content in names.items() if content is _FOLDER}
        found: dict[int, bytes] = {}
        files: Files = {}
        for name, content in names.items():
            above = (str(folder) for folder in PurePosixPath(name).parents if folder.name)
            if content is not None and content is not _FOLDER and folders.issuperset(above):
                if id(content) not in found:
                    found[id(content)] = content.after(name, fate)
                files[name] = found[id(content)]
        return files

    def _content(self, file: str) -> Content:
        content = self._names[file]
        assert content is not None
        return content

    def _change(self, names: _Names) -> None:
        self._names |= names
        by_folder: dict[str, _Names] = {}
        for name, content in names.items():
            by_folder.setdefault(_folder_of(name), {})[name] = content
        self._changed += by_folder.values()

    def _sync(self, folder: str) -> None:
        left: list[_Names] = []
        for change in self._changed:
            if _folder_of(next(iter(change))) == folder:
                self._durable |= change
            else:
                left.append(change)
        self._changed = left


def _folder_of(name: str) -> str:
    folder = str(PurePosixPath(name).parent)
    return "" if folder == "." else folder


State = tuple[int, Fate, Files]
"""How many operations were done, how much survived of what was not synced, and what is found."""


def states(
    operations: Sequence[Operation],
    before: Files,
    seeds: Sequence[int],
    looked_at: Callable[[Operation], bool],
    since: int = 0,
) -> Iterator[State]:
    """The disk before and behind each operation that is looked at, from one of them on, and at the end: with nothing,
    everything, and for each seed a random half of what was not synced."""
    tree = Tree(before)
    for done, operation in enumerate(operations):
        looked = done >= since and looked_at(operation)
        if looked:
            yield from ((done, fate, tree.after_a_power_cut(fate)) for fate in (*Cut, *seeds))
        tree.do(operation)
        if looked:
            yield from ((done + 1, fate, tree.after_a_power_cut(fate)) for fate in (*Cut, *seeds))
    yield from ((len(operations), fate, tree.after_a_power_cut(fate)) for fate in (*Cut, *seeds))
