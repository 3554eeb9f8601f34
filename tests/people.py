"""People who come to a page with a password, over the wire."""

from __future__ import annotations

import http.client
import time
from functools import cached_property
from typing import Any

import httpx
from gradio_client import Client, handle_file
from page_server import PageServer
from photos import photograph

PASSWORD, ADMIN_PASSWORD = "open sesame", "close sesame"
MARKUP = '<script>alert(1)</script><img src=x onerror="alert(2)">'
SMALL = {"prompt": MARKUP, "width": 64, "height": 64, "frames": 4, "steps": 3, "seed": 7}
PATIENCE = 120  # seconds
UNFILTERED = ("", "auto", "auto", "auto", "newest")
"""The gallery's search, model, size, steadiness and order, as the browser sends them while nobody has chosen."""


class Person:
    """Somebody who has logged in."""

    def __init__(self, server: PageServer, name: str, password: str = PASSWORD) -> None:
        self.http = httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE)
        self.entered = self.http.post("/login", data={"username": name, "password": password}).status_code
        self.cookies = "; ".join(f"{key}={value}" for key, value in self.http.cookies.items())
        self.host = server.url.removeprefix("http://")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The page's parts and what they call, which stay the same while it is served."""
        return self.http.get("/config").json()

    def call(self, endpoint: str, *data: Any, **beside: Any) -> httpx.Response:
        """A named endpoint's answer. `beside`: what else the request's body says."""
        return self.http.post(f"/gradio_api/run/{endpoint}", json={"data": data, **beside})

    def told(self, endpoint: str, *data: Any) -> Any:
        answer = self.call(endpoint, *data)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]

    def press(self, elem_id: str, event: str, *data: Any, session: str, **event_data: Any) -> httpx.Response:
        """The answer to a button of the page, as a browser presses it."""
        (of,) = [part["id"] for part in self.config["components"] if part["props"].get("elem_id") == elem_id]
        number = next(dep["id"] for dep in self.config["dependencies"] if [of, event] in dep["targets"])
        body = {"fn_index": number, "trigger_id": of, "data": data, "session_hash": session, "event_data": event_data}
        return self.http.post("/gradio_api/run/predict", json=body)

    def fetch(self, path: str, **headers: str) -> tuple[int, bytes]:
        """The answer to a path that no client has tidied up."""
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"cookie": self.cookies, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def submit(server: PageServer, name: str, **more: Any) -> str:
    client = Client(server.url, verbose=False, auth=(name, PASSWORD))
    return client.predict(handle_file(photograph()), {**SMALL, **more}, api_name="/submit")


def wait_for(person: Person, job_id: str, *states: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (status := person.told("status", job_id))["state"] not in states:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
