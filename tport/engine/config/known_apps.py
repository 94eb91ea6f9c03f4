"""Applications that many people run, and the port each listens on when nobody says otherwise.

So that `tport start --roles=app --app-name=grafana` needs no URI. Ports: each project's own
documentation. A name here is only a guess; it counts when something answers there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

USUAL_PORTS: Final[Mapping[str, int]] = {
    "airflow": 8080,
    "alertmanager": 9093,
    "code-server": 8080,
    "gitea": 3000,
    "grafana": 3000,
    "home-assistant": 8123,
    "jaeger": 16686,
    "jenkins": 8080,
    "jupyter": 8888,
    "jupyterlab": 8888,
    "kibana": 5601,
    "metabase": 3000,
    "minio": 9001,
    "mlflow": 5000,
    "node-red": 1880,
    "portainer": 9000,
    "prometheus": 9090,
    "rabbitmq": 15672,
    "streamlit": 8501,
    "superset": 8088,
    "syncthing": 8384,
    "tensorboard": 6006,
    "traefik": 8080,
    "uptime-kuma": 3001,
}


def usual_uri(name: str) -> str:
    """Return where an application of this name usually is on its own machine; "": not known."""
    port = USUAL_PORTS.get(name)
    return f"http://localhost:{port}" if port else ""


@dataclass(frozen=True)
class KnownApp:
    """An application that many people run, and what it needs; "" where that isn't known."""

    name: str
    title: str
    host: Literal["uri", "public", ""] = ""
    websocket: str = ""
    events: str = ""
    path: str = ""
    needs: str = ""


JUPYTER: Final = KnownApp("jupyter", "JupyterLab", host="public", websocket="/api/events/subscribe")


def known_app(name: str) -> KnownApp | None:
    return JUPYTER if name in ("jupyter", "jupyterlab") else None


def recognise(title: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> KnownApp | None:
    """Tell by an answer which application it is; None: one that isn't known here."""
    return JUPYTER if "Jupyter" in title else None
