"""A certificate authority that speaks ACME, in memory and without sockets: what it answers is data.

It checks what a CA checks (signatures, nonces, whose account it is), so that a client that gets
a certificate here has said the right things. Tests set what it thinks of challenges.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from tport.engine.proto.acme import Request
from tport.engine.proto.acme_answers import Response

CA = "https://ca.test"
DIRECTORY = f"{CA}/dir"
LIFE = timedelta(days=90)


def unpadded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Refusal(Exception):
    def __init__(self, kind: str, detail: str, status: int = 400, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers
        self.document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}


class FakeCa:
    """Set the attributes to have it behave otherwise.

    Attributes:
        judge: called with (kind, name, token) when a challenge is to be looked at; returns a
            problem document, or None when all is well.
        bad_nonces: the share of good nonces that it refuses nevertheless.
        looks: polls for which it stays undecided.
        retry_after: what it answers polls with.
        refuse: the next new order is refused with this.
        window: what it suggests for renewal; None: it has no opinion at all.
        reuses: a name that was proven once is proven for good.
        hmacs: keys of accounts that its clients must name; None: it asks for none.
    """

    def __init__(self, clock: Callable[[], datetime], seed: int = 1) -> None:
        self.clock = clock
        self.judge: Callable[[str, str, str], Mapping[str, Any] | None] = lambda *_: None
        self.bad_nonces = 0.0
        self.looks = 0
        self.retry_after = ""
        self.refuse: Refusal | None = None
        self.window: tuple[datetime, datetime] | None = None
        self.hmacs: dict[str, bytes] | None = None
        self.kinds: tuple[str, ...] = ("http-01", "tls-alpn-01", "dns-01", "some-01")
        self.life = LIFE
        self.reuses = False
        self.orders_made: list[list[str]] = []
        self.replaced: list[str] = []
        self.requests: list[Request] = []
        self._random = random.Random(seed)
        self._count = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        """Forget everything, and have another root, as pebble does."""
        self.accounts: dict[str, dict[str, str]] = {}
        self.nonces: set[str] = set()
        self._orders: dict[str, dict[str, Any]] = {}
        self._authorizations: dict[str, dict[str, Any]] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Fake CA {self._next()}")])
        now = self.clock()
        self._root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.root = self._root.public_bytes(serialization.Encoding.PEM).decode()

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        headers: dict[str, str] = {}
        try:
            status, body, extra = self._route(request)
            headers |= extra
        except Refusal as refusal:
            status, body = refusal.status, json.dumps(refusal.document).encode()
            headers |= {name.replace("_", "-"): value for name, value in refusal.headers.items()}
        if request.method != "GET":
            nonce = f"nonce-{self._next()}"
            self.nonces.add(nonce)
            headers["replay-nonce"] = nonce
        return Response(status=status, headers=headers, body=body, at=self.clock())

    def _next(self) -> int:
        return next(self._count)

    def _route(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        path = request.url.removeprefix(CA)
        if (request.method, path) == ("GET", "/dir"):
            return 200, json.dumps(self._directory()).encode(), {}
        if (request.method, path) == ("HEAD", "/nonce"):
            return 200, b"", {}
        if request.method == "GET" and path.startswith("/renewal/") and self.window:
            start, end = (each.isoformat() for each in self.window)
            document = {"suggestedWindow": {"start": start, "end": end}}
            return 200, json.dumps(document).encode(), {"retry-after": "21600"}
        assert request.method == "POST", request
        payload, kid = self._verified(request, is_new=path == "/account")
        if path == "/account":
            return self._account(payload, kid)
        handler = getattr(self, "_" + path.split("/")[1])
        found: tuple[int, bytes, dict[str, str]] = handler(path, payload)
        return found

    def _directory(self) -> dict[str, Any]:
        urls: dict[str, Any] = {
            "newNonce": f"{CA}/nonce",
            "newAccount": f"{CA}/account",
            "newOrder": f"{CA}/neworder",
            "meta": {"externalAccountRequired": self.hmacs is not None},
        }
        return urls | ({"renewalInfo": f"{CA}/renewal"} if self.window else {})

    def _verified(self, request: Request, *, is_new: bool) -> tuple[Any, Any]:
        """Return the payload, and whose it is: a JWK for a new account, else the account's URL."""
        jws = json.loads(request.body)
        header = json.loads(unpadded(jws["protected"]))
        assert header["url"] == request.url
        assert header["alg"] == "ES256"
        if header["nonce"] not in self.nonces:
            raise Refusal("badNonce", "never given, or used")
        self.nonces.remove(header["nonce"])
        if self._random.random() < self.bad_nonces:
            raise Refusal("badNonce", "so it is wanted")
        if is_new:
            jwk = header["jwk"]
        elif (jwk := self.accounts.get(header["kid"])) is None:
            raise Refusal("accountDoesNotExist", "no such account")
        x, y = (int.from_bytes(unpadded(jwk[axis])) for axis in "xy")
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        raw = unpadded(jws["signature"])
        signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        signed = f"{jws['protected']}.{jws['payload']}".encode()
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        payload = json.loads(unpadded(jws["payload"])) if jws["payload"] else None
        return payload, jwk if is_new else header["kid"]

    def _account(self, payload: Any, jwk: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        assert payload["termsOfServiceAgreed"] is True
        for url, known in self.accounts.items():
            if known == jwk:
                return 200, b"{}", {"location": url}
        if self.hmacs is not None:
            self._check_binding(payload["externalAccountBinding"], jwk)
        url = f"{CA}/acct/{self._next()}"
        self.accounts[url] = jwk
        return 201, b"{}", {"location": url}

    def _check_binding(self, jws: dict[str, str], jwk: dict[str, str]) -> None:
        assert self.hmacs is not None
        header = json.loads(unpadded(jws["protected"]))
        assert header["alg"] == "HS256"
        assert header["url"] == f"{CA}/account"
        assert json.loads(unpadded(jws["payload"])) == jwk
        if (key := self.hmacs.get(header["kid"])) is None:
            raise Refusal("unauthorized", "no such key id", 403)
        data = f"{jws['protected']}.{jws['payload']}".encode()
        assert hmac.digest(key, data, "sha256") == unpadded(jws["signature"])

    def _neworder(self, _path: str, payload: Any) -> tuple[int, bytes, dict[str, str]]:
        if self.refuse is not None:
            refusal, self.refuse = self.refuse, None
            raise refusal
        names = [one["value"] for one in payload["identifiers"]]
        self.orders_made.append(names)
        self.replaced += [payload["replaces"]] if "replaces" in payload else []
        number = self._next()
        authorizations = []
        for name in names:
            if (known := self._proven(name)) is not None:
                authorizations.append(known)
                continue
            url = f"{CA}/authz/{self._next()}"
            authorizations.append(url)
            self._authorizations[url] = {
                "status": "pending",
                "identifier": {"type": "dns", "value": name.removeprefix("*.")},
                "challenges": [
                    {"type": kind, "url": f"{CA}/chall/{kind}/{url.rpartition('/')[2]}"}
                    | {"token": f"token-{self._next()}", "status": "pending"}
                    for kind in self.kinds
                    if kind == "dns-01" or not name.startswith("*.")
                ],
                "looks": self.looks,
            }
        order = {
            "status": "pending",
            "authorizations": authorizations,
            "finalize": f"{CA}/finalize/{number}",
        }
        self._orders[f"{CA}/order/{number}"] = order | {"names": names, "looks": self.looks}
        return 201, self._shown(order), {"location": f"{CA}/order/{number}"}

    def _proven(self, name: str) -> str | None:
        """Return the authorization by which a name is proven already, if that counts."""
        for url, found in self._authorizations.items():
            is_it = found["identifier"]["value"] == name and found["status"] == "valid"
            if self.reuses and is_it:
                return url
        return None

    def _shown(self, document: dict[str, Any]) -> bytes:
        hidden = ("looks", "names", "chain")
        return json.dumps({k: v for k, v in document.items() if k not in hidden}).encode()

    def _polled(self) -> dict[str, str]:
        return {"retry-after": self.retry_after} if self.retry_after else {}

    def _authz(self, path: str, _payload: Any) -> tuple[int, bytes, dict[str, str]]:
        found = self._authorizations[CA + path]
        if "next" in found and found["looks"] <= 0:
            found["status"] = found.pop("next")
        found["looks"] -= 1
        return 200, self._shown({k: v for k, v in found.items() if k != "next"}), self._polled()

    def _chall(self, path: str, payload: Any) -> tuple[int, bytes, dict[str, str]]:
        assert payload == {}
        _, _, kind, number = path.split("/")
        authorization = self._authorizations[f"{CA}/authz/{number}"]
        [challenge] = [one for one in authorization["challenges"] if one["type"] == kind]
        name = authorization["identifier"]["value"]
        problem = self.judge(kind, name, challenge["token"])
        authorization["next"] = "valid" if problem is None else "invalid"
        if problem is not None:
            challenge |= {"status": "invalid", "error": problem}
        return 200, json.dumps(challenge).encode(), {}

    def _order(self, path: str, _payload: Any) -> tuple[int, bytes, dict[str, str]]:
        order = self._orders[CA + path]
        states = {self._authorizations[url]["status"] for url in order["authorizations"]}
        if order["status"] == "pending" and states == {"valid"}:
            order["status"] = "ready"
        if order["status"] == "processing":
            order["looks"] -= 1
            if order["looks"] < 0:
                order["status"] = "valid"
                order["certificate"] = f"{CA}/cert/{path.rpartition('/')[2]}"
        return 200, self._shown(order), self._polled()

    def _finalize(self, path: str, payload: Any) -> tuple[int, bytes, dict[str, str]]:
        order = self._orders[f"{CA}/order/{path.rpartition('/')[2]}"]
        assert order["status"] == "ready"
        request = x509.load_der_x509_csr(unpadded(payload["csr"]))
        assert request.is_signature_valid
        wanted = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert sorted(wanted.get_values_for_type(x509.DNSName)) == sorted(order["names"])
        order |= {"status": "processing", "chain": self.issue(request.public_key(), order["names"])}
        return 200, self._shown(order), {}

    def challenges(self, kind: str) -> list[dict[str, str]]:
        """Return every challenge of a kind, of whatever order."""
        return [
            one
            for authorization in self._authorizations.values()
            for one in authorization["challenges"]
            if one["type"] == kind
        ]

    def issue(self, key: Any, names: list[str]) -> str:
        now = self.clock()
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + self.life)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return leaf.public_bytes(serialization.Encoding.PEM).decode() + self.root

    def _cert(self, path: str, _payload: Any) -> tuple[int, bytes, dict[str, str]]:
        order = self._orders[f"{CA}/order/{path.rpartition('/')[2]}"]
        return 200, b"what stands before is no certificate\n" + order["chain"].encode(), {}


def thumbprint_of(jwk: Mapping[str, str]) -> str:
    text = json.dumps(dict(jwk), sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(text.encode()).digest())
