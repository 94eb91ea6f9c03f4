"""Why somebody may not open an application is said by the rule that decided, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access.explain import explain
from tport.engine.access.rbac import is_app_allowed
from tport.engine.types.explanation import Explanation
from tport.engine.types.role import PRESETS, Conditions, Role

DEV = Role(name="dev", allow=Conditions(app_labels={"env": ("dev", "test")}))
TEAM = Role(name="team", allow=Conditions(app_labels={"team": ("{{external.team}}",)}))
OPS = Role(name="ops", allow=Conditions(app_labels={"env": ("prod",), "team": ("ops",)}))
NO_PROD = Role(name="no-prod", deny=Conditions(app_labels={"env": ("prod",)}))
ROLES = {role.name: role for role in (DEV, TEAM, OPS, NO_PROD, *PRESETS.values())}


def why(
    *names: str, labels: Mapping[str, str], traits: Mapping[str, tuple[str, ...]] | None = None
) -> Explanation:
    return explain(
        user="alice", app="grafana", roles=ROLES, names=names, traits=traits or {}, labels=labels
    )


def test_the_role_that_opens_it_is_named() -> None:
    found = why("auditor", "dev", labels={"env": "dev"})

    assert found.allowed
    assert found.decided == "role 'dev' opens it"
    assert [view.outcome for view in found.roles] == ["opens-nothing", "opens"]
    assert found.changes == ()


def test_a_denial_is_named_with_the_two_ways_out() -> None:
    found = why("access", "no-prod", labels={"env": "prod"})

    assert not found.allowed
    assert found.decided == "role 'no-prod' denies it"
    assert found.changes == (
        "take the role 'no-prod' from alice",
        "narrow deny.app_labels of the role 'no-prod' (env: ['prod'])",
    )
    assert found.would_open == ()  # no role helps against a denial


def test_a_label_that_does_not_fit_is_named_with_what_it_should_be() -> None:
    found = why("dev", labels={"env": "prod"})

    assert found.decided == (
        "no role opens it; the nearest, 'dev', falls short: env should be dev or test and is prod"
    )
    assert found.changes[:2] == (
        "label grafana env=dev",
        "add 'prod' to app_labels.env of the role 'dev'",
    )


def test_a_missing_trait_is_named_with_the_value_it_should_have() -> None:
    found = why("team", labels={"team": "ops"})

    assert found.roles[0].unmet[0].missing_traits == ("team",)
    assert found.changes[0] == "give alice the trait team=ops"
    assert why("team", labels={"team": "ops"}, traits={"team": ("web",)}).changes[0] == (
        "add 'ops' to alice's trait 'team'"
    )


def test_of_roles_that_would_open_it_the_narrowest_comes_first() -> None:
    found = why(labels={"env": "prod", "team": "ops"})

    assert found.would_open == ("ops", "access")
    assert found.decided == "no role was given"
    assert found.changes == ("give alice the role 'ops'", "give alice the role 'access'")


def test_a_label_whose_command_failed_is_named_for_what_it_is() -> None:
    found = why("dev", labels={"env": "error"})

    assert found.changes[0] == "mend the command of grafana's label 'env': it failed"


def test_a_role_that_is_gone_opens_nothing() -> None:
    assert why("was-there", labels={}).roles[0].outcome == "unknown"


SLOW = '{{regexp.replace(external.x, "(.*)(.*)(.*)b", "b")}}'
ENDLESS = {"x": ("a" * 5000,)}  # for SLOW too much work, for an expression too many characters


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (SLOW, "regexp.replace(external.x) would take too long"),
        ("^{{external.x}}$", "it stands for more than 256 characters"),
    ],
)
@pytest.mark.parametrize("side", ["allow", "deny"])
def test_a_role_that_cannot_be_judged_is_named_as_what_bars_the_way(
    side: str, value: str, because: str
) -> None:
    """The decision is a refusal then, whatever other roles say; so is what explains it."""
    conditions = Conditions(app_labels={"env": (value,)})
    nothing = Conditions()
    odd = Role(
        name="odd",
        allow=conditions if side == "allow" else nothing,
        deny=conditions if side == "deny" else nothing,
    )
    roles = {**ROLES, "odd": odd}

    found = explain(
        user="alice",
        app="grafana",
        roles=roles,
        names=["odd", "dev", "team"],
        traits=ENDLESS,
        labels={"env": "dev"},
    )

    assert not found.allowed
    assert found.decided.startswith("the roles can't be judged: ")
    assert found.decided.endswith(because)
    assert [view.outcome for view in found.roles] == ["opens-nothing", "opens", "falls-short"]
    assert found.changes == ("mend the role 'odd', which can't be judged, or take it from alice",)
    assert found.would_open == ()


def test_a_label_that_the_decision_did_not_come_to_need_not_be_judged() -> None:
    odd = Role(name="odd", allow=Conditions(app_labels={"team": ("a",), "env": (SLOW,)}))

    found = explain(
        user="alice",
        app="grafana",
        roles={"odd": odd},
        names=["odd"],
        traits=ENDLESS,
        labels={"team": "b", "env": "dev"},
    )

    assert found.decided.startswith("no role opens it")
    assert [unmet.key for unmet in found.roles[0].unmet] == ["team", "env"]


WORDS = st.sampled_from(["dev", "test", "prod", "ops", "web"])
NAMES = st.lists(st.sampled_from([*ROLES, "gone"]), unique=True, max_size=4)


@given(
    names=NAMES,
    labels=st.dictionaries(st.sampled_from(["env", "team"]), WORDS),
    traits=st.dictionaries(st.just("team"), st.tuples(WORDS)),
)
def test_what_is_explained_is_what_is_decided(
    names: list[str], labels: dict[str, str], traits: dict[str, tuple[str, ...]]
) -> None:
    found = explain(
        user="alice", app="grafana", roles=ROLES, names=names, traits=traits, labels=labels
    )

    assert found.allowed is is_app_allowed(ROLES, names, traits, labels)
    for role in found.would_open:
        assert is_app_allowed(ROLES, [*names, role], traits, labels)
    assert found.allowed or found.changes


@pytest.mark.parametrize("trait", ["ops", "web"])
def test_a_change_that_is_proposed_does_allow_it(trait: str) -> None:
    assert why("team", labels={"team": trait}).changes[0] == f"give alice the trait team={trait}"
    assert why("team", labels={"team": trait}, traits={"team": (trait,)}).allowed
