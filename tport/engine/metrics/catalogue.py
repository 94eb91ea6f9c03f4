"""Every figure that `/metrics` may tell: its kind, its labels, what it means. docs/metrics.md has the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
# Of several processes: one line for all of them, or a line for each, which says whose it is.
Across = Literal["sum", "min", "max", "each"]

PROCESS: Final = "process"  # the label that says whose a figure is: "main", "worker-1"


class Metric(NamedTuple):
    """
    Attributes:
        labels: their names, in the order of a sample's labels.
        bounds: of a histogram: its buckets' upper ends, in seconds.
    """

    kind: Kind
    meaning: str
    across: Across = "sum"
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


# Few buckets: each is a line for each application.
REQUEST_BOUNDS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0)
STORAGE_BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 1.0)

METRICS: Final[Mapping[str, Metric]] = {
    # --- proxy
    "tport_requests_total": Metric(
        "counter",
        "requests that were let through to an application and have ended",
        labels=("app", "class"),
    ),
    "tport_request_seconds": Metric(
        "histogram",
        "how long they took, to the last byte; upgraded connections (WebSockets) are left out",
        labels=("app",),
        bounds=REQUEST_BOUNDS,
    ),
    "tport_unanswered_total": Metric(
        "counter", "requests that the application did not answer, by why", labels=("why",)
    ),
    "tport_connections": Metric("gauge", "open connections to the public port", labels=("kind",)),
    "tport_strangers": Metric("gauge", "those of them on which nobody has shown yet who they are"),
    "tport_tunnels": Metric(
        "gauge", "tunnels that agents hold; an agent holds one to each proxy process"
    ),
    "tport_tunnel_streams": Metric(
        "gauge", "open streams in tunnels: one for each request, and one that is the tunnel's own"
    ),
    "tport_running_sessions": Metric(
        "gauge", "sessions that a request or a WebSocket runs for now"
    ),
    "tport_shed_total": Metric(
        "counter", "what was turned away or dropped for want of room, by what", labels=("what",)
    ),
    "tport_queue": Metric(
        "gauge", "how much waits in a queue; its bound is in the documents", labels=("queue",)
    ),
    "tport_auth_silence_seconds": Metric(
        "gauge", "since auth was last heard; past 60 requests are refused", across="max"
    ),
    "tport_certificate_reload_failures_total": Metric(
        "counter", "changed certificate files that could not be taken; the old ones stay"
    ),
    # --- auth
    "tport_sessions": Metric("gauge", "sessions that are stored, by kind", labels=("kind",)),
    "tport_agents": Metric("gauge", "agents that have a tunnel to any proxy"),
    "tport_offers": Metric(
        "gauge", "applications times the agents that offer them", labels=("state",)
    ),
    "tport_certificate_days_left": Metric(
        "gauge",
        "until the certificate that browsers are shown ends",
        across="min",
        labels=("host", "source"),
    ),
    "tport_authority_days_left": Metric(
        "gauge", "until an authority of the cluster ends", across="min", labels=("authority",)
    ),
    "tport_storage_seconds": Metric(
        "histogram",
        "how long storage took to read, or to confirm a write",
        labels=("operation",),
        bounds=STORAGE_BOUNDS,
    ),
    "tport_storage_failures_total": Metric("counter", "reads and writes that storage failed"),
    # --- agent
    "tport_agent_tunnels": Metric("gauge", "tunnels that the agent here holds"),
    "tport_agent_requests": Metric("gauge", "requests that run in the agent here"),
    "tport_agent_app_up": Metric(
        "gauge", "1: the application answers the agent here; 0: it does not", labels=("app",)
    ),
    "tport_agent_certificate_days_left": Metric(
        "gauge", "until the agent's own certificate ends; it renews at half its life", across="min"
    ),
    # --- the process
    "tport_build_info": Metric("gauge", "always 1", "each", ("version", "python")),
    "tport_loop_lag_seconds": Metric(
        "gauge", "the longest that anything waited for its turn in the last minute", "each"
    ),
    "tport_loop_stalls_total": Metric(
        "counter", "how often it stood still for a second or more; where, is in the log", "each"
    ),
    "tport_tasks": Metric("gauge", "trio's tasks", "each"),
    "tport_data_free_bytes": Metric("gauge", "free on the disk of data_dir", "min"),
    "process_state": Metric("gauge", "0 ok, 2 degraded, 3 starting; as Teleport has it", "max"),
    "process_cpu_seconds_total": Metric("counter", "user and system time", "each"),
    "process_resident_memory_bytes": Metric("gauge", "memory in use", "each"),
    "process_open_fds": Metric("gauge", "open file descriptors", "each"),
    "process_max_fds": Metric("gauge", "the most it may have open", "each"),
    "process_start_time_seconds": Metric("gauge", "when it began, since 1970", "each"),
}
