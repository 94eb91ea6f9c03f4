#!/usr/bin/env bash
# From nothing to an application behind tport, checked with curl: a cluster, a token, an agent, a user.
#
# It runs on this machine alone, on ports that are free, in a folder that it removes at the end.
# TPORT names the program, `tport` unless given; beside it, python3 and curl (7.78 or later) are used.
set -euo pipefail

tport=${TPORT:-tport}
folder=$(mktemp -d)
started=()

clean_up() {
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    wait || true
    rm -rf "$folder"
}
trap clean_up EXIT

step() {
    echo
    echo "== $1"
}

fail() {
    echo "failed: $1" >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

# Take a value out of an HTML form: the one of its hidden field "token".
form_token() {
    sed -n 's/.*name="token" value="\([^"]*\)".*/\1/p'
}

step "A cluster: auth and proxy, configured by a file"
cat >"$folder/tport.yaml" <<FILE
tport:
  data_dir: $folder/cluster
auth_service:
  enabled: "yes"
  listen_addr: 127.0.0.1:0
  authentication: {second_factor: off} # alice is a script, and has no phone
proxy_service:
  enabled: "yes"
  web_listen_addr: 127.0.0.1:0
FILE
"$tport" configure --test="$folder/tport.yaml"
"$tport" start --config="$folder/tport.yaml" >"$folder/cluster.log" 2>&1 &
started+=($!)
export TPORT_CONFIG_FILE=$folder/tport.yaml # so that every further command finds the cluster
"$tport" status --wait || fail "the cluster did not come up"
proxy=$("$tport" status | sed -n 's|^proxy *https://||p')

step "Its authority, for curl; for browsers it is: tport ca trust"
"$tport" ca export >"$folder/ca.pem"
curl_tport() {
    curl --silent --show-error --fail-with-body --max-time 30 --cacert "$folder/ca.pem" \
        --cookie-jar "$folder/cookies" --cookie "$folder/cookies" "$@"
}
curl_tport "https://$proxy/webapi/ping"
echo

step "An application: this folder's public files, on loopback only"
mkdir "$folder/public"
echo "hello from behind tport" >"$folder/public/hello.txt"
python3 -u -m http.server --bind 127.0.0.1 --directory "$folder/public" 0 >"$folder/app.log" 2>&1 &
started+=($!)
port=
for _ in $(seq 100); do
    port=$(sed -n 's/^Serving HTTP on .* port \([0-9]*\) .*/\1/p' "$folder/app.log")
    [ -z "$port" ] || break
    sleep 0.1
done
[ -n "$port" ] || fail "the application did not start"

step "A token, and with it the agent beside the application"
(umask 077 && "$tport" tokens add --type=app --app-name=files --format=text >"$folder/token")
env -u TPORT_CONFIG_FILE "$tport" start --roles=app --token="$folder/token" --auth-server="$proxy" \
    --app-name=files --app-uri="http://127.0.0.1:$port" --labels=env=demo \
    --data-dir="$folder/agent" >"$folder/agent.log" 2>&1 &
started+=($!)
for _ in $(seq 100); do
    "$tport" apps ls --format=json >"$folder/apps.json"
    ! grep -q '"files"' "$folder/apps.json" || break
    sleep 0.2
done
"$tport" apps ls
grep -q '"files"' "$folder/apps.json" || fail "the agent did not join"
app="https://files.$proxy"

step "Without a session nothing gets through"
status=$(curl_tport --output "$folder/refused.json" --write-out '%{http_code}' "$app/hello.txt" 2>/dev/null) || true
echo "$status $(cat "$folder/refused.json")"
[ "$status" = 401 ] || fail "expected 401"

step "A user, who signs up by the invite link"
invite=$("$tport" users add --roles=access --format=text alice)
token=$(curl_tport "$invite" | form_token)
password="a walrus paints $RANDOM doors"
curl_tport --output /dev/null --header "Origin: https://$proxy" --data-urlencode "token=$token" \
    --data-urlencode "username=alice" --data-urlencode "password=$password" \
    --data-urlencode "confirm=$password" "$invite" || fail "alice could not sign up"
"$tport" users ls

step "Signed in, the application opens: by the launcher, as in a browser"
answer=$(curl_tport --location --header "Accept: text/html" "$app/hello.txt") || fail "not opened: $answer"
echo "$answer"
[ "$answer" = "hello from behind tport" ] || fail "not what the application said"

step "Removed, the user is out at once"
"$tport" users rm alice
status=000
for _ in $(seq 50); do # what is cached is at most 5 s old
    status=$(curl_tport --output /dev/null --write-out '%{http_code}' "$app/hello.txt" 2>/dev/null) || true
    [ "$status" = 200 ] || break
    sleep 0.2
done
[ "$status" = 401 ] || fail "expected 401, got $status"

step "All of it works"
