"""Sockets between the processes of a job: every two of them have one, and what arrives is sorted into boxes by its sender and tag."""

from __future__ import annotations

import pickle
import queue
import socket
import struct
import threading
import time

from ..base.locks import Lock

_HEADER = struct.Struct("<qqq")     # group, tag, bytes that follow
ENDED = "torch.distributed: process {} has ended (Connection closed by peer). See its own error."
RENDEZVOUS = "torch.distributed: process {} could not meet process 0 at {}:{} within {:.0f} s. Are all {} processes running, with the " \
             "same MASTER_ADDR and MASTER_PORT?"


def _exactly(peer: socket.socket, count: int) -> bytearray:
    """`count` bytes. EOFError if the other process ends."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = peer.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


def _send_object(peer: socket.socket, value) -> None:
    data = pickle.dumps(value)
    peer.sendall(struct.pack("<q", len(data)) + data)


def _receive_object(peer: socket.socket):
    (count,) = struct.unpack("<q", _exactly(peer, 8))
    return pickle.loads(bytes(_exactly(peer, count)))


class Connections:
    """The sockets of one process to all others. `timeout` in seconds is that of meeting and of every wait for a message."""

    def __init__(self, rank: int, size: int, host: str, port: int, timeout: float):
        self.rank, self.size, self.timeout = rank, size, timeout
        self._boxes: dict[tuple, queue.Queue] = {}
        self._lock = Lock()
        self._any = threading.Condition()
        self._sending = [Lock() for _ in range(size)]
        self._ended: set[int] = set()
        self.peers: dict[int, socket.socket] = {}
        if size > 1:
            self._meet(host, port)
        for peer, link in self.peers.items():
            link.settimeout(None)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._read, args=(peer, link), daemon=True, name=f"antorcha rank {peer}").start()

    # -- meeting ------------------------------------------------------------------------------------------------

    def _meet(self, host: str, port: int) -> None:
        """Process 0 tells all where the others listen; then each connects to those before it."""
        try:
            if self.rank == 0:
                with socket.create_server((host, port)) as server:
                    server.settimeout(self.timeout)
                    places: dict[int, tuple] = {}
                    while len(self.peers) < self.size - 1:
                        link, address = server.accept()
                        link.settimeout(self.timeout)
                        peer, listening = _receive_object(link)
                        self.peers[peer], places[peer] = link, (address[0], listening)
                for link in self.peers.values():
                    _send_object(link, places)
                return
            first = self._connect(host, port)
            with socket.create_server((first.getsockname()[0], 0)) as server:
                server.settimeout(self.timeout)
                _send_object(first, (self.rank, server.getsockname()[1]))
                places = _receive_object(first)
                self.peers[0] = first
                for peer in range(1, self.rank):
                    self.peers[peer] = self._connect(*places[peer])
                    _send_object(self.peers[peer], self.rank)
                for _ in range(self.rank + 1, self.size):
                    link, _ = server.accept()
                    link.settimeout(self.timeout)
                    self.peers[_receive_object(link)] = link
        except (TimeoutError, EOFError) as error:
            raise TimeoutError(RENDEZVOUS.format(self.rank, host, port, self.timeout, self.size)) from error

    def _connect(self, host: str, port: int) -> socket.socket:
        end = time.monotonic() + self.timeout
        while True:
            try:
                return socket.create_connection((host, port), timeout=self.timeout)
            except (ConnectionRefusedError, ConnectionResetError):
                if time.monotonic() > end:
                    raise TimeoutError from None
                time.sleep(0.02)

    # -- messages -----------------------------------------------------------------------------------------------

    def _box(self, key: tuple) -> queue.Queue:
        with self._lock:
            return self._boxes.setdefault(key, queue.Queue())

    def _read(self, peer: int, link: socket.socket) -> None:
        try:
            while True:
                group, tag, count = _HEADER.unpack(_exactly(link, _HEADER.size))
                self._box((peer, group, tag)).put(_exactly(link, count))
                with self._any:
                    self._any.notify_all()
        except (EOFError, OSError):
            self._ended.add(peer)
            with self._lock:
                for (sender, _, _), box in self._boxes.items():
                    if sender == peer:
                        box.put(None)

    def send(self, peer: int, data, group: int, tag: int = 0) -> None:
        """Send bytes; returns when the system has taken them."""
        data = memoryview(data).cast("B")
        if peer == self.rank:
            self._box((peer, group, tag)).put(bytearray(data))
            return
        try:
            with self._sending[peer]:
                self.peers[peer].sendall(_HEADER.pack(group, tag, len(data)))
                self.peers[peer].sendall(data)
        except OSError:
            raise RuntimeError(ENDED.format(peer)) from None

    def receive(self, peer: int, group: int, tag: int = 0) -> bytearray:
        """The next bytes that `peer` sent with this tag."""
        box = self._box((peer, group, tag))
        if peer in self._ended and box.empty():
            box.put(None)
        try:
            data = box.get(timeout=self.timeout)
        except queue.Empty:
            raise RuntimeError(f"torch.distributed: process {self.rank} waited {self.timeout:.0f} s for process {peer}, which has not made "
                               "the same call. All processes must call the same collective operations in the same order.") from None
        if data is None:
            raise RuntimeError(ENDED.format(peer))
        return data

    def receive_any(self, group: int, tag: int = 0) -> tuple[int, bytearray]:
        """(sender, bytes) of a message from whichever process."""
        end = time.monotonic() + self.timeout
        while True:
            for peer in self.peers:
                if not self._box((peer, group, tag)).empty():
                    return peer, self.receive(peer, group, tag)
            with self._any:
                self._any.wait(0.05)
            if time.monotonic() > end:
                raise RuntimeError(f"torch.distributed: process {self.rank} waited {self.timeout:.0f} s for a message.")

    def close(self) -> None:
        for link in self.peers.values():
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            link.close()
