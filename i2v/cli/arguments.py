"""The words of the command line, taken apart. Values stay as typed: settings and requests know what is allowed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from i2v import __version__
from i2v.cli.exits import Exit
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.prepare import FINISH_KEYS, PLAN_KEYS
from i2v.jobs.job.exports import EXPORT_KEYS
from i2v.messages import UserError, message
from i2v.settings.keys import flag_of
from i2v.settings.values import listed, nearest
from i2v.training.asked import KEYS as TRAIN_FLAGS

Say = Callable[..., str]
"""`say(name, **params)`: the text `cli.<name>` in the reader's language."""

REQUEST_FLAGS = (
    *("model", "image", "last_image", "prompt", "negative", "width", "height", "frames", "fps", "steps", "guidance"),
    *("seed", "true_guidance", "task", "video", "strength", "fit", "region", "way", "lora", "image_at"),
    *("scheduler", "betas", "guidance_rescale", "guidance_curve", "two_stages"),
    *FAMILY_SETTINGS,
    *FINISH_KEYS,
)
RETRY_FLAGS = tuple(flag for flag in REQUEST_FLAGS if flag not in ("image", "last_image", "image_at", "video", "task"))
REDECODE_FLAGS = ("fps", *FINISH_KEYS)
EXTEND_FLAGS = ("seconds",)
SEVERAL = ("lora", "image_at")
SWITCHES = ("deflicker", "match_colours")
JOB_COMMANDS = ("retry", "redecode", "extend", "pause", "resume", "export", "steadiness")
PLANNED_FLAGS = (
    *("model", "task", "prompt", "width", "height", "frames", "steps", "guidance", "true_guidance", "lora"),
    *("scheduler", "two_stages"),
    *FINISH_KEYS,
)
MODEL_ACTIONS = (
    *("list", "download", "downloads", "pause", "resume", "cancel"),
    *("where", "verify", "remove", "import", "loras"),
)
MODELS_FLAGS = ("action", "name", "how", "base", "part", "quick", "bin", "yes")
ELSEWHERE_FLAGS = ("vram", "ram", "gpu_name")
MACHINE_KEYS = ("outputs_dir", "models_dir", "gpu", "simulate_gib", "attention", "language")
_JSON_HELP = {
    **dict.fromkeys(("generate", "retry", "redecode", "extend"), "help_generate_json"),
    **dict.fromkeys(("probe", "jobs", "models", "steadiness"), "help_probe_json"),
    "train": "help_train_json",
    "plan": "help_plan_json",
}
_METAVARS = {
    **dict.fromkeys(("outputs_dir", "models_dir"), "DIR"),
    **dict.fromkeys(("image", "last_image", "video", "region"), "FILE"),
    "lora": "FILE:WEIGHT",
    "image_at": "FRAME:FILE",
    "way": "X,Y",
    "prompt": "TEXT",
    "negative": "TEXT",
    "model": "NAME",
    "preset": "NAME",
    "simulate_gib": "GIB",
    "vram": "GIB",
    "ram": "GIB",
    "gpu_name": "NAME",
    "gpu": "N|UUID",
    "cfg": "batch|split",
    "offload": "resident|staged|streamed",
    "fit": "crop|crop_left|crop_right|crop_top|crop_bottom|pad",
    "vae_window": "own|FRAMESxROWSxCOLUMNS",
    **dict.fromkeys(("scheduler", "betas"), "NAME"),
    "guidance_curve": "constant|falling|rising|cosine",
    "two_stages": "auto|on|off",
    "policy": "lossless|balanced|smallest",
    "step_cache": "SHARE",
    "attention": "native|flash|sage|xformers",
    "task": "i2v|t2v|v2v",
    "format": "mp4|webm|gif|webp",
    "quality": "small|good|best",
    "interpolate": "1|2|4",
    "upscale": "1|2",
    "language": "en|zh-CN",
    "precision": "float32|float16|bfloat16",
    "host": "ADDRESS",
    "clips": "DIR",
    "name": "NAME",
    "trigger": "WORDS",
    "recompute": "none|some|all",
    "optimizer": "adamw|adamw8bit",
}


_OTHERWISE_IN_TRAINING = ("width", "height", "frames", "fps", "seed", "steps", "prompt", "image")
"""Words that mean something else there than for a video."""


@dataclass(frozen=True)
class Arguments:
    """What was typed. `overrides` are settings by key; `values` are a request's, by its keys."""

    command: str
    json: bool = False
    explain: bool = False
    table: bool = False
    mcp: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None
    job: str = ""


def parse(argv: Sequence[str], locale: str) -> Arguments:
    """Take `argv` apart. Raises UserError for what is not understood, SystemExit after --help and --version."""
    parser, commands = _build(locale)
    try:
        typed, extra = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise _usage_error(error, argv, commands) from None
    if typed.command is None:
        parser.print_help()
        raise SystemExit(Exit.BAD_INPUT)
    if extra:
        raise _unknown(extra[0], typed.command, commands[typed.command])
    given = {key: value for key, value in vars(typed).items() if value is not None}
    if given.pop("listen", False):
        given["host"] = "0.0.0.0"
    in_request = {
        "generate": (*REQUEST_FLAGS, *PLAN_KEYS),
        "plan": (*PLANNED_FLAGS, *PLAN_KEYS, *ELSEWHERE_FLAGS),
        "retry": (*RETRY_FLAGS, *PLAN_KEYS),
        "redecode": (*REDECODE_FLAGS, "decode_frames", "decode_rows", "vae_window"),
        "extend": EXTEND_FLAGS,
        "export": EXPORT_KEYS,
        "models": MODELS_FLAGS,
        "train": (*TRAIN_FLAGS, "precision"),
    }.get(typed.command, ())
    values = {key: given.pop(key) for key in in_request if key in given}
    return Arguments(
        command=given.pop("command"),
        json=given.pop("json", False),
        explain=given.pop("explain", False),
        table=given.pop("table", False),
        mcp=given.pop("mcp", False),
        file=given.pop("file", None),
        job=given.pop("job", ""),
        overrides=given,
        values=values,
    )


class _Parser(argparse.ArgumentParser):
    """Leaves every error to `parse`, and says the few words of its own in the reader's language."""

    def __init__(self, say: Say, **kwargs: Any) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=lambda prog: _Formatter(say("usage"), prog),
            **kwargs,
        )
        self.flags = self.add_argument_group(say("options"))
        self.flags.add_argument("-h", "--help", action="help", help=say("help_help"))

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, usage: str, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)
        self._usage_word = usage

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, f"{self._usage_word} ")


def _build(locale: str) -> tuple[_Parser, dict[str, _Parser]]:
    def say(name: str, **params: Any) -> str:
        return message(f"cli.{name}", **params).render(locale)

    parser = _Parser(say, prog="python -m i2v", description=say("about"), epilog=say("exit_codes"))
    parser.flags.add_argument("--version", action="version", version=f"I2V {__version__}", help=say("help_version"))
    subparsers = parser.add_subparsers(dest="command", title=say("commands"), metavar=say("command"))
    commands: dict[str, _Parser] = {}
    for name in ("generate", "plan", "models", "probe", "doctor", "serve", "show", "jobs", *JOB_COMMANDS, "train"):
        about = say(f"about_{name}")
        commands[name] = subparsers.add_parser(
            name, say=say, help=about, description=about, epilog=say("exit_codes"), prog=f"python -m i2v {name}"
        )
    commands["show"].add_argument("file", nargs="?", metavar="FILE", help=say("help_file"))
    _add(commands["show"], ("language",), say)
    _add_models(commands["models"], say)
    for key in REQUEST_FLAGS:
        _add_value(commands["generate"], key, say)
    for name in JOB_COMMANDS:
        named, words = ("ID|FILE", "help_job_or_file") if name == "steadiness" else ("ID", "help_job")
        commands[name].add_argument("job", nargs="?", metavar=named, help=say(words))
    again = {"retry": RETRY_FLAGS, "redecode": REDECODE_FLAGS, "extend": EXTEND_FLAGS, "export": EXPORT_KEYS}
    for name, keys in again.items():
        for key in keys:
            _add_value(commands[name], key, say)
    commands["export"].flags.add_argument("--to", dest="file", metavar="FILE", help=say("help_to"))
    commands["steadiness"].flags.add_argument("--csv", dest="file", metavar="FILE", help=say("help_csv"))
    for name in ("jobs", "pause", "resume", "export", "steadiness"):
        _add(commands[name], ("outputs_dir", "language"), say)
    for key in (*PLANNED_FLAGS, *ELSEWHERE_FLAGS):
        _add_value(commands["plan"], key, say)
    commands["plan"].flags.add_argument("--explain", action="store_true", help=say("help_explain"))
    commands["plan"].flags.add_argument("--table", action="store_true", help=say("help_table"))
    for key in TRAIN_FLAGS:
        help_text = f"help_train_{key}" if key in _OTHERWISE_IN_TRAINING else f"help_{key}"
        commands["train"].flags.add_argument(
            f"--{key.replace('_', '-')}", dest=key, metavar=_metavar(key), help=say(help_text)
        )
    _add(commands["train"], ("precision", *MACHINE_KEYS), say)
    _add(commands["serve"], ("host", "port", "model"), say)
    commands["serve"].flags.add_argument("--listen", action="store_true", default=None, help=say("help_listen"))
    commands["serve"].flags.add_argument("--mcp", action="store_true", help=say("help_mcp"))
    for name in ("generate", "plan", "models", "probe", "doctor", "serve", "retry", "redecode", "extend", "train"):
        if name != "train":
            _add(commands[name], (*PLAN_KEYS, *MACHINE_KEYS), say)
        commands[name].flags.add_argument("--cpu", action="store_true", default=None, help=say("help_cpu"))
    for name, words in _JSON_HELP.items():
        commands[name].flags.add_argument("--json", action="store_true", help=say(words))
    return parser, commands


def _add_models(parser: _Parser, say: Say) -> None:
    """What `models` can do beside listing them."""
    parser.add_argument("action", nargs="?", metavar="|".join(MODEL_ACTIONS), help=say("help_models_action"))
    parser.add_argument("name", nargs="?", metavar="NAME|DIR|FILE", help=say("help_models_name"))
    for how in ("copy", "move", "link"):
        words = say(f"help_import_{how}")
        parser.flags.add_argument(f"--{how}", dest="how", action="store_const", const=how, help=words)
    parser.flags.add_argument("--base", metavar="NAME", help=say("help_import_base"))
    parser.flags.add_argument("--part", metavar="high|low", help=say("help_import_part"))
    for switch in ("quick", "bin", "yes"):
        words = say(f"help_models_{switch}")
        parser.flags.add_argument(f"--{switch}", action="store_true", default=None, help=words)


def _add_value(parser: _Parser, key: str, say: Say) -> None:
    """The flag of a request's value; what there may be several of is a list of all that were given. A switch is turned
    off by --no- before its name."""
    if key in SWITCHES:
        flags = (f"--{key.replace('_', '-')}",)
        action = argparse.BooleanOptionalAction
        parser.flags.add_argument(*flags, dest=key, action=action, default=None, help=say(f"help_{key}"))
        return
    action = "append" if key in SEVERAL else "store"
    flag = f"--{key.replace('_', '-')}"
    parser.flags.add_argument(flag, dest=key, action=action, metavar=_metavar(key), help=say(f"help_{key}"))


def _add(parser: _Parser, keys: Sequence[str], say: Say) -> None:
    """Flags that set a setting: `chunk_frames` as --chunk-frames."""
    for key in keys:
        parser.flags.add_argument(flag_of(key), dest=key, metavar=_metavar(key), help=say(f"help_{key}"))


def _metavar(key: str) -> str:
    return _METAVARS.get(key, "N")


def _usage_error(error: argparse.ArgumentError, argv: Sequence[str], commands: Mapping[str, _Parser]) -> UserError:
    """What argparse stumbled over, in our words."""
    flag = (error.argument_name or "").rpartition("/")[2]
    if not flag.startswith("-"):
        word = next((word for word in argv if not word.startswith("-")), "")
        return UserError("cli.unknown_command", command=word, commands=listed(commands))
    takes_nothing = any(flag in action.option_strings and action.nargs == 0 for action in _actions(commands))
    return UserError("cli.takes_no_value" if takes_nothing else "cli.value_missing", flag=flag)


def _unknown(word: str, command: str, parser: _Parser) -> UserError:
    flags = [option for action in _actions({command: parser}) for option in action.option_strings]
    near = nearest(word.partition("=")[0], flags) if word.startswith("-") else None
    if near:
        return UserError("cli.unknown_flag_near", flag=word, command=command, near=near)
    return UserError("cli.unknown_flag", flag=word, command=command)


def _actions(commands: Mapping[str, _Parser]) -> list[argparse.Action]:
    return [action for parser in commands.values() for action in parser._actions]
