#!/usr/bin/env bash
# What an administrator does, by files: a role, a user, a token and an application are made from YAML,
# changed, and taken away, and each time a person's browser (curl here) sees it within seconds.
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

curl_tport() {
    curl --silent --show-error --max-time 30 --cacert "$folder/ca.pem" \
        --cookie-jar "$folder/cookies" --cookie "$folder/cookies" "$@"
}

# Open an application as a browser does, by the launcher, until the answer has the status: what is
# cached is at most 5 s old.
expect() {
    local wanted=$1 url=$2 status=000
    for _ in $(seq 50); do
        status=$(curl_tport --location --header "Accept: text/html" --output "$folder/page" \
            --write-out '%{http_code}' "$url") || true
        [ "$status" = "$wanted" ] && echo "$status $url" && return
        sleep 0.2
    done
    fail "expected $wanted of $url, got $status"
}

step "A cluster, and an application beside it"
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
"$tport" start --config="$folder/tport.yaml" >"$folder/cluster.log" 2>&1 &
started+=($!)
export TPORT_CONFIG_FILE=$folder/tport.yaml # so that every further command finds the cluster
"$tport" status --wait || fail "the cluster did not come up"
proxy=$("$tport" status | sed -n 's|^proxy *https://||p')
"$tport" ca export >"$folder/ca.pem"
mkdir "$folder/public"
echo "hello from behind tport" >"$folder/public/index.html"
python3 -u -m http.server --bind 127.0.0.1 --directory "$folder/public" 0 >"$folder/app.log" 2>&1 &
started+=($!)
port=
for _ in $(seq 100); do
    port=$(sed -n 's/^Serving HTTP on .* port \([0-9]*\) .*/\1/p' "$folder/app.log")
    [ -z "$port" ] || break
    sleep 0.1
done
[ -n "$port" ] || fail "the application did not start"

step "A role, a user and a token, in one file"
secret=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
cat >"$folder/team.yaml" <<FILE
kind: role
version: v7
metadata:
  name: dev
spec:
  allow:
    app_labels:
      env: dev
---
kind: user
version: v2
metadata:
  name: alice
spec:
  roles: [dev]
---
kind: token
version: v2
metadata:
  name: $secret
  expires: '2099-01-01T00:00:00Z'
spec:
  roles: [App]
FILE
"$tport" create "$folder/team.yaml"
"$tport" get roles,users,tokens --format=text

step "An agent joins by that token; it picks up what is labelled env: dev or env: test"
pin=$("$tport" tokens add --type=app --max-uses=1 --ttl=5m --format=text | cut -d. -f2)
(umask 077 && echo "$secret.$pin" >"$folder/token")
cat >"$folder/agent.yaml" <<FILE
tport:
  data_dir: $folder/agent
  auth_token: $folder/token
  proxy_server: $proxy
auth_service: {enabled: "no"}
proxy_service: {enabled: "no"}
app_service:
  enabled: "yes"
  resources:
  - labels:
      env: [dev, test]
FILE
env -u TPORT_CONFIG_FILE "$tport" start --config="$folder/agent.yaml" >"$folder/agent.log" 2>&1 &
started+=($!)

step "An application"
cat >"$folder/app.yaml" <<FILE
kind: app
version: v3
metadata:
  name: files
  labels:
    env: dev
spec:
  uri: http://127.0.0.1:$port
FILE
"$tport" create "$folder/app.yaml"
for _ in $(seq 100); do
    "$tport" apps ls --format=json >"$folder/apps.json"
    ! grep -q '"files"' "$folder/apps.json" || break
    sleep 0.2
done
"$tport" apps ls
app="https://files.$proxy/"

step "The user signs up by a link, and opens it"
link=$("$tport" users reset alice)
token=$(curl_tport "$link" | form_token)
password="a walrus paints $RANDOM doors"
curl_tport --fail --output /dev/null --header "Origin: https://$proxy" --data-urlencode "token=$token" \
    --data-urlencode "password=$password" --data-urlencode "confirm=$password" "$link" ||
    fail "alice could not sign up"
expect 200 "$app"

step "Changed: the application is not for this role any more, then it is again"
"$tport" get app/files >"$folder/files.yaml" # with its revision: nobody's change is overwritten
sed 's/env: dev/env: test/' "$folder/files.yaml" | "$tport" create -f -
expect 403 "$app"
"$tport" create -f "$folder/files.yaml" 2>/dev/null && fail "an old revision was taken"
"$tport" get app/files | sed 's/env: test/env: dev/' | "$tport" create -f -
expect 200 "$app"

step "Locked, and let in again"
lock=$("$tport" lock --user=alice --message="until Monday")
expect 403 "$app"
grep -q "until Monday" "$folder/page" || fail "alice was not told why"
"$tport" rm "lock/$lock"
expect 200 "$app"
"$tport" sessions ls

step "Revoked: the application, the user, the token, the role"
"$tport" rm app/files
for _ in $(seq 100); do
    "$tport" apps ls --format=json >"$folder/apps.json"
    grep -q '"files"' "$folder/apps.json" || break
    sleep 0.2
done
[ "$(cat "$folder/apps.json")" = "[]" ] || fail "the agent did not drop it"
"$tport" rm user/alice "token/${secret:0:8}" role/dev
"$tport" get users,tokens --format=text

step "All of it works"
