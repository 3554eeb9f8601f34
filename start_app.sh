#!/usr/bin/env bash
# Starts I2V; the first start sets everything up. Flags: bash start_app.sh --help
export START_APP_CALLED_FROM=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1

# Bash falls back to a usual PATH where none is set; its children should know it too.
export PATH

case "$(uname -s)" in
  MINGW* | MSYS* | CYGWIN*)
    echo "This runs on Linux. On Windows install WSL2 (in a terminal: wsl --install), then start it there: bash start_app.sh" >&2
    exit 1
    ;;
esac

# The app has a Python environment of its own: what is meant for another Python can only stop it. The launcher says so.
for name in "${!PYTHON@}"; do
  case $name in PYTHON | PYTHONUNBUFFERED | PYTHONDONTWRITEBYTECODE | PYTHONFAULTHANDLER) continue ;; esac
  [ -z "${!name}" ] || START_APP_IGNORED="${START_APP_IGNORED:+$START_APP_IGNORED, }$name"
  unset "$name"
done
export START_APP_IGNORED

# The first Python that is new enough and can make environments.
python=""
for candidate in .venv/bin/python python3 python3.12 python3.11 python3.13 python3.14; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in
    zh*) echo "需要带有 venv 模块的 Python 3.11 或更新版本。Debian 和 Ubuntu 请运行：apt install python3 python3-venv" >&2 ;;
    *) echo "Python 3.11 or newer with its venv module is needed. On Debian and Ubuntu run: apt install python3 python3-venv" >&2 ;;
  esac
  exit 1
fi

# A proxy must not stand between this machine and itself.
for name in no_proxy NO_PROXY; do
  export "$name=${!name:+${!name},}localhost,127.0.0.1,::1"
done
export GRADIO_ANALYTICS_ENABLED=False HF_HUB_DISABLE_TELEMETRY=1
# Cards are numbered as the driver numbers them.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

# The app runs in a process group of its own, so that Ctrl-C reaches it once, through here.
set -m
child="" signalled=""
forward() {
  signalled=yes
  [ -z "$child" ] || kill -"$1" -- "-$child" 2>/dev/null
}
trap 'forward INT' INT
trap 'forward TERM' TERM
trap 'forward HUP' HUP
while :; do
  "$python" -m i2v.setup.launcher "$@" </dev/null &
  child=$!
  # A signal cuts the wait short; then wait again for the real exit code.
  while signalled=""; wait "$child"; code=$?; [ -n "$signalled" ]; do :; done
  # 42 is the app asking to be started again.
  [ "$code" -eq 42 ] || exit "$code"
  export START_APP_RESTARTED=1
done
