"""Every shared number: its value, its unit, the reason, the source.

Names end in no unit; the comment beside each tells it. Times are seconds, sizes bytes,
unless said otherwise. A number used by one module alone may live there, named likewise.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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

# --- Times that may be given: any zone's, and days may be added, where datetime knows 1 to 9999 ---
EARLIEST: Final = datetime(2, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)

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
ECHO_INTERVAL: Final = 5.0  # s between pings: by both ends, while a tunnel rests by the agent
# s of silence after which a tunnel is dead. A second less than the 15 in which people and auth are to
# know of it: it is looked at, ended and reported in that.
ECHO_DEADLINE: Final = 14.0
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
# Bytes of a full write of a tunnel: four records of TLS. A crumb in a fifth costs both ends a send
# and a read for each; above 128 KiB malloc maps and unmaps memory each time.
TUNNEL_WRITE: Final = 64 * 1024
READ_SIZE: Final = (
    TUNNEL_WRITE - 12
)  # bytes of a piece: with its frame's head it fills such a write

# --- Processes ------------------------------------------------------------------------------------
MAX_WORKERS: Final = 64  # that share the proxy's port; each agent holds a tunnel to each

# --- Draining -----------------------------------------------------------------------------------
DRAIN: Final = 30.0  # s that open connections get once told to stop; a second signal cuts

# --- Limits: docs/limits.md says of each what a client sees at it, and what counts it -------------
# Of the public port, by security.md DOS-01 where nothing else is said. Of each process that serves it.
CONNECTIONS: Final = 10_000  # at a time, whosesoever; each costs 20 KiB idle, 200 MB in all
# Of them from one address (IPv6: /64): 600 people behind one NAT, with six each.
CONNECTIONS_PER_ADDRESS: Final = 4000
STRANGERS: Final = 2000  # connections on which nobody has shown a session, a token or a certificate
STRANGERS_PER_ADDRESS: Final = 200  # of them from one address; a browser opens six and more at once
# s that a stranger's connection does not count against its address: an office whose browsers all come
# back at once, after a restart, is hundreds of handshakes, of which none would be let finish.
STRANGER_GRACE: Final = 5.0
# New connections a second from an address of which nobody was signed in lately, once it has had as many at
# once as strangers may have: 1 ms of handshake each, and 0.8 ms for each page, are then some 5 % of a CPU.
NEW_PER_ADDRESS: Final = 5
TURN_DEADLINE: Final = 5.0  # s that one waits for its turn; further ones are closed at once
LATELY: Final = 600.0  # s that an address is trusted after somebody of it has shown who they are
STRANGER_REQUESTS: Final = 10  # on one connection, then it ends; a browser's first page takes fewer
# File descriptors that no browser gets: for tunnels, auth, storage, logs. Source: DOS-08
RESERVED_DESCRIPTORS: Final = 64
# Parts of the memory that a cgroup gives this process: from the first on strangers come only for others,
# from the second on those who rest are ended, before the kernel kills. As Envoy's overload manager,
# which begins at 95 and 98 % of its heap; ours shares the limit with others. Source: R-30
MEMORY_TIGHT: Final = 0.85
MEMORY_FULL: Final = 0.95
HTTP_CONNECTIONS: Final = 200  # to port 80, where one answer ends each
AUTH_CONNECTIONS: Final = 2000  # to auth; each agent and proxy keeps a few
AUTH_STRANGERS: Final = 500  # of them without a certificate of ours: joining needs one for seconds
DIAG_CONNECTIONS: Final = 32  # to diagnostics; a few probes and scrapers have one each

CLIENT_HELLO_DEADLINE: Final = 5.0  # s for all of it, and as many before it for a PROXY header
MAX_CLIENT_HELLO: Final = 16 * 1024  # bytes, record headers included; Chromium's is 2 KiB
HANDSHAKE_DEADLINE: Final = 10.0  # s for the rest of a TLS handshake
HEAD_DEADLINE: Final = 10.0  # s for a whole head, from its first byte, however it drips
IDLE_TIMEOUT: Final = 60.0  # s until the first byte of the next request; nginx has 75, Apache 5
# A peer that has vanished without a goodbye is noticed by the kernel after two minutes, also where
# nothing is sent and nothing is due: a WebSocket, a download that the application holds up.
KEEPALIVE_IDLE: Final = 60  # s of silence until it is asked; below what common NATs remember
KEEPALIVE_INTERVAL: Final = 15  # s between two questions
KEEPALIVE_PROBES: Final = 4  # questions without an answer
BODY_GRACE: Final = 10.0  # s before the rate of a body counts: mobile networks stall so long
BODY_WINDOW: Final = 30.0  # s over which it is averaged
BODY_RATE: Final = 500  # bytes a second of a body at the least, as Apache's mod_reqtimeout asks
STALL_TIMEOUT: Final = (
    60.0  # s for which a client may take nothing of an answer; nginx's send_timeout
)
SEND_RATE: Final = (
    1000  # bytes a second that it must take; below it a page of 1 MiB takes 17 minutes
)
UNREAD_BODY: Final = 64 * 1024  # bytes of a body nobody wants that are read to keep a connection
LINGER: Final = 1.0  # s that a client gets to read a last answer

# Heads, of requests and of answers. In bytes, but for the count. Source: DOS-02
MAX_HEAD: Final = 64 * 1024
MAX_HEADERS: Final = 128
MAX_HEAD_LINE: Final = 16 * 1024
MAX_TARGET: Final = 8 * 1024
MAX_INFORMATIONAL: Final = 8  # 1xx answers to one request. Source: HTTP-16
READ_AHEAD: Final = MAX_HEAD  # bytes of further requests read while one is answered. Source: DOS-04

# Each chunk costs about 1 µs however small it is, so that bytes must come with them. Source: DOS-03
FREE_CHUNKS: Final = 1000
SMALLEST_MEAN_CHUNK: Final = 64  # bytes a chunk, once there were more than FREE_CHUNKS
MAX_TRAILERS: Final = 8192  # bytes; we drop them, so that any use would be odd
MAX_OWN_BODY: Final = 1024 * 1024  # bytes for our own pages: forms and JSON. Source: DOS-07
MAX_CALL: Final = 1024 * 1024  # bytes of a call to auth, or to the JSON API. Source: DOS-07

# Tunnels. Streams open at a time in one: 375 MiB if all, and as many as may be on their way (yamux.SLACK),
# bring more than anybody reads, below the 400 that DOS-05 comes to here.
MAX_STREAMS: Final = 1250
# Of them for one session, in all tunnels of a process: a load test by one session holds 1,000 connections, Chrome
# opens 255 WebSockets to one host at most. A fifth of a tunnel is left for others.
SESSION_STREAMS: Final = 1000
INITIAL_WINDOW: Final = 256 * 1024  # bytes either side may send unasked; yamux spec, "Flow Control"
MAX_WINDOW: Final = 16 * 1024 * 1024  # bytes; 1 Gbit/s over 130 ms, one stream
WINDOW_BUDGET: Final = 64 * 1024 * 1024  # bytes a process gives to all windows beyond the initial
MAX_STREAM_QUEUE: Final = READ_SIZE  # bytes one stream may have waiting to be sent. Source: DOS-05
TUNNEL_QUEUE: Final = 4 * 1024 * 1024  # bytes waiting to be sent, all streams of a tunnel together
# s without a word until the head of an answer. An agent gives up dialling within 60, and while it
# waits for an application says so each 30: past that the agent itself is stuck.
ANSWER_DEADLINE: Final = 90.0
MAX_OFFERS: Final = 1000  # applications of one agent
# Sessions of which a proxy, or an agent, has at hand all that it found out, in 4 KiB each (an agent
# in 6 if auth signs 20 groups for each, in 18 if 80). A request of any other is
# judged from the start, which takes some times the CPU.
READY_SESSIONS: Final = 20_000
# First certificates by ACME: agents say which names there are, and all share one account at the CA. Let's Encrypt
# allows an account 300 new orders in three hours (letsencrypt.org/docs/rate-limits). These are at most 200 in three
# hours; what is left is for renewals and the proxies' own.
NEW_NAMES: Final = 50  # an hour, at one CA; as many at once
NEW_NAMES_PER_AGENT: Final = (
    30  # of them, for applications of one agent: as many as one offers at first
)
# Of them, by Let's Encrypt, below one domain, a week, as many at once. It issues 50, one each 202 minutes after that
# (the same page); renewals don't count there. Ten are left for the proxies' own names, for what else a company has, and
# for orders that are under way when the last is counted, four at each proxy.
# A company of 45 applications on several agents waits for five of them, a day at most; on one agent, for fifteen,
# three and a half days, which a wildcard (dns_hook) saves it. One agent's share is what it offers at first, as above.
NEW_NAMES_OF_DOMAIN: Final = 40
NEW_NAMES_OF_DOMAIN_PER_AGENT: Final = 30
MAX_UNISSUED: Final = 1000  # names without a certificate whose last failure is remembered
AUTH_CALL_DEADLINE: Final = 30.0  # s that one call may take in auth; callers give up after 10

# Who proves who they are. Hashes: one for each CPU at a time, 46 MiB and 50 ms each. Source: AUTH-05
HASH_QUEUE: Final = 16  # tries that wait for theirs, for each CPU: a second and a half for the last
# s that the next try would wait if each took one hash, as long as the last: twelve times the usual where all else is
# busy and hashes give way. An estimate: some take two. Who asks auth waits for ten.
HASH_WAIT: Final = 4.0
CODE_QUEUE: Final = 32  # codes for one account that wait for their turn; they take no hash
# Tries at one account, which go one after the other, that wait for their turn: one more than there are failures
# before it is locked. They take none of the places above, which others need.
ACCOUNT_QUEUE: Final = 6
MAX_PASSWORD: Final = 128  # characters
MAX_PASSWORD_BYTES: Final = 512  # UTF-8; checked before any work is spent on it
LOGINS_PER_MINUTE: Final = 20  # tries of one address, over a burst of LOGIN_BURST; Teleport's
LOGIN_BURST: Final = 40
MAX_LOGIN_FAILURES: Final = 5  # in a row, then the account is locked; Teleport's
# Wrong tokens of one address, as wrong passwords are limited. A right one always passes: nobody
# guesses 256 bits, and who shares an address with a broken script must not suffer for it.
DEVICE_TOKENS_PER_MINUTE: Final = 20
DEVICE_TOKEN_BURST: Final = 40
JOIN_FAILURES_PER_MINUTE: Final = 10  # of one address. Source: AG-01
MAX_ADDRESSES: Final = 100_000  # whose tries are remembered. Source: AUTH-13

# What is written down.
REFUSALS_PER_MINUTE: Final = 20  # events of one stranger's address, over a burst of REFUSAL_BURST
REFUSAL_BURST: Final = 40
# Failures of one kind written down in a minute, of all people and addresses together: 0.3 MB. What is
# beyond is counted, and an event tells it. Source: DOS-10
FAILURES_WRITTEN: Final = 600
SAME_FAILURES_WRITTEN: Final = 60  # of them, by one person from one address
LOG_LINES: Final = 60  # of the program's log, of one kind, in a minute. Source: DOS-10
EVENT_QUEUE: Final = (
    1000  # events that wait while auth can't be reached; what comes then is counted
)
AUDIT_QUEUE: Final = 1024  # events that wait to be written, each a line of at most 64 KiB
REQUEST_LOG_QUEUE: Final = 20_000  # requests that wait: what a busy proxy carries in some seconds
