import pytest

from tport.engine.access.labels import check_dynamic_label, merge_labels
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import DynamicLabel


def test_what_a_person_wrote_wins_over_what_a_command_printed() -> None:
    assert merge_labels({"env": "prod"}, {"env": "dev", "os": "Linux"}) == {
        "env": "prod",
        "os": "Linux",
    }


def test_a_command_cannot_pose_as_tport_nor_set_what_is_no_label() -> None:
    dynamic = {"tport.x": "1", "Teleport.dev/origin": "1", "dynamic/x": "1", "a": "x\n", "b c": "1"}

    assert merge_labels({}, dynamic) == {}


@pytest.mark.parametrize(
    "label",
    [
        DynamicLabel(name="os", command=(), period=5),
        DynamicLabel(name="os", command=("uname",), period=5),
        DynamicLabel(name="os", command=("./uname",), period=5),
        DynamicLabel(name="os", command=("/bin/uname", "a\0b"), period=5),
        DynamicLabel(name="os", command=("/bin/uname",), period=0.5),
        DynamicLabel(name="os", command=("/bin/uname",), period=float("nan")),
        DynamicLabel(name="teleport.dev/os", command=("/bin/uname",), period=5),
        DynamicLabel(name="o s", command=("/bin/uname",), period=5),
    ],
)
def test_a_command_that_may_not_be_run_is_refused(label: DynamicLabel) -> None:
    with pytest.raises(InvalidRequest):
        check_dynamic_label(label)


def test_a_command_by_its_absolute_path_may_be_run() -> None:
    label = DynamicLabel(name="os", command=("/usr/bin/uname", "-r"), period=1)

    assert check_dynamic_label(label) is label
