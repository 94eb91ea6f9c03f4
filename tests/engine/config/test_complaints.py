"""What the operator sees for each thing that can be wrong."""

from __future__ import annotations

import pytest

from tests.engine.config.places import complaints, fails

IN_THE_FILE = [
    # YAML itself
    (
        "a: [1",
        "1:6: this is no YAML: expected ',' or ']', but got '<stream end>'; a bracket is not closed, or a comma is missing",
    ),
    (
        "tport:\n\tdata_dir: /x",
        "2:1: this is no YAML: found character '\\t' that cannot start any token; indent with spaces, not with tabs",
    ),
    ("tport: {}\n---\ntport: {}", "3:1: a second document begins here; one file is one document"),
    ("tport: *nobody", "1:8: nothing is named &nobody"),
    ("tport: &a [*a]", "1:12: *a is inside of what it stands for"),
    (
        "tport: !!python/object:os.system x",
        "1:8: tport: expected settings, each as `name: value`, found one value",
    ),
    ("tport: !python x", "1:8: the tag !python has no meaning here"),
    ('tport: {nodename: "\\U00110000"}', "1:9: an escape behind this names no character"),
    ("? [a]\n: b", "1:3: a list or a map cannot name a setting"),
    ("tport: {<<: 1}", "1:9: << takes a map, or a list of maps"),
    ("- tport", "1:1: expected settings, each as `name: value`, found a list"),
    # the shape
    ("tport: yes", "1:8: tport: expected settings, each as `name: value`, found one value"),
    ("tport: {nodename: [a]}", "1:19: tport.nodename: expected one value, found a list"),
    (
        "auth_service:\n  enabled: yes\n  enabled: no",
        "3:3: auth_service.enabled: is set twice, first in line 2; keep one",
    ),
    (
        "tport: {}\nteleport: {}",
        "2:11: teleport: means the same as 'tport', which is there too; keep one",
    ),
    ("auth_servise: {}", "1:1: auth_servise: unknown setting; did you mean 'auth_service'?"),
    ("data_dir: /x", "1:1: data_dir: unknown setting; it belongs under 'tport'"),
    ("tport: {acme: 1}", "1:9: tport.acme: unknown setting; it belongs under 'proxy_service'"),
    (
        "proxy_service: {acme: {zzz: 1}}",
        "1:24: proxy_service.acme.zzz: unknown setting; expected one of enabled, email, uri, staging,"
        " ca_file, eab, dns_hook, http_addr",
    ),
    ("version: v4", "1:10: version: expected v1, v2 or v3, found 'v4'"),
    # values
    (
        "auth_service: {enabled: maybe}",
        "1:25: auth_service.enabled: expected yes or no, found 'maybe'",
    ),
    ("auth_service: {enabled: ''}", "1:25: auth_service.enabled: expected yes or no, found ''"),
    (
        "ssh_service: {enabled: yes}",
        "1:24: ssh_service.enabled: tport has no SSH service; expected no, or no such section",
    ),
    (
        "tport: {data_dir: ~bob/x}",
        "1:19: tport.data_dir: '~bob/x': only ~/ is understood; write the whole path",
    ),
    (
        "tport: {log: {severity: loud}}",
        "1:25: tport.log.severity: expected debug, info, warning or error, found 'loud'",
    ),
    (
        "tport: {log: {output: syslog}}",
        "1:23: tport.log.output: syslog is not supported; expected stderr, stdout or a file",
    ),
    (
        "tport: {log: {output: disk}}",
        "1:23: tport.log.output: expected stderr, stdout or the path of a file, found 'disk'",
    ),
    (
        "tport: {log: {format: {output: jason}}}",
        "1:32: tport.log.format.output: expected text or json, found 'jason'; did you mean 'json'?",
    ),
    (
        "tport: {diag_addr: localhost}",
        "1:20: tport.diag_addr: 'localhost' has no port; write host:port, as in 127.0.0.1:3000",
    ),
    ("tport: {diag_addr: 'a:99999'}", "1:20: tport.diag_addr: '99999' is no port (1 to 65535)"),
    (
        "tport: {auth_token: short}",
        "1:21: tport.auth_token: this is no join token, nor the absolute path of a file that holds one",
    ),
    (
        "tport: {auth_token: /a, join_params: {token_name: /b}}",
        "1:21: tport.auth_token: join_params.token_name is there too; keep one",
    ),
    (
        "tport: {join_params: {method: iam}}",
        "1:31: tport.join_params.method: 'iam' is not supported; expected token",
    ),
    (
        "tport: {proxy_server: 'https://a.example.com'}",
        "1:23: tport.proxy_server: 'https://a.example.com' has a scheme; leave out 'https://'",
    ),
    (
        "tport: {proxy_server: a.test, auth_server: b.test}",
        "1:44: tport.auth_server: means the same as proxy_server, which is there too; keep one",
    ),
    (
        "tport: {auth_servers: ['::1']}",
        "1:24: tport.auth_servers[0]: '::1': put an IPv6 address in brackets, as in [::1]:3080",
    ),
    (
        "tport: {ca_pin: 'sha256:12'}",
        "1:17: tport.ca_pin: 'sha256:12' is no CA pin; expected sha256:<64 hex digits> or the absolute path of a file",
    ),
    (
        "auth_service: {cluster_name: 'my cluster'}",
        "1:30: auth_service.cluster_name: 'my cluster' is no cluster name (letters, digits, '.', '_' and '-', as in tport.example.com)",
    ),
    (
        "auth_service: {authentication: {type: oidc}}",
        "1:39: auth_service.authentication.type: 'oidc' is not supported; expected local",
    ),
    (
        "auth_service: {authentication: {second_factor: maybe}}",
        "1:48: auth_service.authentication.second_factor: expected off, optional, on, otp or webauthn, found 'maybe'",
    ),
    (
        "auth_service: {tokens: ['app:abc']}",
        "1:25: auth_service.tokens[0]: a token that never expires needs 32 to 128 characters of A-Z, a-z, 0-9, _ and -; make one with: openssl rand -hex 32",
    ),
    (
        "auth_service: {tokens: [abc]}",
        "1:25: auth_service.tokens[0]: expected app:<secret>, or app:/path/of/a/file with the secret",
    ),
    (
        "auth_service: {tokens: ['node:/f']}",
        "1:25: auth_service.tokens[0]: a token for 'node' has no use here; expected app:<secret>",
    ),
    (
        "proxy_service: {public_addr: 10.0.0.1}",
        "1:30: proxy_service.public_addr[0]: '10.0.0.1' is an IP address; browsers need a DNS name here",
    ),
    (
        "proxy_service: {public_addr: '*.a.test'}",
        "1:30: proxy_service.public_addr[0]: '*.a.test' has a wildcard; name the one host that people type, as in tport.example.com",
    ),
    (
        "proxy_service: {public_addr: [a.test, A.test]}",
        "1:39: proxy_service.public_addr[1]: a.test:3080 is there twice; keep one",
    ),
    (
        "proxy_service: {public_addr: a.test/x}",
        "1:30: proxy_service.public_addr[0]: 'a.test/x' has a path; write host:port",
    ),
    (
        "proxy_service: {https_keypairs: [{key_file: /k}]}",
        "1:34: proxy_service.https_keypairs[0].cert_file: is missing; a certificate needs its key, and a key its certificate",
    ),
    (
        "proxy_service: {https_cert_file: /c}",
        "1:16: proxy_service.https_key_file: is missing; a certificate needs its key, and a key its certificate",
    ),
    (
        "proxy_service: {acme: {email: alice}}",
        "1:31: proxy_service.acme.email: 'alice' is no e-mail address, as in alice@example.com",
    ),
    (
        "proxy_service: {acme: {uri: 'https://ca', staging: yes}}",
        "1:52: proxy_service.acme.staging: is Let's Encrypt's: leave out either it or uri",
    ),
    (
        "proxy_service: {acme: {eab: {hmac: abcd}}}",
        "1:29: proxy_service.acme.eab.kid: is missing; the CA gives it with the key",
    ),
    (
        "proxy_service: {acme: {eab: {kid: a, hmac: abcd, key_file: f}}}",
        "1:29: proxy_service.acme.eab: needs one of hmac and key_file: the key that the CA gave",
    ),
    (
        "proxy_service: {acme: {http_addr: 'a b'}}",
        "1:35: proxy_service.acme.http_addr: 'a b' is no host name",
    ),
    (
        "proxy_service: {acme: {uri: 'http://ca'}}",
        "1:29: proxy_service.acme.uri: 'http://ca' is no directory of an ACME server; expected https://…",
    ),
    (
        "app_service: {allowed_hosts: [10.0.0.0/8]}",
        "1:30: app_service.allowed_hosts: tport has no list of allowed targets; a file that relies on one is not safe to start",
    ),
    ("app_service: {apps: {name: a}}", "1:21: app_service.apps: expected a list, found a map"),
    (
        "app_service: {apps: [{name: a, uri: 'http://a'}, {name: a, uri: 'http://b', public_addr: b.test}]}",
        "1:57: app_service.apps[1].name: 'a' is the name of apps[0] too; each app needs its own",
    ),
    (
        "app_service: {debug_app: yes, apps: [{name: dumper, uri: 'http://a'}]}",
        "1:45: app_service.apps[0].name: 'dumper' is the name of the debug app too; each app needs its own",
    ),
    (
        "app_service: {apps: [{name: a, uri: 'http://a', labls: {}}]}",
        "1:49: app_service.apps[0].labls: unknown setting; did you mean 'labels'?",
    ),
]


@pytest.mark.parametrize(("text", "message"), IN_THE_FILE)
def test_a_file_that_cannot_be_meant_says_where_and_why(text: str, message: str) -> None:
    """AG-01 among them: a static token that can be guessed is refused, and not shown."""
    told = fails(text)

    assert f"tport.yaml:{message}" in told
    assert len(told) == 1 or "is the name of" in message  # the same name has the same address


OF_AN_APP = [
    # (what is in the app beside a good name and URI, where within it, the message)
    ("name: gra fana", "name", "'gra fana' is no sub-domain (at most 63 of a-z, 0-9 and -, neither first nor last a -)"),
    ("name: ''", "name", "is missing"),
    ("uri: ''", "uri", "is missing"),
    ("uri: 'localhost:3000'", "uri", "'localhost:3000' has no scheme; did you mean 'http://localhost:3000'?"),
    ("uri: 'tcp://localhost:22'", "uri", "TCP applications are not supported; expected http:// or https://"),
    ("uri: 'file:///etc/passwd'", "uri", "'file' is not served; expected http:// or https://"),
    ("uri: 'gopher://a'", "uri", "'gopher' is not served; expected http:// or https://"),
    ("uri: 'http://u:hunter2@h'", "uri", "has a user name or password in it; leave that out, and send it by rewrite.headers: Authorization in the agent's file, where it stays"),
    ("uri: 'http://'", "uri", "'http://' has no host; expected http://host:port"),
    ("uri: 'http://:80'", "uri", "'http://:80' has no host; expected http://host:port"),
    ("uri: 'http://a:0'", "uri", "'http://a:0' has a bad port; expected 1 to 65535, or none at all"),
    ("uri: 'http://a:70000'", "uri", "'http://a:70000' has a bad host or port; expected http://host:port (1 to 65535)"),
    ("uri: 'http://[::1'", "uri", "'http://[::1' has a bad host or port; expected http://host:port (1 to 65535)"),
    ("uri: 'http://a b'", "uri", "'http://a b' is no URI (ASCII without spaces, at most 2048; encode the rest as %XX)"),
    ("uri: 'http://a,b'", "uri", "'a,b' is no host name"),
    ("public_addr: 'a.test:443'", "public_addr", "'a.test:443' has a port; applications share the proxy's, so give the name alone"),
    ("public_addr: 'https://a.test'", "public_addr", "'https://a.test' has a scheme; leave out 'https://'"),
    ("public_addr: '*.a.test'", "public_addr", "'*.a.test' has a wildcard; name the one host that people type, as in tport.example.com"),
    ("public_addr: 10.0.0.1", "public_addr", "'10.0.0.1' is an IP address; browsers need a DNS name here"),
    ("public_addr: PROXY.test.", "public_addr", "'PROXY.test.' is the proxy's own address; give another name"),
    ("public_addr: a.b.proxy.test", "public_addr", "'a.b.proxy.test' is more than one label below proxy.test, where neither *.proxy.test in DNS nor such a certificate reaches; take a.proxy.test"),
    ("public_addr: test", "public_addr", "'test' is a domain above the proxy's own 'proxy.test'; give a name beside or below it"),
    ("labels: {'a b': x}", "labels.a b", "'a b' is no label name (letters, digits and _ . : / -, at most 128, first a letter or digit)"),
    ("labels: [a]", "labels", "expected a map of `name: value`, found a list"),
    ("commands: [{command: [/bin/x]}]", "commands[0].name", "is missing"),
    ("commands: [{name: os}]", "commands[0].command", 'is missing; expected a list, as in ["/usr/bin/uname", "-r"]'),
    ("commands: [{name: os, command: /bin/x}]", "commands[0].command", "expected a list, found one value"),
    ("commands: [{name: os, command: [uname]}]", "commands[0].command", "'uname' is no absolute path; a program is not searched for, write for example /usr/bin/uname"),
    ("commands: [{name: os, command: [/bin/x], period: 5}]", "commands[0].period", "expected a duration like 5s, 30m or 1h30m, found '5'; did you mean '5s'?"),
    ("commands: [{name: os, command: [/bin/x], period: 10ms}]", "commands[0].period", "is less than a second; expected 1s or more"),
    ("labels: {os: x}, commands: [{name: os, command: [/bin/x]}]", "commands[0].name", "'os' is a label in labels already; keep one"),
    ("rewrite: {redirect: ['a.test:80']}", "rewrite.redirect[0]", "'a.test:80' has a port; give the host alone, any port matches"),
    ("rewrite: {jwt_claims: all}", "rewrite.jwt_claims", "expected roles-and-traits, roles, traits or none, found 'all'"),
    ("rewrite: {headers: [X-A]}", "rewrite.headers[0]", "has no colon; expected 'Name: value'"),
    ("rewrite: {headers: ['X A: b']}", "rewrite.headers[0]", "begins with no header name; expected 'Name: value'"),
    ('rewrite: {headers: ["X-A: b\\r\\nX-B: c"]}', "rewrite.headers[0]", "X-A: the value has characters beyond printable ASCII"),
    ("rewrite: {headers: ['X-A: {{a.b}}']}", "rewrite.headers[0]", "X-A: {{a.b}} in its value is no template; write {{external.<trait>}} or {{internal.<name>}}"),
    ("cloud: AWS", "cloud", "cloud consoles are not among the applications tport serves"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "path", "message"), OF_AN_APP)
def test_an_app_that_cannot_be_served_says_why(setting: str, path: str, message: str) -> None:
    """AG-04, AG-07: no address of the proxy's, nothing but http and https, no password shown."""
    own = setting.split(":", maxsplit=1)[0]
    good = {"name": "a", "uri": "'http://a'"}
    rest = ", ".join(f"{key}: {value}" for key, value in good.items() if key != own)
    text = (
        "proxy_service: {public_addr: proxy.test}\n"
        f"app_service: {{apps: [{{{rest}{', ' if rest else ''}{setting}}}]}}"
    )

    (told,) = complaints(text)

    assert told.partition(": ")[2] == f"app_service.apps[0].{path}: {message}"
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "name",
    [
        "X-Teleport-Jwt", "Teleport-Jwt-Assertion", "Cf-Access-Token", "Forwarded", "X-Real-Ip",
        "X-Forwarded-For", "X-Forwarded-Anything", "X_Forwarded_For", "x.real.ip",
        "TELEPORT_JWT_ASSERTION", "Content-Length", "Transfer_Encoding", "Connection",
    ],
)  # fmt: skip
def test_a_reserved_header_is_refused_however_it_is_spelled(name: str) -> None:
    """HTTP-12, HTTP-13"""
    app = f"{{name: a, uri: 'http://a', rewrite: {{headers: ['{name}: x']}}}}"

    (told,) = complaints(f"app_service: {{apps: [{app}]}}")

    assert told.endswith(f"rewrite.headers[0]: {name} is reserved: tport sets it itself")


@pytest.mark.parametrize(
    "header",
    [
        "Authorization Basic hunter2",
        "X-Api-Key=hunter2",
        "Bearer hunter2:abc",
        "hunter2",
        "hunter2=",  # Base64
        "Authorization: hunter2(kept by the agent)",
        "Authorization: Basic hunter2}}",
        "Authorization: Basic {{hunter2",
        "Authorization: Basic hunter2 {{a.b}}",
        "Authorization: Basic hunter2 {{internal.nothing}}",
        "Authorization: Basic hunter2 {{regexp.replace(external.a)}}",
        "Author ization: Basic hunter2",
        "X-Forwarded-Key: hunter2",
        "Authorization: Basic hunter2ü",
    ],
)
def test_what_is_wrong_with_a_header_is_said_without_its_value(header: str) -> None:
    """OPS-03: the agent's log has it, and the agent tells the cluster why it can't offer the application."""
    [told] = complaints(
        "app_service: {enabled: yes, apps: [{name: a, uri: 'http://a', rewrite: {headers: ["
        f"'{header}']}}}}]}}"
    )

    assert "rewrite.headers[0]: " in told
    assert "hunter2" not in told


def test_no_two_apps_share_an_address() -> None:
    text = """\
proxy_service: {public_addr: proxy.test}
app_service:
  apps:
  - {name: a, uri: 'http://a'}
  - {name: b, uri: 'http://b', public_addr: A.proxy.test}
"""
    assert complaints(text) == [
        "tport.yaml:5:45: app_service.apps[1].public_addr: a.proxy.test is the address of apps[0]"
        " too; each app needs its own"
    ]


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    (told,) = fails("\n".join(lines))

    assert "more than 50000 values, aliases counted as often as used" in told


def test_nesting_has_an_end() -> None:
    assert fails("[" * 5000) == ["tport.yaml:1:34: nested deeper than 32 levels"]
