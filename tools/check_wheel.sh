#!/bin/sh
# Build the wheel into dist/, check it, install it into an empty environment, and use it there, away from this tree.
# CPU=1 takes PyTorch's CPU build; CPU_TORCH names another place for it, as in the Makefile.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${PYTHON:-python3} -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build twine
rm -rf dist
"$work/tools/bin/python" -m build --outdir dist .
"$work/tools/bin/python" -m twine check --strict dist/*

${PYTHON:-python3} -m venv "$work/empty"
if [ -n "${CPU:-}" ]; then
  # shellcheck disable=SC2086
  "$work/empty/bin/python" -m pip install --quiet \
    ${CPU_TORCH:-torch torchvision --index-url https://download.pytorch.org/whl/cpu}
fi
"$work/empty/bin/python" -m pip install --quiet dist/*.whl
cd "$work"
export APMCTL_HOME="$work/store" PATH="$work/empty/bin:$PATH"
apmctl doctor
apmctl distill digits --ipc 1
apmctl eval digits-ipc1 --labels soft --min-accuracy 0.6
