"""A simulated camera: MJPEG over HTTP on localhost, which a test can unplug and plug in again."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

BETWEEN = 0.01  # seconds between two pictures
LOOK_UP = socket.getaddrinfo  # the real function, which tests/conftest.py blocks for all tests


class Camera:
    """Serves pictures of moving noise, over and over, to every client that connects.

    Attributes:
        address: URL of the stream.
        shown: Number of pictures sent so far to all clients.
    """

    def __init__(self, size: tuple[int, int] = (192, 96), frames: int | None = None):
        self.port = 0
        self.size, self.frames, self.shown = size, frames, 0
        scene = np.random.default_rng(0).integers(0, 255, (size[1], size[0] + 60, 3), np.uint8)
        scene = cv2.GaussianBlur(scene, None, 3)
        views = [np.ascontiguousarray(scene[:, 2 * i : 2 * i + size[0]]) for i in range(30)]
        self.pictures = [cv2.imencode(".jpg", view)[1].tobytes() for view in views]
        self.plug_in()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def plug_in(self) -> None:
        """Start the server, at the same address as before."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                sent = 0
                while self.server.plugged and (camera.frames is None or sent < camera.frames):
                    picture = camera.pictures[sent % len(camera.pictures)]
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
                    try:
                        self.wfile.write(head + picture + b"\r\n")
                    except OSError:
                        return
                    sent += 1
                    camera.shown += 1
                    time.sleep(BETWEEN)

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.plugged, self.server.daemon_threads = True, True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def pull_out(self) -> None:
        """End all connections and refuse new ones."""
        self.server.plugged = False
        self.server.shutdown()
        self.server.server_close()
