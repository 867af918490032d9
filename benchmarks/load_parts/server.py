"""The server in a process of its own, and what it holds in memory."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from load_parts.wrong import require


class Server:
    """``stamp-index serve`` over a store, until the block ends."""

    def __init__(self, store_path: Path, log: Path, *options: str) -> None:
        command = [
            sys.executable,
            "-c",
            "from stamp_index.cli import main; main()",
            "serve",
            str(store_path),
        ]
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [*command, "--port", "0", *options], stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        line = self._process.stdout.readline()
        found = re.search(r"http://\S+", line)
        require(found, f"the server did not start: {log.read_text()[-2000:]}")
        self.url, self.pid = found.group(), self._process.pid
        self.memory: list[
            tuple[float, float, float]
        ] = []  # seconds, MiB resident, MiB of it its own
        self._stop = threading.Event()

    def __enter__(self) -> Server:
        until = time.monotonic() + 120
        while not self._is_ready():
            require(time.monotonic() < until, "the server did not become ready")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def watch_memory(self, every_s: float) -> None:
        """Note the resident memory every so often, in a thread of its own."""
        began = time.monotonic()

        def watch() -> None:
            while not self._stop.is_set() and self.is_alive:
                self.memory.append(
                    (time.monotonic() - began, self.resident_mib(), self.resident_mib("RssAnon"))
                )
                self._stop.wait(every_s)

        threading.Thread(target=watch, daemon=True).start()

    def resident_mib(self, kind: str = "VmRSS") -> float:
        """Memory that it holds now; of kind RssAnon without pages of mapped files, which the system may take back."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+)", text).group(1)) / 1024

    def slope_mib_per_hour(self, column: int = 1) -> float:
        """Growth over the second half, by least squares: of all (1), or of its own memory (2)."""
        half = np.array(self.memory[len(self.memory) // 2 :])
        return (
            float(np.polyfit(half[:, 0], half[:, column], 1)[0] * 3600) if len(half) > 2 else np.nan
        )
