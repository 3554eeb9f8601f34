"""Settings: who wins, who is named, and what every mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from machines import card, no_card, settings, suppress_user_error

from i2v.messages import UserError
from i2v.request import AUTO, PlanOptions
from i2v.settings.keys import KEYS, PRESET_KEYS
from i2v.settings.settings import CONFIG_PATH, ROOT, settings_and_probe
from i2v.settings.values import shown, whole


def config(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- config.yaml as it ships ---


def test_config_documents_every_key_with_its_default() -> None:
    shipped = yaml.safe_load(CONFIG_PATH.read_text(encoding="utf-8"))
    assert set(shipped) == set(KEYS)
    for name, key in KEYS.items():
        default = AUTO if key.auto and key.default is None else key.default
        default = list(default) if isinstance(default, tuple) else default
        assert shipped[name] == default, name
    assert {shipped[name] for name in PRESET_KEYS} == {AUTO}


def test_config_explains_every_key() -> None:
    lines = CONFIG_PATH.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), f"{line} stands there unexplained"


def test_config_as_it_ships_changes_nothing() -> None:
    shipped, bare = settings(config=CONFIG_PATH), settings()
    assert {name: getattr(shipped, name) for name in KEYS} == {name: getattr(bare, name) for name in KEYS}


# --- who wins ---


def test_each_source_beats_the_one_before(tmp_path: Path) -> None:
    probe = card(5.5)
    file = config(tmp_path, "chunk_frames: 3\n")
    chain = [
        (settings(probe), 1, "preset 06gb"),
        (settings(probe, config=file), 3, "config.yaml"),
        (settings(probe, config=file, environ={"CHUNK_SIZE": "4"}), 4, "environment CHUNK_SIZE"),
        (
            settings(probe, config=file, environ={"CHUNK_SIZE": "4", "I2V_CHUNK_FRAMES": "5"}),
            5,
            "environment I2V_CHUNK_FRAMES",
        ),
        (settings(probe, config=file, environ={"CHUNK_SIZE": "4"}, chunk_frames="6"), 6, "command line"),
    ]
    chain.append((chain[-1][0].with_overrides(PlanOptions(chunk_frames=7)), 7, "request"))
    for resolved, value, source in chain:
        assert (resolved.chunk_frames, resolved.sources["chunk_frames"]) == (value, source)
        assert resolved.sources["cfg"] == "preset 06gb"


def test_auto_gives_the_choice_back_to_the_preset(tmp_path: Path) -> None:
    file = config(tmp_path, "cfg: batch\npreset: 48gb\n")
    assert settings(card(5.5), config=file).preset == "48gb"
    undone = settings(card(5.5), config=file, environ={"I2V_PRESET": "auto"}, cfg="auto")
    assert (undone.preset, undone.sources["preset"]) == ("06gb", "probe")
    assert (undone.cfg, undone.sources["cfg"]) == ("split", "preset 06gb")


@pytest.mark.parametrize("name", KEYS)
def test_every_key_can_come_from_the_environment(name: str) -> None:
    examples = {
        "preset": "24gb", "precision": "bf16", "cfg": "batch", "offload": "staged", "max_pixels": "640x480",
        "model": "nano", "policy": "balanced", "attention": "flash", "fit": "pad", "host": "0.0.0.0", "password": "x y",
        "language": "zh", "vae_window": "17x16x16", "step_cache": "0.1", "noise_aug_strength": "0.25",
        "hf_endpoint": "https://mirror.example/", "offline": "yes", "gpu": "1", "cpu": "1", "simulate_gib": "6.5",
        "lend_card": "yes", "preload": "no", "admin_password": "y z", "guest_password": "z z",
        "tls_cert": "/etc/cert.pem", "tls_key": "/etc/key.pem", "model_folders": "/a:/b c",
    }  # fmt: skip
    raw = examples.get(name, "/somewhere" if name.endswith("_dir") else "17")
    resolved = settings(environ={f"I2V_{name.upper()}": raw})
    assert resolved.sources[name] == f"environment I2V_{name.upper()}"
    expected = {
        "precision": "bfloat16", "max_pixels": 640 * 480, "language": "zh-CN",
        "hf_endpoint": "https://mirror.example", "offline": True, "cpu": True, "simulate_gib": 6.5, "step_cache": 0.1,
        "noise_aug_strength": 0.25,
        "lend_card": True, "preload": False, "tls_cert": Path("/etc/cert.pem"), "tls_key": Path("/etc/key.pem"),
        "model_folders": (Path("/a"), Path("/b c")),
    }  # fmt: skip
    value = Path(raw) if name.endswith("_dir") else expected.get(name, int(raw) if name not in examples else raw)
    assert getattr(resolved, name) == value


@pytest.mark.parametrize(
    ("environ", "precision", "source"),
    [
        ({"USE_FP16": "1"}, "float16", "environment USE_FP16"),
        ({"USE_FP16": "true", "USE_BF16": "0"}, "float16", "environment USE_FP16"),
        ({"USE_BF16": "on"}, "bfloat16", "environment USE_BF16"),
        ({"USE_FP16": "0", "USE_BF16": "1"}, "bfloat16", "environment USE_BF16"),
        ({"USE_FP16": "0"}, "float32", "environment USE_FP16"),
        ({"USE_BF16": "0"}, "float16", "preset 12gb"),
        ({"USE_FP16": ""}, "float16", "preset 12gb"),
        ({"USE_FP16": "1", "I2V_PRECISION": "float32"}, "float32", "environment I2V_PRECISION"),
    ],
)
def test_precision_switches_people_know(environ: dict[str, str], precision: str, source: str) -> None:
    resolved = settings(card(11), environ=environ)
    assert (resolved.precision, resolved.sources["precision"]) == (precision, source)


def test_hub_variables_are_respected_and_ours_win() -> None:
    both = {"HF_ENDPOINT": "https://a.example", "HF_HUB_OFFLINE": "1"}
    assert (settings(environ=both).hf_endpoint, settings(environ=both).offline) == ("https://a.example", True)
    assert settings(environ={**both, "I2V_OFFLINE": "0"}).offline is False


def test_another_preset_in_a_request_changes_what_the_old_one_gave_and_nothing_else() -> None:
    before = settings(card(5.5), cfg="batch", decode_frames=3)
    after = before.with_overrides(PlanOptions(preset="24gb", decode_frames=5))
    assert (after.preset, after.sources["preset"]) == ("24gb", "request")
    assert (after.chunk_frames, after.sources["chunk_frames"]) == (16, "preset 24gb")
    assert (after.cfg, after.sources["cfg"]) == ("batch", "command line")
    assert (after.decode_frames, after.sources["decode_frames"]) == (5, "request")
    assert before.preset == "06gb"
    assert before.with_overrides(PlanOptions()) == before
    assert before.with_overrides(PlanOptions(preset="auto", cfg="auto")) == before


def test_folders_are_meant_from_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = tmp_path / "shell"
    shell.mkdir()
    monkeypatch.chdir(shell)
    file = config(tmp_path, "models_dir: m\n")
    resolved = settings(config=file, environ={"I2V_LOGS_DIR": "l"}, outputs_dir="o")
    assert (resolved.models_dir, resolved.logs_dir) == (tmp_path / "m", shell / "l")
    assert resolved.outputs_dir == shell / "o"
    assert settings().outputs_dir == ROOT / "outputs"


def test_a_password_is_never_shown() -> None:
    resolved = settings(
        environ={"I2V_PASSWORD": "hush", "I2V_ADMIN_PASSWORD": "hushhush", "I2V_GUEST_PASSWORD": "hush!"}
    )
    assert (resolved.password, resolved.admin_password, resolved.guest_password) == ("hush", "hushhush", "hush!")
    assert "hush" not in repr(resolved) + str(resolved.to_json())


def test_settings_say_what_the_probe_looks_at(tmp_path: Path) -> None:
    resolved, probe = settings_and_probe(config_path=tmp_path / "none", environ={}, overrides={"simulate_gib": "6"})
    reading = probe.read()
    assert reading.gpu is not None
    assert (reading.gpu.total_bytes, resolved.preset, resolved.simulate_gib) == (6 * 2**30, "06gb", 6.0)
    resolved, probe = settings_and_probe(config_path=tmp_path / "none", environ={}, overrides={"cpu": True})
    assert (probe.read().gpu, resolved.preset) == (None, "cpu")


# --- mistakes ---


@pytest.mark.parametrize(
    ("text", "message_id", "fragments"),
    [
        ("prot: 1", "settings.unknown_key_near", ["config.yaml", "prot", "port"]),
        ("zzz: 1", "settings.unknown_key", ["config.yaml", "zzz", "chunk_frames"]),
        ("port: high", "settings.bad_whole", ["config.yaml: port", "high", "1 to 65535"]),
        ("port: 70000", "settings.bad_whole", ["config.yaml: port", "70000"]),
        ("port: true", "settings.bad_whole", ["config.yaml: port"]),
        ("port: 80.5", "settings.bad_whole", ["config.yaml: port", "80.5"]),
        ("port: auto", "settings.bad_whole", ["config.yaml: port"]),
        ("port: [1]", "settings.bad_whole", ["config.yaml: port"]),
        ("max_frames: .nan", "settings.bad_whole_or_auto", ["config.yaml: max_frames", "nan", "auto"]),
        ("chunk_frames: -1", "settings.bad_whole_or_auto", ["config.yaml: chunk_frames", "0 to 1024"]),
        ("precision: float17", "settings.bad_choice_near", ["float17", "float1", "bfloat16", "auto"]),
        ("cfg: neither", "settings.bad_choice", ["config.yaml: cfg", "batch, split, auto"]),
        ("preset: 06g", "settings.bad_choice_near", ["config.yaml: preset", "06gb"]),
        ("preset: [06gb]", "settings.bad_choice", ["config.yaml: preset"]),
        ("offline: perhaps", "settings.bad_switch", ["config.yaml: offline", "true or false"]),
        ("password: 0123", "settings.bad_text", ["config.yaml: password", "quotes"]),
        ("max_pixels: 512x", "settings.bad_area_or_auto", ["config.yaml: max_pixels", "512x512"]),
        ("max_pixels: -512x-512", "settings.bad_area_or_auto", ["config.yaml: max_pixels"]),
        ("hf_endpoint: mirror.example", "settings.bad_url", ["config.yaml: hf_endpoint", "https://"]),
        ("gpu: -1", "settings.bad_gpu", ["config.yaml: gpu"]),
        ("models_dir: 3", "settings.bad_folder", ["config.yaml: models_dir"]),
        ("model_folders: 3", "settings.bad_folders", ["config.yaml: model_folders"]),
        ("model_folders: [3]", "settings.bad_folder", ["config.yaml: model_folders"]),
        ("simulate_gib: .inf", "settings.bad_number", ["config.yaml: simulate_gib"]),
        ("cpu: true\ngpu: 0", "settings.gpu_and_cpu", ["config.yaml"]),
        ("port: 1\nport: 2", "settings.duplicate_key", ["config.yaml, line 2", "port"]),
        ("port:\t1", "settings.yaml_tab", ["config.yaml, line 1"]),
        ("a: 1\n\tport: 1", "settings.yaml_tab", ["config.yaml, line 2"]),
        ("port: [1", "settings.bad_yaml", ["config.yaml, line 1"]),
        ("port: 1: 2", "settings.bad_yaml", ["config.yaml, line 1"]),
        ("port: 1\x00", "settings.bad_yaml", ["config.yaml, line 1"]),
        ("- port", "settings.not_mapping", ["config.yaml"]),
        ("just words", "settings.not_mapping", ["config.yaml"]),
        ("port: 2026-99-99", "settings.not_mapping", ["config.yaml"]),
        ("port: !!python/object/apply:os.system [true]", "settings.bad_yaml", ["config.yaml, line 1"]),
        ("port: 1".encode("utf-16"), "settings.not_utf8", ["config.yaml", "UTF-8"]),
        (b"fit: caf\xe9", "settings.not_utf8", ["config.yaml", "UTF-8"]),
    ],
)
def test_a_mistake_in_config_is_named(text: str | bytes, message_id: str, fragments: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        settings(config=config(tmp_path, text))
    assert caught.value.message.id == message_id
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == []


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", b"\xef\xbb\xbfport: 81\n", "port:\nfit:\n"])
def test_what_editors_leave_is_read(text: str | bytes, tmp_path: Path) -> None:
    assert settings(config=config(tmp_path, text)).port in (7860, 81)


def test_a_config_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        settings(config=tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("environ", "message_id", "fragments"),
    [
        ({"CHUNK_SIZE": "four"}, "settings.bad_whole_or_auto", ["CHUNK_SIZE", "four"]),
        ({"USE_FP16": "1", "USE_BF16": "1"}, "settings.two_precisions", ["USE_FP16", "USE_BF16"]),
        ({"USE_FP16": "maybe"}, "settings.bad_switch", ["USE_FP16", "maybe"]),
        ({"I2V_PROT": "1"}, "settings.unknown_key_near", ["environment", "I2V_PROT", "I2V_PORT"]),
        ({"I2V_PORT": "x"}, "settings.bad_whole", ["I2V_PORT", "x"]),
        ({"I2V_PRESET": "huge"}, "settings.bad_choice", ["I2V_PRESET", "huge", "24gb"]),
    ],
)
def test_a_mistake_in_the_environment_is_named(environ: dict[str, str], message_id: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        settings(environ=environ)
    assert caught.value.message.id == message_id
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("key", "raw", "flag"),
    [("chunk_frames", "x", "--chunk-frames"), ("outputs_dir", "", "--out"), ("simulate_gib", "0", "--simulate")],
)
def test_a_mistake_on_the_command_line_names_the_flag(key: str, raw: str, flag: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(**{key: raw})
    assert str(caught.value).startswith(f"{flag} cannot be")


@given(st.integers(-(10**30), 10**30))
def test_a_whole_number_is_read_however_it_is_written(number: int) -> None:
    assert whole(number) == whole(str(number)) == whole(f" {number} ") == number
    if abs(number) < 2**53:
        assert whole(float(number)) == whole(f"{number}.0") == number


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from(sorted(KEYS)), ANYTHING)
def test_any_value_is_either_taken_or_refused_in_words(name: str, value: object) -> None:
    with suppress_user_error() as refusal:
        KEYS[name].kind.parse(value, f"config.yaml: {name}")
    for text in refusal:
        assert f"config.yaml: {name}" in text


@given(ANYTHING)
def test_what_a_message_shows_is_short_and_printable(value: object) -> None:
    assert len(shown(value)) <= 61
    assert shown(value).isprintable()


def test_a_number_too_long_to_write_out_is_refused_in_words() -> None:
    with pytest.raises(UserError) as caught:
        KEYS["port"].kind.parse(10**5000, "port")
    assert "port cannot be int" in str(caught.value)


@pytest.mark.parametrize(("written", "preset"), [("06gb", "06gb"), ("6gb", "06gb"), ("8GB", "08gb"), ("CPU", "cpu")])
def test_a_preset_may_be_written_as_people_do(written: str, preset: str) -> None:
    assert settings(no_card(), preset=written).preset == preset
