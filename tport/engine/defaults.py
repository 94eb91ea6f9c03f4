"""Every shared number: its value, its unit, the reason, the source.

Names end in no unit; the comment beside each tells it. Times are seconds, sizes bytes,
unless said otherwise. A number used by one module alone may live there, named likewise.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

# --- Addresses -----------------------------------------------------------------------------
WEB_PORT: Final = 3080  # the one public port; Teleport's, so that its users are at home
HTTP_PORT: Final = 80  # where CAs ask by HTTP, RFC 8555 §8.3
AUTH_PORT: Final = 3025  # auth's own listener; Teleport's
UP_DOMAIN: Final = "tport.localhost"  # browsers send *.localhost to their own machine, RFC 6761

# --- ALPN: what a connection to the public port is for --------------------------------------
ALPN_HTTP: Final = "http/1.1"
ALPN_TUNNEL: Final = "tport-tunnel/1"
ALPN_AUTH: Final = "tport-auth/1"
ALPN_ACME: Final = "acme-tls/1"  # RFC 8737
# Beside ALPN_TUNNEL, and before the id of the proxy that is meant where several share a port.
ALPN_FOR: Final = "tport-for/"

# --- Lives ---------------------------------------------------------------------------------
JOIN_TOKEN_TTL: Final = timedelta(minutes=60)  # the guide's
INVITE_TTL: Final = timedelta(hours=1)  # Teleport's; usable once
HOST_CERTIFICATE_TTL: Final = timedelta(hours=24)  # renewed at half-life
HOST_RENEWAL_GRACE: Final = timedelta(days=30)  # expired this long ago may still renew by its key
WEB_CERTIFICATE_TTL: Final = timedelta(days=90)  # own web CA's leaves; browsers refuse > 398 days
KEY_PAIRS_RELOAD: Final = 2.0  # s between looks at certificates' files; a look is a stat of each
AUTHORITY_TTL: Final = timedelta(days=3650)  # ten years; rotation is by generation, not expiry
MAX_SESSION_TTL: Final = timedelta(hours=30)  # a role that names none; Teleport's
WEB_SESSION_TTL: Final = timedelta(hours=12)  # absolute; NIST SP 800-63B AAL2
WEB_IDLE_TIMEOUT: Final = timedelta(hours=1)  # without a request; NIST SP 800-63B AAL2
FRESH_PROOF: Final = timedelta(
    minutes=5
)  # who changes access has just proven who they are; Teleport
SESSION_CREDENTIAL_TTL: Final = timedelta(minutes=5)  # the signed session that agents see
SESSION_CREDENTIAL_RENEWAL: Final = timedelta(minutes=4)
LAUNCH_CODE_TTL: Final = timedelta(seconds=60)
LAUNCH_STATE_TTL: Final = timedelta(minutes=10)
CLOCK_SKEW: Final = timedelta(minutes=1)  # how far another machine's clock may be off ours

# --- Freshness: what "now" means -------------------------------------------------------------
FRESH: Final = 5.0  # s; no decision rests on anything older while auth can be reached
AUTH_GRACE: Final = 60.0  # s without auth that live sessions go on; then 503

# --- Tunnel ---------------------------------------------------------------------------------
ECHO_INTERVAL: Final = 5.0  # s between pings, on both ends
ECHO_DEADLINE: Final = 15.0  # s of silence after which a tunnel is dead
PRESENCE_INTERVAL: Final = 5.0  # s between a proxy's reports
PRESENCE_TTL: Final = 15.0  # s after which what wasn't reported is gone

# --- Whether applications answer ----------------------------------------------------------------
# s between two looks at an application that no request tells of; with the look that confirms a
# failure, people see within some 15 that it is down.
HEALTH_INTERVAL: Final = 10.0
HEALTH_REPORT: Final = 15.0  # s between an agent's reports of it; changes are told at once
HEALTH_TTL: Final = 45.0  # s after which what an agent doesn't repeat is not known any more

# --- Trying applications ---------------------------------------------------------------------
PROBE_DEADLINE: Final = 30.0  # s for all that is tried of one; some 15 requests of ms each

# --- Sending and receiving ---------------------------------------------------------------------
READ_SIZE: Final = 65536  # bytes a recv; above 128 KiB malloc maps and unmaps memory each time

# --- Processes ------------------------------------------------------------------------------------
MAX_WORKERS: Final = 64  # that share the proxy's port; each agent holds a tunnel to each

# --- Draining -----------------------------------------------------------------------------------
DRAIN: Final = 30.0  # s that open connections get once told to stop; a second signal cuts
