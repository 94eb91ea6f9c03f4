#!/usr/bin/env bash
# Arrive on a Debian that has nothing but Debian, use tport, and leave: what docs/install.md says, tried.
#
#     sudo tests/clean_root.sh DIST
#
# DIST is what `make dist` made. It wants debootstrap, curl and iproute2 here, and Debian's mirror; where there
# is rpm, its package is tried, too. All of it happens in a root of debootstrap's that is removed at the end,
# with processes and a network of its own; curl and rpm are this machine's. Nothing is asked of the network but
# the root, and at the end python3 and curl, which examples/walkthrough.sh uses.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
self=$here/tests/$(basename "$0")
dist=$(cd "$1" && pwd)
root=${TPORT_CLEAN_ROOT:-}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
step=${2:-}

say() {
    echo
    echo "== $1"
}

fail() {
    echo "failed: $1" >&2
    [ ! -s "$root/log" ] || tail -n 20 "$root/log" >&2
    exit 1
}

# Run a command in the root, with nothing of this machine's environment.
within() {
    chroot "$root" env -i PATH="$path" HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# The same as alice, a person without rights.
as_alice() {
    within setpriv --reuid=alice --regid=alice --init-groups env HOME=/home/alice "$@"
}

# The same as the unit runs it: User=, and the one capability.
as_unit() {
    within setpriv --reuid=tport --regid=tport --clear-groups --no-new-privs --inh-caps=-all,+net_bind_service \
        --ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service env HOME=/ "$@"
}

# Ask this machine's curl: it takes the root's authorities, and keeps cookies for one person.
ask() {
    curl --silent --show-error --fail-with-body --max-time 30 --cacert "$root/ca.pem" \
        --cookie-jar "$root/cookies" --cookie "$root/cookies" "$@"
}

# The id of what a function of these runs in the background: chroot, env and setpriv become it.
program_of() {
    ps -o pid= --ppid "$1" | tr -d ' '
}

# Take a hidden field out of a page's first form.
field() {
    sed -n "0,/.*name=\"$2\" value=\"\([^\"]*\)\".*/s//\1/p" <<<"$1"
}

wait_for() {
    local words=$1
    for _ in $(seq 300); do
        ! grep -q "$words" "$root/log" || return 0
        sleep 0.2
    done
    fail "no \"$words\" within a minute"
}

# Every file but those of the package manager's own bookkeeping, and ours.
files() {
    find "$root" -xdev \( -path "$root/proc" -o -path "$root/dev" -o -path "$root/tmp" -o -path "$root/run" \
        -o -path "$root/var/lib/dpkg" -o -path "$root/var/cache" -o -path "$root/var/log" \) -prune \
        -o -printf '/%P\n' | grep -vxE '/(log|ca.pem|cookies|before|after|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/.pwd.lock)?' | sort
}

# What is there now and was not before, or the other way round, but for below $1.
nothing_left_but() {
    local changes
    files >"$root/after"
    changes=$(diff "$root/before" "$root/after" | grep '^[<>]' | grep -vE "^> $1(/|\$)" || true)
    [ -z "$changes" ] || fail "uninstalling left more than data, or took what was there:
$changes"
    [ -d "$root$1" ] || fail "the data at $1 went with the program"
    echo "nothing is left but $1, and nothing is gone"
}

sums_and_archive() {
    say "The sums are those of the files"
    within sh -c "cd /tmp/dist && sha256sum --check --strict SHA256SUMS"

    say "The one file, which unpacks itself"
    within "/tmp/dist/$(basename "$dist"/tport-*-linux-"$(uname -m)")" version

    say "The archive, installed as root"
    within useradd --create-home alice
    files >"$root/before"
    local archive
    archive=$(basename "$dist"/tport-*-bin.tar.gz)
    within sh -c "cd /tmp && tar xzf dist/$archive && ${archive%.tar.gz}/install"

    say "tport up, by somebody without rights"
    as_alice tport up >"$root/log" 2>&1 &
    local up=$! link home page app password="a walrus paints $RANDOM doors"
    wait_for /web/invite/
    cat "$root/log"
    link=$(grep -o 'https://[^ ]*/web/invite/.*' "$root/log")
    home=${link%/web/*}
    app=$(sed -n 's/^tport: application: //p' "$root/log")

    say "The owner signs up, and a request gets through"
    as_alice tport ca export >"$root/ca.pem"
    page=$(ask "$link")
    page=$(ask --location --header "Origin: $home" --data-urlencode "token=$(field "$page" token)" --data-urlencode "username=alice" \
        --data-urlencode "password=$password" --data-urlencode "confirm=$password" "$link") || fail "alice could not sign up"
    ask --output /dev/null --header "Origin: $home" --data-urlencode "token=$(field "$page" token)" \
        --data-urlencode "attempt=$(field "$page" attempt)" --data-urlencode "skip=yes" "$home/web/login/second" || fail "a second factor could not be left for later"
    ask --location --header "Accept: text/html" "$app/hello?from=curl" | grep -o 'GET /hello?from=curl HTTP/1.1' ||
        fail "the application did not answer"
    as_alice tport users ls

    say "Stopped, and uninstalled: nothing is left but data"
    kill -TERM "$(program_of "$up")"
    wait "$up" || echo "tport up ended with $?"
    within /usr/local/lib/tport/uninstall
    nothing_left_but /home/alice/.local
}

# This machine's rpm: what the package itself runs, runs in the root.
rpm_package() {
    say "The package for Red Hat and its kin"
    local rpm=(rpm --root "$root" --dbpath /tmp/rpmdb)
    files >"$root/before"
    "${rpm[@]}" --install --nodeps "$dist"/tport-*.rpm
    within stat --format '%n %U:%G %a' /etc/tport.yaml
    within id tport
    "${rpm[@]}" --verify --nodeps tport
    within tport version
    within install -d -m 700 -o tport -g tport /var/lib/tport
    "${rpm[@]}" --erase --nodeps tport
    nothing_left_but /var/lib/tport
    within userdel tport
    rmdir "$root/var/lib/tport"
}

package() {
    say "The package, by dpkg alone"
    files >"$root/before"
    within sh -c "dpkg --install /tmp/dist/tport_*.deb"
    within stat --format '%n %U:%G %a' /etc/tport.yaml
    within id tport

    say "ExecStart of its unit, as its user"
    local unit=$root/usr/lib/systemd/system/tport.service command
    grep -E '^(ExecStart|User|AmbientCapabilities|StateDirectory|Environment=TPORT)' "$unit"
    grep -qx User=tport "$unit" || fail "another user"
    command=$(sed -n 's/^ExecStart=//p' "$unit")
    within install -d -m 700 -o tport -g tport /var/lib/tport # as StateDirectory= does
    # shellcheck disable=SC2086  # the words of ExecStart
    as_unit TPORT_DATA_DIR=/var/lib/tport $command >"$root/log" 2>&1 &
    local service=$!
    within timeout 60 tport status --wait || fail "the service did not come up"
    within tport ca export >"$root/ca.pem"
    ask https://tport.localhost:3080/webapi/ping
    echo
    ps -o uid= -o args= --pid "$(program_of "$service")"
    kill -TERM "$(program_of "$service")"
    local status=0
    wait "$service" || status=$?
    [ "$status" = 143 ] || fail "stopped with $status, not 143"
    echo "stopped with 143, as the unit takes for success"

    say "Removed: settings stay; purged: data stays"
    within dpkg --remove tport
    [ -e "$root/etc/tport.yaml" ] || fail "removing took /etc/tport.yaml along"
    within dpkg --purge tport
    nothing_left_but /var/lib/tport
}

walkthrough() {
    say "Installed again beside the data that stayed, and examples/walkthrough.sh as its user"
    within sh -c "dpkg --install /tmp/dist/tport_*.deb"
    within stat --format '%n %U:%G %a' /var/lib/tport
    as_unit TPORT=/usr/bin/tport TMPDIR=/var/tmp /tmp/walkthrough.sh
}

if [ -n "$step" ]; then
    ip link set lo up
    mount --bind /proc "$root/proc"
    "$step"
    exit 0
fi

[ "$(id -u)" = 0 ] || { echo "clean_root: only root may make a root: sudo $0 $1" >&2; exit 2; }
root=$(mktemp -d)
chmod 755 "$root" # it is / to everybody in it
export TPORT_CLEAN_ROOT=$root
trap 'rm -rf --one-file-system "$root"' EXIT

# Everything a step starts ends with it.
apart() {
    unshare --mount --net --pid --fork --kill-child --mount-proc -- "$self" "$dist" "$1"
}

say "A Debian with nothing but Debian"
debootstrap --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" >"$root.log" 2>&1 || {
    tail -n 5 "$root.log" >&2
    exit 1
}
rm "$root.log"
! within sh -c 'command -v python3 curl' || fail "it has more"
mkdir "$root/tmp/dist"
cp "$dist"/* "$root/tmp/dist"
cp "$here/examples/walkthrough.sh" "$root/tmp"
apart sums_and_archive
if command -v rpm >/dev/null; then
    apart rpm_package
else
    echo "no rpm here, so that package is left out"
fi
apart package
say "What the walkthrough uses: python3 and curl"
cp /etc/resolv.conf "$root/etc/resolv.conf"
within sh -c "apt-get -qq update && apt-get -qq install --no-install-recommends curl python3" >"$root/log" 2>&1 ||
    fail "they could not be had"
apart walkthrough
say "All of it works"
