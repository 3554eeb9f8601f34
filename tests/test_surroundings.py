"""What other programs leave in the environment: used where it can be, else set aside in words, never in the way."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.messages import catalogue
from i2v.setup import surroundings
from i2v.setup.surroundings import SET_ASIDE, clean, leave_foreign_modules, proxy_for_downloads, refuse_windows

ROOT = Path(__file__).parents[1]


def set_aside(environ: dict[str, str], *, socks: bool = True) -> dict[str, str]:
    """Variable -> the text that says why, without its area; each has a sentence in both languages."""
    asides = clean(environ, socks=socks)
    for aside in asides:
        for locale in ("en", "zh-CN"):
            assert aside.variable in catalogue(locale)[aside.why].format(
                variable=aside.variable, value=aside.value, **aside.params
            )
    return {aside.variable: aside.why.removeprefix("launcher.aside_") for aside in asides}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("http://proxy:3128", None),
        ("proxy.corp:3128", None),
        ("HTTPS://user:p%40ss@10.0.0.1:443/", None),
        ("socks5h://[::1]:1080", None),
        ("socks4://127.0.0.1:1080", "scheme"),
        ("pac+http://proxy/file", "scheme"),
        ("quic://proxy", "scheme"),
        ("http://", "address"),
        ("http://[::1", "address"),
        ("http://proxy:port", "address"),
        ("http://proxy:99999", "address"),
        ("http://user:p#ss@proxy:80", "address"),
        ("http://999.1.1.1:80", "address"),
        ("http://a b:80", "address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_set_aside(value: str, why: str | None) -> None:
    environ = {"ALL_PROXY": value}
    assert set_aside(environ).get("ALL_PROXY") == why
    assert ("ALL_PROXY" in environ) is (why is None)
    assert (SET_ASIDE in environ) is (why is not None)


def test_what_desktops_call_socks_is_socks5_and_needs_its_package() -> None:
    environ = {"all_proxy": "socks://127.0.0.1:1080/"}
    assert set_aside(environ) == {}
    assert environ["all_proxy"] == "socks5://127.0.0.1:1080/"
    assert set_aside(environ, socks=False) == {"all_proxy": "socks"}


def test_no_password_is_shown() -> None:
    (aside,) = clean(environ := {"https_proxy": "socks4://me:secret@proxy:1"})
    assert "secret" not in aside.render() + environ[SET_ASIDE]
    assert "proxy:1" in aside.render()


def test_exemptions_of_every_form_are_read() -> None:
    environ = {"no_proxy": "localhost 127.0.0.1;[::1], .corp,*.lan 10.0.0.0/8 192.168.* host:8080 http://x:y fe80::/10"}
    assert set_aside(environ) == {"no_proxy": "exempt"}
    assert environ["no_proxy"] == "localhost,127.0.0.1,::1,.corp,*.lan,10.0.0.0/8,192.168.*,host:8080"


PIECES = (
    "http", "https", "socks5", "socks", "ftp", "://", ":/", "/", "127.0.0.1", "::1", "[::1]", "[", "]", "localhost",
    "a.b", "*", "*.", "10.0.0.0/8", "fe80::/10", ":8080", ":99999", ":", "@", "u:p@", "#", "?", "é", ",", ";", " ",
    "999.1.1.1", "\t", "\\", "xn--", "a..b", "%",
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["all_proxy", "https_proxy", "HTTP_PROXY", "no_proxy"]),
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join),
    )
)
@settings(max_examples=100)
def test_whatever_is_left_lets_both_clients_start(environ: dict[str, str]) -> None:
    clean(environ, socks=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        for library in (httpx, httpx2):
            library.Client(verify=False).close()


def test_certificates_that_are_not_there_or_none(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("none")
    (tmp_path / "folder").mkdir()
    environ = {
        "SSL_CERT_FILE": str(tmp_path / "gone.pem"),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "CURL_CA_BUNDLE": str(tmp_path / "folder"),
        "SSL_CERT_DIR": f"{tmp_path / 'gone'}:{tmp_path / 'other'}",
        "SSLKEYLOGFILE": str(tmp_path / "gone" / "keys"),
    }
    assert set_aside(environ) == {
        "SSL_CERT_FILE": "certificates_missing",
        "REQUESTS_CA_BUNDLE": "certificates_empty",
        "SSL_CERT_DIR": "certificates_missing",
        "SSLKEYLOGFILE": "keys_locked",
    }
    assert environ.keys() == {"CURL_CA_BUNDLE", SET_ASIDE}
    assert str(tmp_path / "gone.pem") in environ[SET_ASIDE]
    usual = ssl.get_default_verify_paths().cafile
    assert usual is None or set_aside({"SSL_CERT_FILE": usual}) == {}


def test_folders_for_temporary_files_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    environ = {"TMPDIR": str(tmp_path / "file" / "inside"), "TMP": str(tmp_path)}
    assert set_aside(environ) == {"TMPDIR": "folder_locked"}
    assert environ["TMP"] == str(tmp_path)
    monkeypatch.setattr(surroundings, "can_write", lambda folder: "logs" in folder)
    environ = {"TMPDIR": "/locked"}
    assert [aside.why for aside in clean(environ)] == ["launcher.aside_folder_locked", "launcher.own_temporary"]
    assert environ["TMPDIR"] == str(ROOT / "logs" / "tmp")


def test_what_a_library_would_stumble_over_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {
        "HF_HUB_DOWNLOAD_TIMEOUT": "abc",
        "HF_HUB_ETAG_TIMEOUT": "30",
        "DIFFUSERS_TIMEOUT_REMOTE_CODE": "1.5",
        "NUMPY_MADVISE_HUGEPAGE": "yes",
        "TQDM_MININTERVAL": "often",
        "HF_ENDPOINT": "http://[x",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "inside"),
        "TRITON_CACHE_DIR": str(tmp_path / "made"),
    }
    assert set_aside(environ) == {
        "HF_HUB_DOWNLOAD_TIMEOUT": "whole_unread",
        "DIFFUSERS_TIMEOUT_REMOTE_CODE": "whole_unread",
        "NUMPY_MADVISE_HUGEPAGE": "whole_unread",
        "TQDM_MININTERVAL": "number_unread",
        "HF_ENDPOINT": "address_unread",
        "TORCHINDUCTOR_CACHE_DIR": "folder_locked",
    }
    assert set_aside({"HF_ENDPOINT": "https://hub.example/path"}) == {}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TORCH_LOGS", "bogus", "compiler"),
        ("TORCH_COMPILE_DEBUG", "bogus", "compiler"),
        ("TORCHDYNAMO_REPRO_LEVEL", "abc", "compiler"),
        ("TORCHINDUCTOR_COMPILE_THREADS", "abc", "compiler"),
        ("TORCHINDUCTOR_WORKER_START", "bogus", "compiler"),
        ("DIFFUSERS_ATTN_BACKEND", "bogus", "library"),
        *[("OMP_NUM_THREADS", value, "threads") for value in ("abc", "0", "-3", "1.5", "4,", "100000000")],
        *[("OMP_NUM_THREADS", value, None) for value in ("1", " 8", "4,2")],
        ("MKL_NUM_THREADS", "many", "threads"),
        *[
            ("PYTORCH_CUDA_ALLOC_CONF", value, "allocator")
            for value in ("bogus", "bogus:1", "max_split_size_mb:abc", "expandable_segments:yes", "backend:x", ":")
        ],
        ("PYTORCH_ALLOC_CONF", "expandable_segments=True", "allocator"),
        *[
            ("PYTORCH_CUDA_ALLOC_CONF", value, None)
            for value in (
                "expandable_segments:True",
                "backend:native,max_split_size_mb:128, garbage_collection_threshold:0.8",
                "roundup_power2_divisions:[256:1,512:2,>:8],expandable_segments:False",
                "roundup_power2_divisions:4,",
                "pinned_use_background_threads:True,pinned_max_cached_size_mb:64",
            )
        ],
        ("TRANSFORMERS_VERBOSITY", "bogus", None),  # a warning, and nothing else
        ("TORCH_HOME", "/x", None),
    ],
)
def test_what_torch_and_its_like_would_stop_at(name: str, value: str, why: str | None) -> None:
    environ = {name: value}
    assert set_aside(environ).get(name) == why
    assert (name in environ) is (why is None)


def test_variables_for_other_gradio_apps_are_not_heard() -> None:
    environ = {"GRADIO_SERVER_PORT": "abc", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_ROOT_PATH": "/video"}
    assert set_aside(environ) == {"GRADIO_SERVER_PORT": "gradio", "GRADIO_ALLOWED_PATHS": "gradio"}
    assert environ["GRADIO_ROOT_PATH"] == "/video"


def test_an_encoder_that_is_not_there_is_not_found_missing_at_the_end_of_a_job() -> None:
    assert set_aside({"IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"}) == {"IMAGEIO_FFMPEG_EXE": "program_missing"}
    assert set_aside({"IMAGEIO_FFMPEG_EXE": sys.executable}) == {}


def test_a_variable_of_another_program_is_left_alone() -> None:
    environ = {"HOME": "/home/me", "TRAVIS_APT_PROXY": "x://", "SSL_CERT_FILE": "", "TMPDIR": tempfile.gettempdir()}
    before = dict(environ)
    assert set_aside(environ) == {}
    assert environ == before


def test_the_proxy_of_a_failed_download_is_named_where_it_was_used() -> None:
    environ = {"ALL_PROXY": "socks5://u:p@proxy:1080", "no_proxy": "localhost,.corp"}
    assert proxy_for_downloads(environ, "huggingface.co") == ("ALL_PROXY", "socks5://…@proxy:1080")
    assert proxy_for_downloads(environ | {"https_proxy": "other:1"}, "huggingface.co") == ("https_proxy", "other:1")
    assert proxy_for_downloads(environ, "mirror.corp") is None
    assert proxy_for_downloads(environ | {"NO_PROXY": "*"}, "huggingface.co") is None


def test_the_modules_of_another_python_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ["/other/lib", str(ROOT), "/own/lib"]
    environ = {"PYTHONPATH": "/other/lib"}
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert leave_foreign_modules(environ, path) == []  # this Python is all there is
    monkeypatch.setattr(sys, "prefix", "/own")
    (aside,) = leave_foreign_modules(environ, path)
    assert "/other/lib" in aside.render()
    assert (path, environ) == ([str(ROOT), "/own/lib"], {})
    environ = {"PYTHONPATH": f"/other{os.pathsep}{ROOT}"}  # our own code may come from there
    leave_foreign_modules(environ, path)
    assert (path, environ) == ([str(ROOT), "/own/lib"], {"PYTHONPATH": str(ROOT)})
    environ = {"PYTHONOPTIMIZE": "2", "PYTHONUNBUFFERED": "1"}  # its children run as it was tested
    leave_foreign_modules(environ, path)
    assert environ == {"PYTHONUNBUFFERED": "1"}


def test_a_broken_numpy_of_another_python_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise ImportError('numpy of another Python')")
    ended = subprocess.run(
        [sys.executable, "-m", "i2v", "probe", "--json"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "ALL_PROXY": "socks4://127.0.0.1:1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert [line.split(" ")[0] for line in ended.stderr.splitlines()] == ["PYTHONPATH", "The"]


def test_windows_is_told_where_this_runs(capsys: pytest.CaptureFixture[str]) -> None:
    refuse_windows("posix")
    with pytest.raises(SystemExit):
        refuse_windows("nt")
    assert "WSL2" in capsys.readouterr().err


def test_windows_is_told_before_anything_else_is_imported() -> None:
    code = """
import sys
from i2v.setup import surroundings
surroundings.refuse_windows.__defaults__ = ("nt",)
sys.modules["fcntl"] = None  # as there
import i2v.setup.launcher
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
