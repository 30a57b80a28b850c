#!/bin/sh
# Pin requirements*.txt with hashes, for every platform and Python at once.
set -eu
lock() {
    out=$1
    shift
    uv pip compile pyproject.toml "$@" --universal --python-version 3.11 --quiet \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o "$out"
}
lock requirements.txt --extra tensorflow --extra book
lock requirements-jax.txt --extra tensorflow --extra book --extra jax \
    --constraints requirements.txt
lock requirements-gpu.txt --extra gpu --extra book --constraints requirements.txt
