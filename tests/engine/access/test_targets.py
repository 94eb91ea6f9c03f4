"""AG-07: addresses of clouds' metadata, in every coat."""

import pytest

from tport.engine.access.targets import is_metadata


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.0.1",
        "168.63.129.16",
        "100.100.100.200",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:1::5601:5601",
    ],
)
def test_no_spelling_of_a_metadata_address_gets_by(address: str) -> None:
    assert is_metadata(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::",
        "10.0.0.1",
        "192.168.1.1",
        "fd00::1",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "8.8.8.8",
        "100.100.100.201",
        "localhost",
        "metadata.google.internal",
        "",
    ],
)
def test_applications_beside_the_agent_and_everywhere_else_stay_allowed(address: str) -> None:
    """A name is none: it is judged by what it leads to, when it has been dialled."""
    assert not is_metadata(address)
