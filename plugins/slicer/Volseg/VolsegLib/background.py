"""A server of our own, and a thread for calls, so that Slicer's window never waits."""

import os
import queue
import secrets
import subprocess
import tempfile
import threading
import time

from .client import Client, ServerError


class ServerProcess:
    """`volseg serve` on loopback, on a free port, with a token that only this process knows."""

    def __init__(self, executable, environment=None, data=None, model="embedded", extra=()):
        self.folder = tempfile.TemporaryDirectory(prefix="volseg-slicer-")
        self.token = secrets.token_hex(16)
        port_file = os.path.join(self.folder.name, "port")
        command = [executable, "serve", "--monai-label", "--listen", "127.0.0.1:0", "--port-file", port_file, "--quiet",
                   "--model", model]
        command += ["--data", data] if data else []
        environment = dict(os.environ if environment is None else environment, VOLSEG_TOKEN=self.token)
        self.process = subprocess.Popen(
            command + list(extra), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        self.port_file = port_file

    def client(self, timeout=30):
        """A client once the server listens. Raises ServerError if it does not start."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                said = self.process.stderr.read().strip() or "it ended at once"
                raise ServerError(0, f"volseg serve did not start: {said}")
            if os.path.exists(self.port_file):
                with open(self.port_file, encoding="ascii") as file:
                    port = int(file.read())
                return Client(f"http://127.0.0.1:{port}", self.token)
            time.sleep(0.02)
        raise ServerError(0, "volseg serve did not start in time")

    def stop(self):
        """Ends the server; by force if it does not end by itself."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()
        self.folder.cleanup()


class Worker:
    """Runs calls one after the other in a thread. The owner's timer takes results with `take`: nothing here touches MRML."""

    def __init__(self):
        self._tasks = queue.Queue()
        self._done = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="volseg", daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            task = self._tasks.get()
            if task is None:
                return
            work, then, failed = task
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - shown to the user by the owner
                self._done.put((failed, error))
            else:
                self._done.put((then, result))

    def start(self, work, then, failed):
        """Queues `work`; `take` later calls `then(result)` or `failed(error)`."""
        self._tasks.put((work, then, failed))

    def take(self):
        """Hands over finished results in the calling thread; their number."""
        count = 0
        while True:
            try:
                then, value = self._done.get_nowait()
            except queue.Empty:
                return count
            then(value)
            count += 1

    def stop(self):
        """Ends the thread after what is queued."""
        self._tasks.put(None)
