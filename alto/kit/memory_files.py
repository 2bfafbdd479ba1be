"""Files that live in this process's memory, for simulated hosts: nothing on the disk, nothing to wait for."""

from pathlib import Path


class MemoryFiles:
    """A `Files`. Folders need not be made; they are there when something is in them."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}  # by path: a Path is slow to hash

    def read(self, path: Path) -> bytes:
        try:
            return self._data[str(path)]
        except KeyError:
            raise FileNotFoundError(str(path)) from None

    def part(self, path: Path, start: int, count: int) -> bytes:
        data = self.read(path)
        start = start if start >= 0 else max(0, len(data) + start)
        return data[start : start + count]

    def size(self, path: Path) -> int:
        return len(self.read(path))

    def open(self, path: Path, *, write: bool = False, append: bool = False) -> int:
        raise FileNotFoundError(f"{path} is in memory: it has no descriptor")

    def open_secret(self, data: bytes) -> int:
        raise FileNotFoundError("a file in this process's memory has no descriptor")

    def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        self._data[str(path)] = data

    def append(self, path: Path, data: bytes) -> None:
        self._data[str(path)] = self._data.get(str(path), b"") + data

    def move(self, path: Path, to: Path) -> None:
        data = self.read(path)
        self.remove(path)
        self._data[str(to)] = data

    def remove(self, path: Path) -> None:
        self._data.pop(str(path), None)

    def remove_tree(self, path: Path) -> None:
        for known in [str(path), *self._under(path)]:
            self._data.pop(known, None)

    def remove_folders(self, path: Path) -> bool:
        return not self.names(path)

    def make_dirs(self, path: Path, *, mode: int = 0o700) -> None: ...

    def names(self, path: Path) -> list[str]:
        start = len(_folder(path))
        return sorted({known[start:].partition("/")[0] for known in self._under(path)})

    def put_setting(self, path: Path, value: str) -> None:
        raise FileNotFoundError(f"{path} is in memory: there is no kernel to set")

    def space(self, path: Path) -> tuple[int, int]:
        raise FileNotFoundError(f"{path} is in memory: it takes no disk")

    def exists(self, path: Path) -> bool:
        return str(path) in self._data or bool(self._under(path))

    def _under(self, path: Path) -> list[str]:
        folder = _folder(path)
        return [known for known in self._data if known.startswith(folder)]


def _folder(path: Path) -> str:
    return f"{path}/" if path.parts[1:] else str(path)  # the root ends with its slash
