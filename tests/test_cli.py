"""The command line: what it prints where, how it ends, and that it never shows a traceback."""

from __future__ import annotations

import gc
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from cli_support import (
    REAL,
    ROOT,
    SCRIPTED_ENGINE,
    as_started,
    environment,
    generate_words,
    i2v,
    i2v_process,
    popen,
    scripted_engine,
)
from photos import photograph
from video_support import moving_frames, write_video

from i2v import cli, events
from i2v.cli import program
from i2v.cli.arguments import SEVERAL, SWITCHES, parse
from i2v.cli.exits import NO_ROOM_IDS, Exit, exit_for
from i2v.cli.terminal import bar, clock, cut, padded, terminal_locale, width_of
from i2v.cli.views import LinesView
from i2v.jobs.asked.prepare import REQUEST_KEYS
from i2v.messages import LOCALES, UserError, catalogue, message
from i2v.settings.keys import KEYS, PRESET_KEYS, flag_of
from i2v.video.metadata import probe_video

COMMANDS = ("generate", "probe", "doctor", "serve", "show")


def no_process_left(pids: set[int]) -> bool:
    """Orphans come to the test process where it has a warm parent, and stay there as corpses."""
    return not [one for one in psutil.process_iter(["status"]) if one.pid in pids and one.info["status"] != "zombie"]


# --- a whole generation ---


def test_a_video_is_made_and_can_say_what_it_was_made_from(tmp_path: Path) -> None:
    """Also the longest prompt there may be, emoji, and a single frame."""
    prompt = "🌊 a wave, 镜头推近 " + "n" * 9984
    made = i2v(tmp_path, *generate_words(tmp_path, "--frames", "1", prompt=prompt))
    assert made.returncode == Exit.DONE, made.stderr
    video = Path(made.stdout.strip())
    assert video.parent.parent.parent == tmp_path / "outputs"
    assert (probe_video(video).frames, probe_video(video).width) == (1, 64)
    told = made.stderr
    assert "reads only the first 48" in told
    assert re.search(r"^step 2 of 2 · \d+\.\d\d s/step · 0:00 left$", told, re.MULTILINE)
    assert re.search(r"^\[Memory\] Step 2: Allocated=\d+\.\d\dGB, Reserved=\d+\.\d\dGB$", told, re.MULTILINE)
    assert "this process's own" in told
    assert "\r" not in told
    shown = i2v(tmp_path, "show", str(video))
    request = json.loads(shown.stdout)
    request = request.get("request", request)
    assert (shown.returncode, request["prompt"], request["seed"]) == (Exit.DONE, prompt, 7)


def test_show_says_that_another_programs_video_holds_no_request(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", moving_frames(1, 64, 64), prompt="a cat", type="another program")
    shown = i2v(tmp_path, "show", str(video))
    assert (shown.returncode, shown.stdout) == (Exit.BAD_INPUT, "")
    assert "holds no request" in shown.stderr


def test_json_gives_one_event_a_line(tmp_path: Path) -> None:
    with scripted_engine():
        made = i2v(tmp_path, *generate_words(tmp_path, "--json"))
    assert made.returncode == Exit.DONE, made.stderr
    first, *rest = [json.loads(line) for line in made.stdout.splitlines()]
    assert first["type"] == "job"
    folder = Path(first["folder"])
    happened = [events.from_json(values) for values in rest]
    assert happened[-1] == events.StateChanged("done")
    steps = [event for event in happened if isinstance(event, events.StepFinished) and event.phase == "denoise"]
    assert [step.index for step in steps] == [1, 2]
    done = next(event for event in happened if isinstance(event, events.Done))
    assert (folder / done.path).is_file()


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    process = popen(tmp_path, *generate_words(tmp_path, "--lang", "zh-CN"), program=SCRIPTED_ENGINE, stderr=terminal)
    os.close(terminal)
    shown = read_all(controller)
    assert process.wait() == Exit.DONE
    assert f"\r\x1b[K{'█' * 24} 第 2 / 2 步" in shown
    assert "░" in shown
    assert process.stdout is not None
    assert process.stdout.read().strip().endswith("video.mp4")


def read_all(controller: int) -> str:
    """What is written to the other end of a terminal, until that closes."""
    shown = b""
    while select.select([controller], [], [], 60)[0]:
        try:
            part = os.read(controller, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(controller)
    return shown.decode()


@pytest.mark.parametrize(("stop", "program"), [(signal.SIGINT, REAL), (signal.SIGTERM, SCRIPTED_ENGINE)])
def test_ctrl_c_cancels_the_job_and_leaves_nothing_running(stop: int, program: tuple[str, ...], tmp_path: Path) -> None:
    process = popen(tmp_path, *generate_words(tmp_path, "--steps", "500", "--json"), program=program)
    assert process.stdout is not None
    for line in process.stdout:
        if '"step_finished"' in line:
            break
    family = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    assert family
    process.send_signal(stop)
    rest = process.stdout.read()
    assert process.wait(timeout=120) == Exit.CANCELLED
    assert '"type": "cancelled"' in rest
    assert '"state": "cancelled"' in rest
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert no_process_left(family)


def test_a_card_that_is_too_small_ends_with_its_own_code(tmp_path: Path) -> None:
    words = ("generate", "--image", str(photograph()), "--prompt", "go", "--out", str(tmp_path / "outputs"))
    made = i2v(tmp_path, *words, "--model", "i2vgen-xl", "--width", "1024", "--height", "1024", "--simulate", "1")
    assert made.returncode == Exit.NO_ROOM, made.stderr
    assert "1024x1024" in made.stderr
    assert (made.stdout, "Traceback" in made.stderr) == ("", False)


# --- probe ---


def test_probe_shows_every_setting_and_who_set_it(tmp_path: Path) -> None:
    done = i2v(tmp_path, "probe", "--simulate", "7", "--cfg", "batch", CHUNK_SIZE="3")
    out = done.stdout
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()[:1] and line.split()[0] in KEYS}
    assert done.returncode == Exit.DONE
    assert set(rows) == set(KEYS)
    assert re.fullmatch(r"chunk_frames +3 +environment variable CHUNK_SIZE", rows["chunk_frames"])
    assert re.fullmatch(r"cfg +batch +command line", rows["cfg"])
    assert re.fullmatch(r"decode_frames +1 +preset 08gb", rows["decode_frames"])
    assert re.fullmatch(r"preset +08gb +this machine", rows["preset"])
    assert "7.0 of 7.0 GiB free" in out


def test_probe_as_json(tmp_path: Path) -> None:
    done = i2v(tmp_path, "probe", "--cpu", "--json", "--preset", "24gb")
    assert done.returncode == Exit.DONE
    document = json.loads(done.stdout)
    assert document["settings"]["preset"] == "24gb"
    assert document["settings"]["sources"]["preset"] == "command line"
    assert document["probe"]["gpu"] is None
    assert [note["id"] for note in document["notes"]] == ["settings.preset_without_card"]


@pytest.mark.parametrize("key", PRESET_KEYS)
def test_plan_keys_have_flags_where_they_are_a_persons_to_choose(key: str) -> None:
    if key.startswith("max_"):
        with pytest.raises(UserError):
            parse(["probe", flag_of(key), "5"], "en")
    else:
        assert parse(["probe", flag_of(key), "5"], "en").overrides == {key: "5"}
        assert parse(["generate", flag_of(key), "5"], "en").values == {key: "5"}


# --- words ---


def test_every_key_of_a_request_has_its_flag() -> None:
    for key in set(REQUEST_KEYS) - set(SWITCHES):
        wanted = ["x"] if key in SEVERAL else "x"
        assert parse(["generate", f"--{key.replace('_', '-')}", "x"], "en").values == {key: wanted}


def test_a_switch_is_turned_on_and_off() -> None:
    for key in SWITCHES:
        name = key.replace("_", "-")
        assert parse(["generate", f"--{name}"], "en").values == {key: True}
        assert parse(["redecode", "some-id", f"--no-{name}"], "en").values == {key: False}
    assert parse(["generate"], "en").values == {}


def test_what_may_be_given_several_times_is_a_list() -> None:
    assert parse(["generate", "--lora", "one:0.5", "--lora=two"], "en").values == {"lora": ["one:0.5", "two"]}
    assert parse(["retry", "some-id", "--lora", "one"], "en").values == {"lora": ["one"]}


def test_listen_opens_the_page_to_the_network() -> None:
    assert parse(["serve", "--listen", "--port", "81"], "en").overrides == {"host": "0.0.0.0", "port": "81"}


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["genrate"], ["genrate", "generate, plan, models, probe, doctor, serve, show"]),
        (["generate", "--promt", "x"], ["--promt", "--prompt"]),
        (["generate", "--step", "3"], ["--step", "--steps"]),
        (["generate", "--zzzzz"], ["--zzzzz", "--help"]),
        (["generate", "stray"], ["stray"]),
        (["probe", "--width", "3"], ["probe", "--width"]),
        (["generate", "--steps"], ["--steps needs a value"]),
        (["generate", "--prompt", "-ah"], ["--prompt needs a value", "--prompt=VALUE"]),
        (["probe", "--json=1"], ["--json takes no value"]),
        (["show"], ["Name the video"]),
        (["show", "nothing.mp4"], ["nothing.mp4"]),
        (["probe", "--chunk-frames", "x"], ["--chunk-frames cannot be x"]),
        (["probe", "--gpu", "0", "--cpu"], ["command line"]),
        (["generate", "--image", "a.png", "--prompt", "x", "--steps", "0"], ["--steps cannot be 0"]),
        (["generate", "--image", "a.png", "--prompt", "x", "--chunk-frames", "x"], ["--chunk-frames cannot be x"]),
        (["generate", "--model", "nano", "--prompt", "x", "--image", "a.png", "--lora", "a"], ["no LoRA called a"]),
    ],
)
def test_words_that_are_not_understood(words: list[str], fragments: list[str], tmp_path: Path) -> None:
    told = i2v(tmp_path, *words)
    assert told.returncode == Exit.BAD_INPUT
    assert [fragment for fragment in fragments if fragment not in told.stderr] == []
    assert told.stdout == ""


def test_a_value_may_begin_with_a_dash() -> None:
    assert parse(["generate", "--seed", "-1", "--prompt=-ah"], "en").values == {"seed": "-1", "prompt": "-ah"}


def test_no_command_shows_what_there_is(tmp_path: Path) -> None:
    shown = i2v(tmp_path)
    assert shown.returncode == Exit.BAD_INPUT
    assert [command for command in COMMANDS if command not in shown.stdout] == []


def test_the_process_ends_as_main_says_also_where_its_terminal_has_no_chinese(tmp_path: Path) -> None:
    shown = i2v_process(tmp_path, LC_ALL="zh_CN.UTF-8", PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (Exit.BAD_INPUT, "")
    assert catalogue("zh-CN")["cli.usage"].encode("ascii", "backslashreplace").decode() in shown.stdout


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_flags_and_exit_codes(command: str, locale: str, tmp_path: Path) -> None:
    shown = i2v(tmp_path, command, "--lang", locale, "--help")
    assert shown.returncode == Exit.DONE
    out = shown.stdout
    assert catalogue(locale)["cli.usage"] in out
    assert all(re.search(rf"^ +{code.value} ", out, re.MULTILINE) for code in Exit)
    assert "cli." not in out


def test_the_readers_language_is_found() -> None:
    assert terminal_locale({"LANG": "zh_CN.UTF-8"}) == "zh-CN"
    assert terminal_locale({"LC_ALL": "en_GB.UTF-8", "LANG": "zh_CN.UTF-8"}) == "en"
    assert terminal_locale({}) == "en"
    assert program._early_locale(["probe", "--lang", "zh"]) == "zh-CN"
    assert program._early_locale(["probe", "--lang=en"]) == "en"


def test_mistakes_are_told_in_the_readers_language(tmp_path: Path) -> None:
    refused = i2v(tmp_path, "generate", "--lang", "zh-CN", "--image", "a.png", "--prompt", "")
    assert refused.returncode == Exit.BAD_INPUT
    assert "提示词为空" in refused.stderr


# --- endings ---


def test_a_refusal_is_an_event_for_programs(tmp_path: Path) -> None:
    refused = i2v(tmp_path, "generate", "--json", "--image", "a.png", "--prompt", "x", "--fps", "0")
    assert refused.returncode == Exit.BAD_INPUT
    (event,) = [events.from_json(json.loads(line)) for line in refused.stdout.splitlines()]
    assert isinstance(event, events.Failed)
    assert event.message.params["name"] == "--fps"
    assert "--fps cannot be 0" in refused.stderr


def broken(*_: object) -> str:
    raise ZeroDivisionError("the bulb is broken")


def test_what_nobody_expected_goes_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "probe_text", broken)
    told = i2v(tmp_path, "probe", "--cpu")
    log = tmp_path / "logs" / "app.log"
    assert told.returncode == Exit.FAILED
    assert "the bulb is broken" in told.stderr
    assert str(log) in told.stderr
    assert "Traceback" not in told.stderr + told.stdout
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_second_command_in_one_process_logs_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the settings are read that is the app's own folder, wherever the first command's log was."""
    monkeypatch.setattr(program, "ROOT", tmp_path / "app")
    with as_started(tmp_path / "first"):
        assert cli.main(["probe", "--cpu"]) == Exit.DONE
        (first,) = program._LOGGER.handlers
        monkeypatch.setattr(program, "parse", broken)
        assert cli.main(["probe", "--cpu"]) == Exit.FAILED
        assert first.stream is None, "the first command's log was left open"
    log = tmp_path / "app" / "logs" / "app.log"
    assert str(log) in capsys.readouterr().err
    assert "the bulb is broken" in log.read_text(encoding="utf-8")
    assert (tmp_path / "first" / "logs" / "app.log").read_text(encoding="utf-8") == ""


def test_a_command_leaves_nothing_behind_in_its_process(tmp_path: Path) -> None:
    with as_started(tmp_path), scripted_engine():
        i2v(tmp_path, *generate_words(tmp_path))  # what is loaded once and kept
        before = belongings()
        assert i2v(tmp_path, *generate_words(tmp_path)).returncode == Exit.DONE
        assert i2v(tmp_path, "jobs", "--out", str(tmp_path / "outputs")).returncode == Exit.DONE
        assert belongings() == before


def belongings() -> dict[str, object]:
    """What this process holds and how it is set, as far as a command could have changed it."""
    gc.collect()  # closes what earlier tests left to it
    this = psutil.Process()
    return {
        "children": this.children(recursive=True),
        "files": sorted(os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "streams": (sys.stdout, sys.stderr),
    }


def test_a_log_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = i2v(tmp_path, "probe", "--cpu", I2V_LOGS_DIR=str(tmp_path / "file" / "logs"))
    assert done.returncode == Exit.DONE
    assert "cannot be written" in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m i2v probe --json | head -1"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert (ended.stdout, ended.stderr) == ("{\n", "")


def test_running_out_has_a_code_of_its_own() -> None:
    assert set(catalogue("en")) >= NO_ROOM_IDS
    room = "out_of_(memory|ram)|disk_full|outputs_full|too_small|refused"
    about_room = re.compile(rf"(?!launcher|models\.(token|trouble)_).*({room})")
    assert {name for name in catalogue("en") if about_room.match(name)} == NO_ROOM_IDS
    assert exit_for(message("worker.out_of_memory"), Exit.FAILED) == Exit.NO_ROOM
    assert exit_for(message("models.unknown"), Exit.BAD_INPUT) == Exit.BAD_INPUT


def test_serve_returns_what_the_server_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def serve(settings: object, probe: object, *, mcp: bool) -> int:
        seen.update(settings=settings, probe=probe, mcp=mcp)
        return 42

    # In place of the module, which brings Gradio along: that takes seconds.
    monkeypatch.setitem(sys.modules, "i2v.ui.serve", SimpleNamespace(serve=serve))
    assert i2v(tmp_path, "serve", "--port", "81", "--cpu").returncode == 42
    assert (seen["settings"].port, seen["settings"].cpu, seen["mcp"]) == (81, True, False)  # type: ignore[attr-defined]
    assert i2v(tmp_path, "serve", "--mcp").returncode == 42
    assert seen["mcp"] is True


def test_doctor_says_how_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from i2v.cli import doctor

    for healthy, code in ((True, Exit.DONE), (False, Exit.FAILED)):
        monkeypatch.setattr(doctor, "report", lambda _settings, _probe, ok=healthy: ("the report", ok))
        told = i2v(tmp_path, "doctor", "--cpu")
        assert (told.returncode, told.stdout) == (code, "the report\n")


def test_the_command_line_and_what_it_calls_start_without_what_they_do_not_need() -> None:
    modules = "i2v.cli, i2v.cli.doctor, i2v.models.catalogue, i2v.video.writer, i2v.video.picture"
    heavy = "('torch', 'gradio', 'diffusers', 'transformers')"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


# --- the terminal ---


def test_bars_and_clocks() -> None:
    assert bar(0, 4, 8) == "░" * 8
    assert bar(3, 4, 8) == "██████░░"
    assert bar(1, 0, 4) == "░" * 4
    assert [clock(seconds) for seconds in (0.2, 31, 125, 3723)] == ["0:00", "0:31", "2:05", "1:02:03"]


def test_chinese_takes_two_cells() -> None:
    assert width_of("步 1") == 4
    assert width_of(padded("设置", 8)) == 8
    assert cut("设置 x", 3) == "设"


def test_memory_outside_of_denoising_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    view = LinesView(sys.stdout, sys.stderr, "en")
    sample = events.MemorySampled("denoise", 10, 2**30, 2**31, 0, 0, 0, "cuda")
    view.show(sample)
    view.show(events.MemorySampled("decode", 1, 2**30, 2**31, 0, 0, 0, "cuda"))
    assert capsys.readouterr().err.splitlines() == [
        "[Memory] Step 10: Allocated=1.00GB, Reserved=2.00GB",
        "[Memory] Step 1: Allocated=1.00GB, Reserved=2.00GB (decode)",
    ]
