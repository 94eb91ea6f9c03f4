#!/usr/bin/env bash
# Get what the tests use beyond Python packages, from Debian, PyPI and npm. Quick when it is all there.
#
# What can't be had (no root, another system) is told with its reason, and the tests that want it
# are skipped. With CI=true it is a failure. Nothing here asks for a password.
set -euo pipefail
cd "$(dirname "$0")/.."

lacking=$(mktemp)
trap 'rm -f "$lacking"' EXIT

lack() {
    echo "$1" >>"$lacking"
    echo "tport: test-deps: $1; the tests that need it are skipped" >&2
}

# The Debian package, and the program or file by which one knows that it is there.
debian_parts() {
    cat <<PARTS
chromium chromium
golang-go go
golang-github-hashicorp-yamux-dev /usr/share/gocode/src/github.com/hashicorp/yamux
prometheus prometheus
shellcheck shellcheck
groff-base groff
rpm rpmbuild
gnupg gpg
debootstrap debootstrap
libnss3-tools certutil
curl curl
nginx-light /usr/sbin/nginx
haproxy /usr/sbin/haproxy
procps ps
systemd systemd-analyze
util-linux setpriv
iproute2 ip
lsof lsof
slowhttptest slowhttptest
strace strace
faketime faketime
testssl.sh testssl
pebble pebble
nodejs node
npm npm
openssl openssl
PARTS
}

has() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

get_debian_parts() {
    local package sign missing=()
    while read -r package sign; do
        has "$sign" || missing+=("$package")
    done < <(debian_parts)
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        lack "not here, and no apt-get to install it: ${missing[*]}"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        lack "not here, and only root may install it (apt-get install ${missing[*]})"
        return 0
    fi
    echo "tport: test-deps: installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || true # what it knew before may do
    if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; then
        # One that this system doesn't have keeps none of the others away.
        for package in "${missing[@]}"; do
            apt-get install -y -qq --no-install-recommends "$package" >&2 ||
                lack "apt-get could not install $package"
        done
    fi
}

# Real applications for the tests to open, each in a folder of its own: the releases of its lock, whose
# copy is the sign that all of it is there.
get_from_pypi() {
    local folder=.test/$1 lock=locks/$1.txt
    cmp -s "$lock" "$folder/installed" && return 0
    echo "tport: test-deps: installing $1 into $folder" >&2
    if .venv/bin/python -m venv --clear "$folder" &&
        "$folder/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock"; then
        cp "$lock" "$folder/installed"
    else
        lack "$1 could not be installed from PyPI"
    fi
}

get_from_npm() {
    local folder=.test/$1 lock=locks/$1
    cmp -s "$lock/package-lock.json" "$folder/installed" && return 0
    has npm || return 0 # told already
    echo "tport: test-deps: installing $1 into $folder" >&2
    rm -rf "$folder" && mkdir -p "$folder" && cp "$lock"/package*.json "$folder"
    if npm ci --prefix "$folder" --silent --no-audit --no-fund --no-update-notifier \
        --omit=optional --ignore-scripts; then
        cp "$lock/package-lock.json" "$folder/installed"
    else
        lack "$1 could not be installed from npm"
    fi
}

get_debian_parts
for each in jupyterlab streamlit sslyze oidc-provider-mock site; do
    { get_from_pypi "$each" || lack "$each, see above"; } &
done
for each in node-red oidc-provider pages; do
    { get_from_npm "$each" || lack "$each, see above"; } &
done
wait

if [ -s "$lacking" ] && [ "${CI:-}" = true ]; then
    echo "tport: error: test-deps: in CI every part is needed" >&2
    exit 1
fi
