#!/usr/bin/env bash
# .venv-peers: what the benchmarks compare with (transformers, TRL), apart from .venv so that their needs cannot change ours.
# Idempotent; takes the torch that .venv has.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=(transformers==5.23.0 trl==1.16.0 accelerate==1.15.0 datasets==5.2.0 gguf==0.19.0)
scripts/setup.sh
torch=$(.venv/bin/python scripts/requirements.py torch)
stamp="$torch ${requirements[*]}"
if [ "$(cat .venv-peers/.rft-peers 2>/dev/null)" = "$stamp" ]; then
  echo "peers: .venv-peers is up to date" >&2
  exit 0
fi
echo "peers: making .venv-peers with $stamp" >&2
rm -rf .venv-peers
"$(.venv/bin/python -c 'import sys; print(sys._base_executable)')" -m venv .venv-peers
pip=(.venv-peers/bin/python -m pip install -qq --disable-pip-version-check)
"${pip[@]}" "$torch"
"${pip[@]}" "${requirements[@]}"
echo "$stamp" > .venv-peers/.rft-peers
echo "peers: ready; make bench now measures them beside ours" >&2
