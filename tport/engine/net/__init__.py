"""trio meets the wire: sockets, TLS, HTTP/1.1, the tunnel's streams. Knows no users."""
