"""The files of the guide, word for word."""

from __future__ import annotations

from pathlib import Path

from tests.engine.config.places import read
from tport.engine.config.address import Address
from tport.engine.config.model import Acme, KeyPair, Secret
from tport.engine.types.app import DynamicLabel, Header

START = """\
# tport.yaml; the top-level key `teleport:` is read as `tport:`, so a Teleport file works as it is
tport:
  data_dir: /var/lib/tport
auth_service:
  enabled: "yes"
proxy_service:
  enabled: "yes"
  # The address users and agents reach the proxy at.
  public_addr: tport.example.com:3080
ssh_service:
  enabled: "no"
"""

ACME = """\
proxy_service:
  enabled: "yes"
  web_listen_addr: ":443"
  public_addr: "tport.example.com:443"
  acme:
    enabled: "yes"
    email: alice@example.com
"""

KEYPAIRS = """\
proxy_service:
  enabled: "yes"
  web_listen_addr: ":443"
  public_addr: "tport.example.com:443"
  https_keypairs:
  - key_file: /etc/letsencrypt/live/tport.example.com/privkey.pem
    cert_file: /etc/letsencrypt/live/tport.example.com/fullchain.pem
  - key_file: /etc/letsencrypt/live/*.tport.example.com/privkey.pem
    cert_file: /etc/letsencrypt/live/*.tport.example.com/fullchain.pem
"""

AGENT = """\
tport:
  data_dir: /var/lib/tport-app     # not auth's, when on the same machine
  auth_token: /tmp/token           # an absolute path is read as a file
  auth_servers:
  - tport.example.com:3080
app_service:
  enabled: yes
  debug_app: true
  apps:
  - name: grafana
    uri: http://localhost:3000
    public_addr: grafana.tport.example.com
    labels:
      env: prod
    commands:                      # dynamic labels
    - name: os
      command: ["/usr/bin/uname"]
      period: 5s
auth_service: {enabled: "no"}
ssh_service: {enabled: "no"}
proxy_service: {enabled: "no"}
"""

APPS = """\
apps:
- name: jira                       # its own public address
  uri: https://localhost:8001
  public_addr: jira.example.com
- name: app                        # a self-signed upstream
  uri: https://localhost:8443
  public_addr: app.example.com
  insecure_skip_verify: true
- name: k8s                        # an app in a sub-directory
  uri: http://10.0.1.60:8001/api/v1/namespaces/kube-system/services/https:kubernetes-dashboard:/proxy/#/overview?namespace=default
  public_addr: k8s.example.com
- name: jenkins                    # Location headers with these hosts become the public address
  uri: https://localhost:8001
  public_addr: jenkins.example.com
  rewrite:
    redirect:
    - localhost
    - jenkins.internal.dev
- name: dashboard                  # headers sent to the app
  uri: https://localhost:4321
  public_addr: dashboard.example.com
  rewrite:
    headers:
    - "X-Custom-Header: example"
    - "X-Internal-Trait: {{internal.logins}}"
    - "X-External-Trait: {{external.env}}"
    - "Authorization: Bearer {{internal.jwt}}"
    - "Host: dashboard.example.com"
"""


def test_auth_and_proxy_start_from_the_guides_first_file() -> None:
    config = read(START)

    assert config.data_dir == Path("/var/lib/tport")
    assert config.auth_service.enabled
    assert config.auth_service.cluster_name == "tport.example.com"
    assert config.auth_service.listen_addr == Address("127.0.0.1", 3025)
    assert config.proxy_service.enabled
    assert config.proxy_service.public_addrs == (Address("tport.example.com", 3080),)
    assert config.proxy_service.web_listen_addr == Address("0.0.0.0", 3080)
    assert not config.app_service.enabled
    assert config.notes == ()


def test_a_file_that_says_teleport_means_the_same() -> None:
    teleport = START.replace("\ntport:", "\nteleport:") + "version: v2\n"

    assert read(teleport) == read(START)


def test_acme_needs_no_more_than_the_guide_writes() -> None:
    proxy = read(ACME).proxy_service

    assert proxy.web_listen_addr == Address("", 443)
    assert proxy.acme == Acme(enabled=True, email="alice@example.com")


def test_key_pairs_are_kept_in_order_with_their_place() -> None:
    folder = "/etc/letsencrypt/live"

    assert read(KEYPAIRS).proxy_service.https_keypairs == tuple(
        KeyPair(
            key_file=Path(f"{folder}/{name}/privkey.pem"),
            cert_file=Path(f"{folder}/{name}/fullchain.pem"),
            where=f"tport.yaml:{line}:5",
        )
        for name, line in (("tport.example.com", 6), ("*.tport.example.com", 8))
    )


def test_the_agents_file_says_all_that_an_agent_needs() -> None:
    config = read(AGENT)

    assert config.data_dir == Path("/var/lib/tport-app")
    assert config.auth_token == Secret("/tmp/token")
    assert config.auth_token.file == Path("/tmp/token")
    assert config.proxy_addr == Address("tport.example.com", 3080)
    assert not config.auth_service.enabled
    assert not config.proxy_service.enabled
    assert config.app_service.enabled
    assert config.app_service.debug_app
    (grafana,) = config.app_service.apps
    assert grafana.name == "grafana"
    assert grafana.public_addr == "grafana.tport.example.com"
    assert grafana.labels == {"env": "prod"}
    assert grafana.commands == (DynamicLabel(name="os", command=("/usr/bin/uname",), period=5),)


def test_every_app_of_the_guide_is_sound() -> None:
    indented = "".join(f"  {line}\n" for line in APPS.splitlines())

    service = read(f"app_service:\n  enabled: yes\n{indented}").app_service

    apps = {app.name: app for app in service.apps}
    assert service.faulty == ()
    assert list(apps) == ["jira", "app", "k8s", "jenkins", "dashboard"]
    assert apps["app"].insecure_skip_verify
    assert apps["k8s"].uri.endswith(":/proxy/#/overview?namespace=default")
    assert apps["jenkins"].rewrite.redirect == ("localhost", "jenkins.internal.dev")
    assert apps["dashboard"].rewrite.headers == (
        Header("X-Custom-Header", "example"),
        Header("X-Internal-Trait", "{{internal.logins}}"),
        Header("X-External-Trait", "{{external.env}}"),
        Header("Authorization", "Bearer {{internal.jwt}}"),
        Header("Host", "dashboard.example.com"),
    )
