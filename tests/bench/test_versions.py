"""The bench says on which CPU it ran: figures of two generations don't compare."""

from __future__ import annotations

import platform

from bench.versions import cpu_name

EPYC = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 23
model\t\t: 1
model name\t: AMD EPYC

processor\t: 1
model name\t: another
"""


def test_a_cpu_is_told_from_others_that_are_called_the_same() -> None:
    assert cpu_name(EPYC) == "AMD EPYC, family 23, model 1"


def test_a_cpu_that_has_no_name_is_called_by_what_it_runs() -> None:
    assert cpu_name("processor\t: 0\nBogoMIPS\t: 50\n") == platform.machine()
