"""Templates in header values and role labels: `{{internal.name}}` and `{{external.name}}`.

The whole grammar: two braces, spaces if you like, a namespace, a dot, a name, two braces;
all else is literal text. Values are put in once: one that looks like a template stays text.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from tport.engine.errors import InvalidRequest

MAX_TEMPLATE: Final = 4096  # characters
MAX_VALUES: Final = 64  # results of one template; a head holds about 100 lines
MAX_HEADER_VALUE: Final = 8192  # bytes; what most servers take for one line

# Teleport's names (api/types/trait constants); each is the trait of the same name.
INTERNAL_TRAITS: Final = frozenset(
    {
        "logins",
        "windows_logins",
        "kubernetes_users",
        "kubernetes_groups",
        "db_names",
        "db_users",
        "db_roles",
        "aws_role_arns",
        "azure_identities",
        "gcp_service_accounts",
        "github_orgs",
    }
)
# In headers also who is calling: the assertion, and tport's own addition, the user's name.
INTERNAL_HEADER_NAMES: Final = INTERNAL_TRAITS | {"jwt", "username"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")  # a trait's name, see types.user
_UNSENDABLE = re.compile(r"[^\x20-\x7e]")

Values = Mapping[str, Sequence[str]]


class Variable(NamedTuple):
    namespace: str
    name: str


class Rendered(NamedTuple):
    """Header values, and why there are none or fewer than the template asks for ("": there are)."""

    values: tuple[str, ...]
    skipped: str


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and variables, in the order in which they were written."""

    parts: tuple[str | Variable, ...]

    @property
    def is_static(self) -> bool:
        return not any(isinstance(part, Variable) for part in self.parts)

    def uses(self, namespace: str, name: str) -> bool:
        return Variable(namespace, name) in self.parts

    def render(
        self, internal: Values, external: Values, *, escape: Callable[[str], str] = str
    ) -> tuple[str, ...]:
        """Return the text for each combination of values.

        Nothing when a variable has no value, or when there are more than MAX_VALUES
        combinations. `escape` is applied to what is put in, not to the text around it.
        """
        choices = self._choices(internal, external)
        if math.prod(map(len, choices)) > MAX_VALUES:
            return ()
        escaped = [
            choice if isinstance(part, str) else [escape(value) for value in choice]
            for part, choice in zip(self.parts, choices, strict=True)
        ]
        return tuple("".join(values) for values in itertools.product(*escaped))

    def render_header(self, internal: Values, external: Values) -> Rendered:
        """Return what may be sent as a header's values: printable ASCII of at most 8 KiB each.

        The reasons name variables and counts, never a value: they go to the audit log.
        """
        choices = self._choices(internal, external)
        for part, choice in zip(self.parts, choices, strict=True):
            if isinstance(part, Variable) and not choice:
                return Rendered((), f"{part.namespace}.{part.name} has no value")
        if (count := math.prod(map(len, choices))) > MAX_VALUES:
            return Rendered((), f"{count} values are more than {MAX_VALUES}")
        values, skipped = [], ""
        for value in self.render(internal, external):
            if len(value) > MAX_HEADER_VALUE:
                skipped = f"a value is longer than {MAX_HEADER_VALUE} bytes"
            elif _UNSENDABLE.search(value):
                skipped = "a value holds characters other than printable ASCII"
            else:
                values.append(value.strip(" "))
        return Rendered(tuple(values), skipped)

    def _choices(self, internal: Values, external: Values) -> list[Sequence[str]]:
        spaces = {"internal": internal, "external": external}
        return [
            (part,) if isinstance(part, str) else spaces[part.namespace].get(part.name, ())
            for part in self.parts
        ]


@lru_cache(maxsize=4096)
def parse_template(
    text: str, *, internal_names: frozenset[str] = INTERNAL_HEADER_NAMES
) -> Template:
    """Read a template. Single braces are literal text.

    Args:
        internal_names: what may follow `internal.` here.

    Raises:
        InvalidRequest: braces that don't pair up, a namespace or a name that doesn't exist.
    """
    if len(text) > MAX_TEMPLATE:
        raise InvalidRequest(f"a template is longer than {MAX_TEMPLATE} characters")
    parts: list[str | Variable] = []
    rest = text
    while True:
        literal, opened, rest = rest.partition("{{")
        if "}}" in literal:
            raise InvalidRequest(f"'}}}}' without '{{{{' in {text!r}")
        if literal:
            parts.append(literal)
        if not opened:
            return Template(tuple(parts))
        inside, closed, rest = rest.partition("}}")
        if not closed:
            raise InvalidRequest(f"'{{{{' without '}}}}' in {text!r}")
        parts.append(_variable(inside, text, internal_names))


def internal_values(traits: Values, *, username: str = "", jwt: str = "") -> Values:
    """Return what `{{internal.…}}` stands for. An empty `jwt` or `username` has no value."""
    values = {name: traits[name] for name in INTERNAL_TRAITS & traits.keys()}
    if username:
        values["username"] = (username,)
    if jwt:
        values["jwt"] = (jwt,)
    return values


def _variable(inside: str, text: str, internal_names: frozenset[str]) -> Variable:
    namespace, _, name = inside.strip(" \t").partition(".")
    if namespace not in ("internal", "external") or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{{{{{inside}}}}} in {text!r} is no template",
            hint="write {{external.<trait>}} or {{internal.<name>}}",
        )
    if namespace == "internal" and name not in internal_names:
        raise InvalidRequest(
            f"{text!r}: there is no internal.{name} here (only {', '.join(sorted(internal_names))})",
            hint=f"for a trait of that name write {{{{external.{name}}}}}",
        )
    return Variable(namespace, name)
