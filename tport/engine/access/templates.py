r"""Templates in header values and role labels: variables of a person, and two functions.

The whole grammar; all else is literal text:

    template    "{{" expression "}}"
    expression  ("internal" | "external") "." name
              | "email.local" "(" expression ")"
              | "regexp.replace" "(" expression "," string "," string ")"
    string      as in Go: "…" with \\ and \", or `…` to the letter

with spaces between these if you like. Values are put in once: one that looks like a template
stays text.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from tport.engine.access.replace import Replacer, TooMuchWork
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

MAX_DEPTH: Final = 4  # functions within functions

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]*")
_STRING = re.compile(r'`([^`]*)`|"((?:[^"\\]|\\["\\])*)"')
_SPACE = re.compile(r"[ \t]*")
_ADDRESS = re.compile(r"([^@\s<>()\[\]\\,;:\"]{1,64})@[^@\s]{1,255}")  # RFC 5321 §4.5.3.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")  # a trait's name, see types.user
_UNSENDABLE = re.compile(r"[^\x20-\x7e]")

Values = Mapping[str, Sequence[str]]


class Variable(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"

    @property
    def variable(self) -> Variable:
        return self

    def values(self, spaces: Mapping[str, Values]) -> Sequence[str]:
        return spaces[self.namespace].get(self.name, ())


@dataclass(frozen=True, slots=True)
class EmailLocal:
    """What stands before the `@` of each value; what is no address is left out."""

    of: Expression

    def __str__(self) -> str:
        return f"email.local({self.of})"

    @property
    def variable(self) -> Variable:
        return self.of.variable

    def values(self, spaces: Mapping[str, Values]) -> Sequence[str]:
        addresses = map(_ADDRESS.fullmatch, self.of.values(spaces))
        return tuple(address[1] for address in addresses if address)


@dataclass(frozen=True, slots=True, eq=False)  # by identity: that's what results are kept by
class Replaced:
    """Each value with what an expression finds replaced; where it finds nothing, none."""

    of: Expression
    replacer: Replacer

    def __str__(self) -> str:
        return f"regexp.replace({self.of})"

    @property
    def variable(self) -> Variable:
        return self.of.variable

    def values(self, spaces: Mapping[str, Values]) -> Sequence[str]:
        replaced = _replaced(self.replacer, tuple(self.of.values(spaces)))
        if replaced is None:
            raise TooMuchWork(f"{self} would take too long")
        return replaced


Expression = Variable | EmailLocal | Replaced


@lru_cache(maxsize=4096)
def _replaced(replacer: Replacer, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Remembered, the failures (None) too: the labels of roles are matched at every request."""
    try:
        return replacer.apply(values)
    except TooMuchWork:
        return None


class Rendered(NamedTuple):
    """Header values, and why there are none or fewer than the template asks for ("": there are)."""

    values: tuple[str, ...]
    skipped: str


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and expressions, in the order in which they were written."""

    parts: tuple[str | Expression, ...]

    @property
    def is_static(self) -> bool:
        return all(isinstance(part, str) for part in self.parts)

    def uses(self, namespace: str, name: str) -> bool:
        """Tell whether a variable is in it, inside of a function too."""
        wanted = Variable(namespace, name)
        return any(part.variable == wanted for part in self.parts if not isinstance(part, str))

    def values(self, internal: Values, external: Values) -> Sequence[str]:
        """Return what a template of one part alone stands for, however many values that is.

        Raises:
            TooMuchWork: a value is beyond what `regexp.replace` may cost.
        """
        [values] = self._choices(internal, external)
        return values

    def render(
        self, internal: Values, external: Values, *, escape: Callable[[str], str] = str
    ) -> tuple[str, ...] | None:
        """Return the text for each combination of values: () when a variable has none.

        None: there are more than MAX_VALUES combinations, so that nobody can tell. `escape` is
        applied to what is put in, not to the text around it.

        Raises:
            TooMuchWork: a value is beyond what `regexp.replace` may cost.
        """
        choices = self._choices(internal, external)
        if math.prod(map(len, choices)) > MAX_VALUES:
            return None
        escaped = [
            choice if isinstance(part, str) else [escape(value) for value in choice]
            for part, choice in zip(self.parts, choices, strict=True)
        ]
        return tuple("".join(values) for values in itertools.product(*escaped))

    def render_header(self, internal: Values, external: Values) -> Rendered:
        """Return what may be sent as a header's values: printable ASCII of at most 8 KiB each.

        The reasons name variables and counts, never a value: they go to the audit log.
        """
        try:
            choices = self._choices(internal, external)
        except TooMuchWork:
            return Rendered((), "regexp.replace would take too long")
        for part, choice in zip(self.parts, choices, strict=True):
            if not isinstance(part, str) and not choice:
                return Rendered((), f"{part} has no value")
        if (count := math.prod(map(len, choices))) > MAX_VALUES:
            return Rendered((), f"{count} values are more than {MAX_VALUES}")
        values, skipped = [], ""
        for value in self.render(internal, external) or ():
            if len(value) > MAX_HEADER_VALUE:
                skipped = f"a value is longer than {MAX_HEADER_VALUE} bytes"
            elif _UNSENDABLE.search(value):
                skipped = "a value holds characters other than printable ASCII"
            else:
                values.append(value.strip(" "))
        return Rendered(tuple(values), skipped)

    def _choices(self, internal: Values, external: Values) -> list[Sequence[str]]:
        spaces = {"internal": internal, "external": external}
        return [(part,) if isinstance(part, str) else part.values(spaces) for part in self.parts]


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
    parts: list[str | Expression] = []
    reader = _Reader(text, internal_names)
    while True:
        literal, opened = reader.literal()
        if literal:
            parts.append(literal)
        if not opened:
            return Template(tuple(parts))
        parts.append(reader.expression())


def internal_values(traits: Values, *, username: str = "", jwt: str = "") -> Values:
    """Return what `{{internal.…}}` stands for. An empty `jwt` or `username` has no value."""
    values = {name: traits[name] for name in INTERNAL_TRAITS & traits.keys()}
    if username:
        values["username"] = (username,)
    if jwt:
        values["jwt"] = (jwt,)
    return values


class _Reader:
    """Reads a template from left to right."""

    def __init__(self, text: str, internal_names: frozenset[str]) -> None:
        self._text = text
        self._internal_names = internal_names
        self._at = 0
        self._opened = 0  # behind the last "{{"

    def literal(self) -> tuple[str, bool]:
        """Return the text up to the next "{{", and whether there is one."""
        end = self._text.find("{{", self._at)
        literal = self._text[self._at : end] if end >= 0 else self._text[self._at :]
        if "}}" in literal:
            raise InvalidRequest(f"'}}}}' without '{{{{' in {self._text!r}")
        self._opened = self._at = end + 2
        return literal, end >= 0

    def expression(self) -> Expression:
        """Read what stands behind "{{", and the "}}"."""
        if "}}" not in self._text[self._at :]:
            raise InvalidRequest(f"'{{{{' without '}}}}' in {self._text!r}")
        expression = self._expression(0)
        self._expect("}}")
        return expression

    def _expression(self, depth: int) -> Expression:
        word = self._match(_WORD)
        if word is None or depth > MAX_DEPTH:
            raise self._refusal()
        if not self._is_next("("):
            return self._variable(word[0])
        self._expect("(")
        of = self._expression(depth + 1)
        expression: Expression
        if word[0] == "email.local":
            expression = EmailLocal(of)
        elif word[0] == "regexp.replace":
            pattern, replacement = self._string(), self._string()
            expression = Replaced(of, Replacer(pattern, replacement))
        else:
            raise self._refusal()
        self._expect(")")
        return expression

    def _variable(self, word: str) -> Variable:
        namespace, _, name = word.partition(".")
        if namespace not in ("internal", "external") or not _NAME.fullmatch(name):
            raise self._refusal()
        if namespace == "internal" and name not in self._internal_names:
            raise InvalidRequest(
                f"{self._text!r}: there is no internal.{name} here (only"
                f" {', '.join(sorted(self._internal_names))})",
                hint=f"for a trait of that name write {{{{external.{name}}}}}",
            )
        return Variable(namespace, name)

    def _string(self) -> str:
        """Read the comma before an argument, and the argument."""
        self._expect(",")
        quoted = self._match(_STRING)
        if quoted is None:
            raise InvalidRequest(
                f"regexp.replace in {self._text!r} takes a value and two strings",
                hint='write "…" with \\\\ for each backslash, or `…`',
            )
        raw, escaped = quoted.groups()
        return raw if raw is not None else re.sub(r"\\(.)", r"\1", escaped)

    def _expect(self, sign: str) -> None:
        if not self._is_next(sign):
            raise self._refusal()
        self._at += len(sign)

    def _is_next(self, sign: str) -> bool:
        self._match(_SPACE)
        return self._text.startswith(sign, self._at)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        if pattern is not _SPACE:
            self._match(_SPACE)
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _refusal(self) -> InvalidRequest:
        inside = self._text[self._opened :].partition("}}")[0]
        return InvalidRequest(
            f"{{{{{inside}}}}} in {self._text!r} is no template",
            hint="write {{external.<trait>}} or {{internal.<name>}}",
        )
