"""Who may open what, and with which password: AZ-01, AZ-02, AG-14, AUTH-05, AUTH-06."""

import time
from collections.abc import Iterator, Mapping
from functools import partial

import pytest
import trio

from tport.engine.access import passwords, rbac
from tport.engine.access.labels import merge_labels
from tport.engine.access.passwords import (
    MINIMUM,
    MINIMUM_WITH_SECOND_FACTOR,
    check_password_strength,
    hash_password,
    verify_password,
)
from tport.engine.access.rbac import DENIED, check_app_access, is_app_allowed
from tport.engine.agent.labels import keep_labels
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.types.app import DynamicLabel
from tport.engine.types.role import PRESETS, Conditions, Role


def allows(value: str, label: str) -> bool:
    roles = {"r": Role(name="r", allow=Conditions(app_labels={"env": (value,)}))}
    return is_app_allowed(roles, ["r"], {}, {"env": label})


class Broken(Mapping[str, Role]):
    """A store of roles that fails in the middle."""

    def __getitem__(self, name: str) -> Role:
        raise RuntimeError("the disk is gone")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("the disk is gone")

    def __contains__(self, name: object) -> bool:
        return True

    def __len__(self) -> int:
        return 1


BROKEN_ROLE = Role(name="broken", allow=Conditions(app_labels={"env": ("^(a$",)}))


def test_az_01_one_broken_role_denies_though_another_allows() -> None:
    roles = {**PRESETS, "broken": BROKEN_ROLE}

    with pytest.raises(AccessDenied, match=DENIED) as denied:
        check_app_access(roles, ["access", "broken"], {}, {"env": "a"})

    assert "can't be judged" in denied.value.reason


def test_az_01_roles_that_cannot_be_read_deny() -> None:
    with pytest.raises(AccessDenied):
        check_app_access(Broken(), ["access"], {}, {})


@pytest.mark.parametrize(
    "step", ["_compiled", "_fits", "internal_values", "compile_glob", "compile_role"]
)
def test_az_01_a_failure_in_any_step_of_the_decision_denies(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(name="r", allow=Conditions(app_labels={"env": ("{{external.env}}*",)}))
    judge = partial(is_app_allowed, {"r": role}, ["r"], {"env": ("dev",)}, {"env": "dev"})

    def fail(*args: object, **more: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(rbac, step, fail)
        assert not judge()
    assert judge()


def test_az_01_traits_and_labels_of_the_wrong_shape_deny() -> None:
    role = Role(name="r", allow=Conditions(app_labels={"env": ("{{external.env}}",)}))

    assert not is_app_allowed({"r": role}, ["r"], {"env": None}, {"env": "x"})  # type: ignore[dict-item]  # what a bug would pass
    assert not is_app_allowed({"r": role}, ["r"], {"env": ("x",)}, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["devil", "nonprod", "dev|prod", "prod\n", "DEV", " dev", ""])
def test_az_02_anchors_hold_for_every_alternative(label: str) -> None:
    assert not allows("^dev|prod$", label)
    assert allows("^dev|prod$", "dev")
    assert allows("^dev|prod$", "prod")


@pytest.mark.parametrize("label", ["nonprod", "prod\n", "PROD", "prod2", ""])
def test_az_02_a_literal_is_the_whole_value(label: str) -> None:
    assert not allows("prod", label)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "^(.*)*b$", "*a*a*a*a*a*a*a*b*"])
def test_az_02_no_pattern_stalls_a_decision(pattern: str) -> None:
    started = time.process_time()

    assert not allows(pattern, "a" * 10_240 + "!")

    assert time.process_time() - started < 0.5  # linear: about 10 ms


@pytest.mark.parametrize("count", [1, 64, 65, 500, 501, 5000])
@pytest.mark.parametrize(
    "value", ["{{external.groups}}", "g{{external.rest}}", "^g{{external.rest}}$"]
)
def test_az_02_a_denial_by_a_trait_holds_however_many_values_it_has(value: str, count: int) -> None:
    denied = Conditions(app_labels={"team": (value,)})
    roles = {**PRESETS, "not-theirs": Role(name="not-theirs", deny=denied)}
    groups = [f"group-{n}" for n in range(count)]
    traits = {"groups": groups, "rest": [group[1:] for group in groups]}

    for label in ("group-0", f"group-{count - 1}"):
        assert not is_app_allowed(roles, ["access", "not-theirs"], traits, {"team": label})


def test_az_02_a_pattern_has_a_length() -> None:
    with pytest.raises(InvalidRequest):
        rbac.compile_labels({"env": ("^" + "a" * 300 + "$",)})


def test_az_02_what_a_command_prints_overrides_no_label_and_claims_no_reserved_one() -> None:
    merged = merge_labels({"env": "prod"}, {"env": "dev", "tport.owner": "me", "teleport.x": "1"})

    assert merged == {"env": "prod"}


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo prod; exit 1",
        "printf 'prod\\nprod'",
        "printf 'prod\\033[0m'",
        "yes prod",
        "sleep 60",
        "echo prod; sleep 60",
        "",
    ],
)
async def test_ag_14_a_command_that_misbehaves_ends_soon_and_opens_nothing(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tport.engine.agent.labels.TIMEOUT", 0.3)
    command = DynamicLabel(name="env", command=("/bin/sh", "-c", script), period=60)
    values: dict[str, str] = {}

    async with trio.open_nursery() as nursery:
        keep = partial(keep_labels, limiter=trio.CapacityLimiter(1))
        with trio.fail_after(5):
            await nursery.start(keep, [command], values.update)
        nursery.cancel_scope.cancel()

    assert values == {"env": "error"}
    for wanted in ("prod", "*", "err*", "^.*$"):
        assert not allows(wanted, values["env"])


def test_ag_14_no_role_may_ask_for_the_word_that_failures_have() -> None:
    with pytest.raises(InvalidRequest):
        rbac.compile_labels({"env": ("error",)})


def test_auth_05_the_hash_is_argon2id_of_46_mib() -> None:
    assert hash_password("any password").startswith("$argon2id$v=19$m=47104,t=1,p=1$")


def test_auth_05_a_megabyte_is_refused_before_it_is_hashed() -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        hash_password("x" * 1_000_000)
    assert not verify_password(passwords.DUMMY_PHC, "x" * 1_000_000)
    assert time.process_time() - started < 0.04  # a hash takes 50 ms


def test_auth_05_the_73rd_byte_matters() -> None:
    assert not verify_password(hash_password("x" * 72 + "a"), "x" * 72 + "b")


def test_auth_06_at_least_three_thousand_common_passwords_are_known() -> None:
    words = passwords._common()

    assert len(words) >= 3_000
    assert all(word == word.casefold() and word.isalpha() for word in words)
    for word in [word for word in words if len(word) >= MINIMUM][:50]:
        with pytest.raises(InvalidRequest):
            check_password_strength(word.title(), user="u", cluster="c", minimum=MINIMUM)


def test_auth_06_15_characters_alone_12_with_a_second_factor_and_64_are_fine() -> None:
    judge = partial(check_password_strength, user="alice", cluster="tport.localhost")

    assert (MINIMUM, MINIMUM_WITH_SECOND_FACTOR) == (15, 12)
    judge("no composition rules at all", minimum=MINIMUM)
    judge("long ones of words " * 3 + "too", minimum=MINIMUM)
    with pytest.raises(InvalidRequest):
        judge("alicealicealice", minimum=MINIMUM)
    with pytest.raises(InvalidRequest):
        judge("tport.localhost", minimum=MINIMUM)
