"""The settings in force: preset < config.yaml < environment < command line < a request's own choices.

`load_settings` resolves them once, for a machine as probed; `Settings.with_overrides` puts a request's choices on
top. `settings_and_probe` is the way in for a program, since some settings (which card, a simulated size) decide
what the probe looks at. Every value remembers who set it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from i2v.hardware.probe import GIB, MemoryProbe, Probe
from i2v.messages import Message, UserError, message
from i2v.plan import Attention, CfgMode, Offload, Policy, Precision
from i2v.request import AUTO, Fit, PlanOptions
from i2v.settings.keys import KEYS, PRESET_KEYS, flag_of
from i2v.settings.values import Choice, Folders, Number, Switch, listed, nearest
from i2v.settings.yaml_file import read_mapping

ROOT = Path(__file__).resolve().parents[2]
PRESETS_DIR = ROOT / "presets"
CONFIG_PATH = ROOT / "config.yaml"

_ENV_PREFIX = "I2V_"
# Names people know from elsewhere; the I2V_ name of the same setting wins over them.
_ENV_ALIASES = {"CHUNK_SIZE": "chunk_frames", "HF_ENDPOINT": "hf_endpoint", "HF_HUB_OFFLINE": "offline"}
_OTHER_VARIABLES = ("I2V_TORCH_INDEX",)  # read by the set-up, before there are settings
_NEEDS = "needs_free_gib"
_PASSWORDS = ("password", "admin_password", "guest_password")


@dataclass(frozen=True)
class Settings:
    """Every setting, resolved. Counts of 0 in `chunk_frames`, `chunk_pixels`, `chunk_tokens`, `decode_frames` and
    `decode_rows` mean all at once.

    `max_pixels` (width * height), `max_frames` and `max_steps` bound what "auto" picks, not what a person may ask.
    `sources` says who set each key: "preset 06gb", "config.yaml", "environment CHUNK_SIZE", "command line",
    "request", "probe" (a preset picked from free memory) or "default".
    """

    preset: str
    precision: Precision
    chunk_frames: int
    chunk_pixels: int
    chunk_tokens: int
    cfg: CfgMode
    offload: Offload
    decode_frames: int
    decode_rows: int
    vae_window: str
    max_pixels: int
    max_frames: int
    max_steps: int
    policy: Policy
    step_cache: float
    flow_shift: float | None
    motion_bucket_id: int | None
    noise_aug_strength: float | None
    min_guidance_scale: float | None
    attention: Attention
    model: str
    fit: Fit
    models_dir: Path
    model_folders: tuple[Path, ...]
    outputs_dir: Path
    logs_dir: Path
    host: str
    port: int
    password: str | None = field(repr=False)
    admin_password: str | None = field(repr=False)
    guest_password: str | None = field(repr=False)
    tls_cert: Path | None
    tls_key: Path | None
    language: str
    max_upload_mb: int
    max_picture_megapixels: int
    max_queue: int
    max_queue_per_owner: int
    max_jobs_per_minute: int
    checkpoint_seconds: float
    hang_seconds: float | None
    lend_card: bool
    preload: bool
    bin_days: float
    bin_gib: float
    latents_gib: float
    cache_gib: float
    hf_endpoint: str | None
    offline: bool
    gpu: str | None
    cpu: bool
    simulate_gib: float | None
    sources: Mapping[str, str]
    listed_models_only: bool = False
    """Whether a request may name no folder of this computer as its model: so for a page that others come to. Nobody
    sets it by hand."""

    def with_overrides(self, options: PlanOptions) -> Settings:
        """These settings with a request's own choices on top. Another preset changes what the old preset gave and
        nothing else. Raises UserError for a value that cannot be."""
        chosen = {name: value for name, value in vars(options).items() if value not in (None, AUTO)}
        values = {name: getattr(self, name) for name in KEYS}
        sources = dict(self.sources)
        if "preset" in chosen and chosen["preset"] != self.preset:
            values["preset"] = _check_preset(chosen.pop("preset"), "preset")
            sources["preset"] = "request"
            from_preset = [name for name in PRESET_KEYS if sources[name] == preset_source(self.preset)]
            values |= {name: read_preset(values["preset"])[name] for name in from_preset}
            sources |= dict.fromkeys(from_preset, preset_source(values["preset"]))
        chosen.pop("preset", None)
        for name, value in chosen.items():
            values[name] = KEYS[name].kind.parse(value, name)
            sources[name] = "request"
        return replace(self, **values, sources=sources)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values with their sources; passwords are only said to be there."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        plain["model_folders"] = [str(folder) for folder in self.model_folders]
        hidden = {name: "********" if values[name] else None for name in _PASSWORDS}
        return {**plain, **hidden, "sources": dict(self.sources)}


def load_settings(
    *,
    probe: Probe,
    config_path: Path = CONFIG_PATH,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] = {},
) -> Settings:
    """The settings in force on the machine that `probe` saw. `overrides` are the command line's, by key; None means
    not given. A missing `config_path` sets nothing. Raises UserError naming file, variable or flag, key, and what
    is allowed."""
    return _resolve(_explicit(config_path, environ, overrides), probe)


def settings_and_probe(
    *,
    config_path: Path = CONFIG_PATH,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] = {},
) -> tuple[Settings, MemoryProbe]:
    """The settings together with the probe they ask for: that card, no card, or a simulated one."""
    explicit = _explicit(config_path, environ, overrides)

    def value(name: str) -> Any:
        return explicit[name].value if name in explicit else KEYS[name].default

    disk_path = ROOT / value("outputs_dir")
    probe = MemoryProbe(cap_gib=value("simulate_gib"), gpu=value("gpu"), cpu=value("cpu"), disk_path=disk_path)
    return _resolve(explicit, probe.read()), probe


def preset_names() -> list[str]:
    """The presets there are: one per file in presets/."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """A preset's values, every preset-owned key, and `needs_free_gib` (0 for one that wants no card).
    Raises UserError naming file and key."""
    path = PRESETS_DIR / f"{name}.yaml"
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError:
        changed_ns = 0
    return dict(_read_preset(path, changed_ns))


@lru_cache(64)
def _read_preset(path: Path, changed_ns: int) -> dict[str, Any]:
    """A preset as the file at `path` has it since `changed_ns`: the page asks for it at every change of the form."""
    file = f"presets/{path.name}"
    values = read_mapping(path, file)
    kinds = {_NEEDS: Number(0, 1024)} | {key: replace(KEYS[key].kind, auto=False) for key in PRESET_KEYS}
    for key in values:
        _check_known(key, kinds, file)
    missing = [key for key in kinds if values.get(key) is None]
    if missing:
        raise UserError("settings.preset_incomplete", file=file, keys=listed(missing))
    return {key: kind.parse(values[key], f"{file}: {key}") for key, kind in kinds.items()}


def pick_preset(probe: Probe) -> str:
    """The preset for what is free right now: the one with the largest need that the chosen card's free memory
    covers; the smallest for a card that covers none (`preset_notes` warns); "cpu" without a card."""
    if probe.gpu is None:
        return "cpu"
    needs = sorted((read_preset(name)[_NEEDS], name) for name in preset_names())
    for_cards = [(need, name) for need, name in needs if need > 0]
    covered = [name for need, name in for_cards if need * GIB <= _free_bytes(probe)]
    return covered[-1] if covered else for_cards[0][1]


def preset_notes(preset: str, probe: Probe) -> tuple[Message, ...]:
    """What a person should know about running `preset` on this machine now; empty when all is well."""
    need = read_preset(preset)[_NEEDS]
    if probe.gpu is None:
        return (message("settings.preset_without_card", preset=preset),) if need > 0 else ()
    free = _free_bytes(probe)
    if free >= need * GIB:
        return ()
    return (message("settings.preset_short", preset=preset, needs=f"{need:g}", free=f"{free / GIB:.1f}"),)


@dataclass(frozen=True)
class _Given:
    value: Any
    source: str


def _explicit(config_path: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> dict[str, _Given]:
    """What people set, parsed, the strongest source per key; "auto" undoes what a weaker source said."""
    explicit: dict[str, _Given] = {}
    for source, name, key, raw in (
        *_from_config(config_path),
        *_from_environment(environ),
        *_from_command_line(overrides),
    ):
        if KEYS[key].auto and isinstance(raw, str) and raw.strip().lower() == AUTO:
            explicit.pop(key, None)
        elif key == "preset":
            explicit[key] = _Given(_check_preset(raw, name), source)
        else:
            value = KEYS[key].kind.parse(raw, name)
            # A folder is meant from where it is written: the configuration file, or the shell.
            written_in = config_path.parent if source == config_path.name else Path.cwd()
            if isinstance(value, Path):
                value = written_in / value
            elif isinstance(KEYS[key].kind, Folders):
                value = tuple(written_in / folder for folder in value)
            explicit[key] = _Given(value, source)
    if "gpu" in explicit and "cpu" in explicit and explicit["cpu"].value:
        raise UserError("settings.gpu_and_cpu", gpu_source=explicit["gpu"].source, cpu_source=explicit["cpu"].source)
    return explicit


def _resolve(explicit: Mapping[str, _Given], probe: Probe) -> Settings:
    preset = explicit.get("preset") or _Given(pick_preset(probe), "probe")
    from_preset = read_preset(preset.value)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, key in KEYS.items():
        if name == "preset":
            given = preset
        elif name in explicit:
            given = explicit[name]
        elif key.preset_owned:
            given = _Given(from_preset[name], preset_source(preset.value))
        else:
            default = ROOT / key.default if name.endswith("_dir") else key.default
            given = _Given(default, "default")
        values[name], sources[name] = given.value, given.source
    return Settings(**values, sources=sources)


_Row = tuple[str, str, str, Any]  # source, name to show, key, raw value


def _from_config(path: Path) -> list[_Row]:
    if not path.exists():
        return []
    rows = []
    for key, raw in read_mapping(path, path.name).items():
        _check_known(key, KEYS, path.name)
        if raw is not None:
            rows.append((path.name, f"{path.name}: {key}", key, raw))
    return rows


def _from_environment(environ: Mapping[str, str]) -> list[_Row]:
    """Variables that are set and not empty: the names known from elsewhere first, then I2V_<KEY>."""
    given = {name: raw for name, raw in environ.items() if raw.strip()}
    rows = []
    for variable, key in _ENV_ALIASES.items():
        if variable in given:
            rows.append((f"environment {variable}", variable, key, given[variable]))
    precision = _precision_switches(given)
    if precision:
        rows.append(precision)
    by_variable = {_ENV_PREFIX + key.upper(): key for key in KEYS}
    for variable, raw in given.items():
        if variable.startswith(_ENV_PREFIX) and variable not in _OTHER_VARIABLES:
            _check_known(variable, by_variable, "environment")
            rows.append((f"environment {variable}", variable, by_variable[variable], raw))
    return rows


def _precision_switches(given: Mapping[str, str]) -> _Row | None:
    """USE_FP16 and USE_BF16: on chooses that precision; USE_FP16 off, alone, asks for float32."""
    switches = {name: Switch().parse(given[name], name) for name in ("USE_FP16", "USE_BF16") if name in given}
    fp16, bf16 = switches.get("USE_FP16"), switches.get("USE_BF16")
    if fp16 and bf16:
        raise UserError("settings.two_precisions")
    if bf16:
        return ("environment USE_BF16", "USE_BF16", "precision", "bfloat16")
    if fp16 is not None:
        return ("environment USE_FP16", "USE_FP16", "precision", "float16" if fp16 else "float32")
    return None


def _from_command_line(overrides: Mapping[str, Any]) -> list[_Row]:
    rows = []
    for key, raw in overrides.items():
        _check_known(key, KEYS, "command line")
        if raw is not None:
            rows.append(("command line", flag_of(key), key, raw))
    return rows


def _check_known(key: str, known: Mapping[str, Any], where: str) -> None:
    if key in known:
        return
    near = nearest(key, known)
    if near:
        raise UserError("settings.unknown_key_near", where=where, key=key, near=near)
    raise UserError("settings.unknown_key", where=where, key=key, known=listed(known))


def _check_preset(raw: Any, name: str) -> str:
    names = tuple(preset_names())
    return Choice(names, aliases={known.lstrip("0"): known for known in names}, auto=True).parse(raw, name)


def preset_source(preset: str) -> str:
    return f"preset {preset}"


def _free_bytes(probe: Probe) -> int:
    """Free memory of the chosen card; its size where the driver does not say, else 0."""
    if probe.gpu is None:
        return 0
    return next((n for n in (probe.gpu.free_bytes, probe.gpu.total_bytes) if n is not None), 0)
