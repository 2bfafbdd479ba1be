"""Files that live in this process's memory, for simulated hosts: nothing on the disk, nothing to wait for."""

from pathlib import Path


class MemoryFiles:
    """A `Files`. Folders need not be made; they are there when something is in them."""

    def __init__(self) -> None:
        self._data: dict[Path, bytes] = {}

    def read(self, path: Path) -> bytes:
        try:
            return self._data[path]
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

    def write(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        self._data[path] = data

    def append(self, path: Path, data: bytes) -> None:
        self._data[path] = self._data.get(path, b"") + data

    def remove(self, path: Path) -> None:
        self._data.pop(path, None)

    def remove_tree(self, path: Path) -> None:
        for known in [one for one in self._data if one == path or path in one.parents]:
            del self._data[known]

    def remove_folders(self, path: Path) -> bool:
        return not self.names(path)

    def make_dirs(self, path: Path, *, mode: int = 0o700) -> None: ...

    def names(self, path: Path) -> list[str]:
        depth = len(path.parts)
        return sorted({known.parts[depth] for known in self._data if path in known.parents})

    def put_setting(self, path: Path, value: str) -> None:
        raise FileNotFoundError(f"{path} is in memory: there is no kernel to set")

    def space(self, path: Path) -> tuple[int, int]:
        raise FileNotFoundError(f"{path} is in memory: it takes no disk")

    def exists(self, path: Path) -> bool:
        return path in self._data or any(path in known.parents for known in self._data)
