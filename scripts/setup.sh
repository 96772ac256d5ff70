#!/usr/bin/env bash
# Makes this folder ready to build: system packages, .venv with torch and the rest, and the `rft` command in .venv/bin.
# Idempotent: does only what is missing, says what it does, and stops with the fix when something cannot be had.
#
#   RFT_PYTHON=/path/python3   the Python to make .venv from (default: python3, 3.11 or newer)
#   RFT_SKIP_APT=1             do not look at system packages (they are installed some other way)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$1" >&2; shift; for line in "$@"; do printf 'setup:   fix: %s\n' "$line" >&2; done; exit 1; }

stamp_file=.venv/.rft-setup
MIN_MEMORY_GIB=4
MIN_DISK_GIB=6

# --- 1. Operating system and system packages ---------------------------------------------------------------------------
packages() {
  echo build-essential cmake ninja-build ccache mold git
  echo libabsl-dev libre2-dev libyaml-cpp-dev libspdlog-dev libssl-dev libsqlite3-dev libcld2-dev libseccomp-dev bubblewrap libgtest-dev libgmock-dev
  echo curl apache2-utils  # clients that the server's tests use
  # Boost 1.81 or newer. Debian 12 has it beside its default 1.74, under its own name.
  if dpkg -s libboost-json1.81-dev >/dev/null 2>&1 || apt-cache show libboost-json1.81-dev >/dev/null 2>&1; then
    echo libboost1.81-dev libboost-json1.81-dev
  else
    echo libboost-dev libboost-json-dev
  fi
  # Python from the system unless a good one is there already (pyenv, conda, ...).
  if [ -z "$(find_python)" ]; then echo python3 python3-venv python3-dev; fi
}

python_is_good() {
  "$1" - <<'PY' >/dev/null 2>&1
import ensurepip, os, sys, sysconfig, venv
ok = (3, 11) <= sys.version_info[:2] <= (3, 14) and os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
sys.exit(0 if ok else 1)
PY
}

find_python() {
  local candidate
  for candidate in ${RFT_PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 && python_is_good "$candidate"; then command -v "$candidate"; return; fi
  done
}

missing_packages() {
  local package
  for package in $(packages); do
    dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' || echo "$package"
  done
}

install_packages() {
  local missing as_root=""
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "this is $(uname -s) on $(uname -m); rft builds on Linux x86_64" "use a Linux x86_64 machine or container"
  [ -z "${RFT_SKIP_APT:-}" ] || return 0
  command -v dpkg >/dev/null && command -v apt-get >/dev/null || die "no apt-get here: not Debian or Ubuntu" \
    "install a C++20 compiler, cmake >= 3.25, ninja, Boost >= 1.81 (JSON), Abseil, RE2, yaml-cpp, spdlog, OpenSSL, SQLite, CLD2, libseccomp, bubblewrap, GoogleTest and Python >= 3.11 with headers, then run RFT_SKIP_APT=1 $0"
  missing=$(missing_packages | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "system packages are missing ($missing) and this is neither root nor a user with sudo" "as root: apt-get install $missing"
    as_root="sudo"
  fi
  say "installing system packages: $missing"
  $as_root apt-get update -qq || die "apt-get update failed: the package sources cannot be reached" "check the network or /etc/apt/sources.list, then run this again"
  missing=$(missing_packages | tr '\n' ' ')   # the fresh lists may offer a newer Boost
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null \
    || die "apt-get could not install: $missing" "run it by hand to see why: apt-get install $missing"
}

# --- 2. to 5. Network, compiler, memory, disk --------------------------------------------------------------------------
check_network() {  # only called when pip has something to fetch
  local folder; folder=$(mktemp -d)
  if ! "$1" -m pip download --quiet --no-deps --disable-pip-version-check --retries 1 --dest "$folder" idna >"$folder/log" 2>&1; then
    tail -n 3 "$folder/log" >&2; rm -rf "$folder"
    die "pip cannot reach its package index" "check the network, and a proxy or mirror if you use one (pip config list; HTTPS_PROXY)"
  fi
  rm -rf "$folder"
}

check_compiler() {
  local folder; folder=$(mktemp -d)
  printf '#include <concepts>\n#include <span>\n#include <version>\ntemplate <std::integral T> T f(T x) { return x; }\nint main() { return f(0); }\n' >"$folder/t.cc"
  if ! "${CXX:-c++}" -std=c++20 "$folder/t.cc" -o "$folder/t" >"$folder/log" 2>&1; then
    head -n 3 "$folder/log" >&2; rm -rf "$folder"
    die "no C++20 compiler: '${CXX:-c++} -std=c++20' does not build a small program" "apt-get install build-essential (GCC 12 or newer), or set CXX"
  fi
  rm -rf "$folder"
}

check_memory() {
  local kib limit
  kib=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)   # a container's own limit
  if [ "$limit" != max ] && [ $((limit / 1024)) -lt "$kib" ]; then kib=$((limit / 1024)); fi
  [ "$kib" -ge $((MIN_MEMORY_GIB * 1000 * 1000)) ] || die "only $((kib / 1024)) MiB of memory; building and the demo need $MIN_MEMORY_GIB GiB" "use a larger machine, or raise the container's limit"
}

check_disk() {
  local kib; kib=$(df -Pk . | awk 'NR==2 {print $4}')
  [ "$kib" -ge $((MIN_DISK_GIB * 1024 * 1024)) ] || die "only $((kib / 1024)) MiB free in $root; a first set-up needs $MIN_DISK_GIB GiB (torch, build, model)" "free some space, or put the folder on a larger disk"
}

# --- 6. .venv -------------------------------------------------------------------------------------------------------------
stamp() {  # what .venv was made for: the requirement lists, the interpreter, this folder
  { .venv/bin/python scripts/requirements.py torch runtime structured dev adapters; .venv/bin/python --version; echo "$root"; } | sha256sum | cut -d' ' -f1
}

install_python_packages() {
  if [ -e .venv ] && ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    say "the Python behind .venv is gone; making .venv anew"
    rm -rf .venv
  fi
  if [ ! -e .venv ]; then
    local python; python=$(find_python)
    [ -n "$python" ] || die "no Python 3.11 or newer with venv and headers" "apt-get install python3 python3-venv python3-dev, or set RFT_PYTHON"
    say "making .venv from $python"
    "$python" -m venv .venv
  fi
  [ "$(cat $stamp_file 2>/dev/null)" != "$(stamp)" ] || return 0

  check_network .venv/bin/python
  local pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check)
  # torch first and alone: its exact version decides what the rest may pull in.
  say "installing $(.venv/bin/python scripts/requirements.py torch) into .venv (a large download the first time)"
  .venv/bin/python scripts/requirements.py torch | "${pip[@]}" -r /dev/stdin || die "pip could not install torch (see above)" "check the disk and the network, then run this again"
  say "installing the other Python packages into .venv"
  .venv/bin/python scripts/requirements.py runtime dev | "${pip[@]}" -r /dev/stdin || die "pip could not install the packages of pyproject.toml (see above)" "check the network, then run this again"
  .venv/bin/python scripts/requirements.py structured | "${pip[@]}" --no-deps -r /dev/stdin || die "pip could not install xgrammar (see above)" "check the network, then run this again"
  # Apart from the rest: what these pin is not for us.
  rm -rf .venv/adapters
  .venv/bin/python scripts/requirements.py adapters | "${pip[@]}" --no-deps --target .venv/adapters -r /dev/stdin || die "pip could not install the packages that the adapters are tested with (see above)" "check the network, then run this again"
  stamp >"$stamp_file"
}

# Writes standard input to the file, unless it says that already (someone may be reading it).
write_if_changed() {
  local text; text=$(cat)
  [ "$(cat "$1" 2>/dev/null)" = "$text" ] || printf '%s\n' "$text" >"$1"
}

# `import rft` reads bindings/python/rft, where the build puts the extension; .venv/bin/rft runs its command line.
link_package() {
  local site; site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  echo "$root/bindings/python" | write_if_changed "$site/rft-source.pth"
  printf '#!%s\nimport sys\n\nfrom rft.cli import main\n\nsys.exit(main())\n' "$root/.venv/bin/python" | write_if_changed .venv/bin/rft
  chmod +x .venv/bin/rft
}

install_packages
check_compiler
check_memory
if [ ! -e $stamp_file ]; then check_disk; fi
install_python_packages
link_package
say "ready: .venv with $(.venv/bin/python --version) and $(.venv/bin/python scripts/requirements.py torch)"
