"""The endpoints as tools of the Model Context Protocol: on request, on this computer only, and free of cost else."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_support import i2v
from machines import settings
from page_server import PageServer, page_server
from photos import photograph

from i2v.cli.exits import Exit
from i2v.messages import LOCALES, UserError
from i2v.ui import serve as serving
from i2v.ui.serve import check_mcp

pytestmark = pytest.mark.drives

TOOLS = {"submit", "status", "listed", "attach", "result", "cancel", "pause", "resume", "retry", "redecode", "export"}
TOOLS |= {"steadiness", "extend", "loras"}
TOOLS |= {"downloads", "download", "pause_download", "resume_download", "cancel_download"}
SMALL = {"prompt": "it moves", "width": 64, "height": 64, "frames": 4, "steps": 2}
PATIENCE = 120  # seconds


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("mcp"):
        pytest.skip("the package is installed here")
    ended = i2v(tmp_path, "serve", "--mcp", "--cpu", "--port", "1")
    assert ended.returncode == Exit.BAD_INPUT
    assert "-m pip install -r" in ended.stderr
    assert Path(ended.stderr.split(" -r ")[1].strip()).is_file()
    assert "Traceback" not in ended.stderr


def test_on_a_page_with_a_login_there_are_no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio gives a tool's call no login, and so a guest's would be this computer's own."""
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: object())
    check_mcp(settings())
    for open_to_others in ({"host": "0.0.0.0"}, {"password": "open sesame"}):
        with pytest.raises(UserError) as told:
            check_mcp(settings(**open_to_others))
        assert told.value.message.id == "ui.mcp_password"
        assert all(told.value.message.render(locale) for locale in LOCALES)


def test_an_assistant_makes_a_video(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="requirements-mcp.txt is not installed, so no assistant was tried")
    with page_server(tmp_path, "--mcp") as server:
        assert f"{server.url}/gradio_api/mcp/" in server.output.read_text()
        names, state, video = asyncio.run(asyncio.wait_for(_as_an_assistant(server), PATIENCE))
        assert names == TOOLS
        assert "'state': 'done'" in state
        assert httpx.get(video, trust_env=False).content[4:8] == b"ftyp"


async def _as_an_assistant(server: PageServer) -> tuple[set[str], str, str]:
    """The tools' names, the state of a job that was sent and awaited, and the address of its video."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    files = {"files": ("photo.jpg", photograph().read_bytes())}
    (stored,) = httpx.post(f"{server.url}/gradio_api/upload", files=files, trust_env=False).json()
    async with (
        streamablehttp_client(f"{server.url}/gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()

        async def call(tool: str, **arguments: Any) -> str:
            answer = await session.call_tool(tool, arguments)
            assert not answer.isError, answer.content
            return answer.content[0].text

        names = {tool.name for tool in (await session.list_tools()).tools}
        job_id = await call("submit", picture={"path": stored}, settings=SMALL)
        await call("attach", id=job_id)
        return names, await call("status", id=job_id), await call("result", id=job_id)
