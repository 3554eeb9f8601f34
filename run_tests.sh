#!/usr/bin/env bash
# All checks and all tests, on a fresh clone as on an old one. What follows goes to pytest: bash run_tests.sh -k probe
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1
export PATH

bash start_app.sh --setup-only --dev || exit

# The browser tests drive Debian's Chromium; without it they are skipped, and this says so.
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests ..."
  mkdir -p logs
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-noto-cjk; } \
    >logs/chromium.log 2>&1 || echo "Chromium could not be installed; see logs/chromium.log"
fi
command -v chromium >/dev/null || echo "NOTE: no Chromium on this machine, so the browser tests WILL BE SKIPPED."
command -v cc >/dev/null || command -v gcc >/dev/null || echo "NOTE: no C compiler on this machine, so the probe tests WILL BE SKIPPED."

# One computing thread for each process: the tests start several, and threads beyond the cores only wait.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# The developer's own settings must not decide what a test sees.
unset CHUNK_SIZE USE_FP16 USE_BF16 "${!I2V_@}"

python=.venv/bin/python
failed=0
"$python" -m ruff check . || failed=1
"$python" -m ruff format --check --quiet . || { echo "Not formatted; run: $python -m ruff format ."; failed=1; }
# Two at a time, each file in one of them.
"$python" -m pytest -rs --durations=30 --durations-min=4 -n 2 --dist loadfile --no-loadscope-reorder "$@" || failed=1
exit "$failed"
