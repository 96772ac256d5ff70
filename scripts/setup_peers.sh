#!/usr/bin/env bash
# .venv-peers: what the benchmarks compare with (transformers, TRL, peft, llama.cpp), apart from .venv so that their needs
# cannot change ours. Idempotent; takes the torch that .venv has. llama.cpp is built from the sources inside the
# llama-cpp-python package, for this machine's CPU (about 20 minutes on 2 cores).
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=(transformers==5.23.0 trl==1.16.0 accelerate==1.15.0 datasets==5.2.0 peft==0.21.2 gguf==0.19.0 sentencepiece
  math-verify==0.9.0 sacrebleu==2.6.0 rouge-score==0.1.2 nltk==3.10.4 rapidfuzz==3.14.6 jsonschema==4.26.0)
llama_cpp=llama-cpp-python==0.3.36
scripts/setup.sh
torch=$(.venv/bin/python scripts/requirements.py torch)
pip=(.venv-peers/bin/python -m pip)
quiet=(-qq --disable-pip-version-check)

install_packages() {
  local stamp="$torch ${requirements[*]}"
  [ "$(cat .venv-peers/.rft-peers 2>/dev/null)" != "$stamp" ] || return 0
  echo "peers: making .venv-peers with $stamp" >&2
  if [ ! -x .venv-peers/bin/python ]; then
    "$(.venv/bin/python -c 'import sys; print(sys._base_executable)')" -m venv .venv-peers
  fi
  "${pip[@]}" install "${quiet[@]}" "$torch"
  "${pip[@]}" install "${quiet[@]}" "${requirements[@]}"
  echo "$stamp" > .venv-peers/.rft-peers
}

build_llama_cpp() {
  local folder=.venv-peers/llama.cpp runner=tests/bench/peers/llamacpp_generate.cpp
  local stamp="$llama_cpp llama-server $(sha256sum <$runner)"
  [ "$(cat $folder/.rft-peers 2>/dev/null)" != "$stamp" ] || return 0
  mkdir -p $folder
  if [ ! -d $folder/src ]; then
    echo "peers: fetching $llama_cpp" >&2
    "${pip[@]}" install "${quiet[@]}" scikit-build-core
    "${pip[@]}" download "${quiet[@]}" --no-deps --no-build-isolation --no-binary :all: --dest $folder "$llama_cpp"
    mkdir $folder/unpack
    tar xzf $folder/llama_cpp_python-*.tar.gz -C $folder/unpack
    mv $folder/unpack/*/vendor/llama.cpp $folder/src
    rm -rf $folder/unpack $folder/*.tar.gz
  fi
  echo "peers: building llama.cpp" >&2
  cmake -S $folder/src -B $folder/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF >$folder/configure.log
  cmake --build $folder/build --target llama >$folder/build.log || { tail -n 20 $folder/build.log >&2; exit 1; }
  c++ -O3 -march=native -std=c++17 -I$folder/src/include -I$folder/src/ggml/include $runner -L$folder/build/bin \
    -lllama -lggml -lggml-base -Wl,-rpath,"$PWD/$folder/build/bin" -o $folder/llamacpp_generate
  # The server is for one check only: without it everything else still runs.
  cmake --build $folder/build --target llama-server >$folder/build-server.log ||
    echo "peers: llama-server could not be built ($folder/build-server.log); rft check http-peer will say that it is missing" >&2
  echo "$stamp" > $folder/.rft-peers
}

install_packages
build_llama_cpp
echo "peers: ready; make bench now measures them beside ours" >&2
