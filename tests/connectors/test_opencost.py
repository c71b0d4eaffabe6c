import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import opencost
from pipelines.connectors.common import LEFT_OUT_REASON, Context, UnreadableFile
from tests.real_files import real_file

ZONES = {"kube-a": "Europe/Berlin", "kube-b": "UTC"}
DAY = {"start": "2026-05-04T00:00:00Z", "end": "2026-05-05T00:00:00Z"}


def allocation(**told: object) -> dict[str, object]:
    """A pod that held two GPUs from 06:00 to 18:00."""
    return {
        "name": "train-0",
        "properties": {
            "cluster": "kube-a",
            "namespace": "research",
            "node": "gpu-node-1",
            "controller": "train",
            "pod": "train-0",
        },
        "window": DAY,
        "start": "2026-05-04T06:00:00Z",
        "end": "2026-05-04T18:00:00Z",
        "gpuHours": 24,
        **told,
    }


def read(*sets: dict | None, name: str = "a.json", zones: dict | None = None) -> list[dict]:
    content = json.dumps({"code": 200, "data": sets}).encode()
    rows = opencost.read(content, file_name=name, context=Context(zones or ZONES))["jobs"]
    return rows.to_dicts()


def at(hour: int, day: int = 4) -> datetime:
    return datetime(2026, 5, day, hour, tzinfo=UTC)


def test_an_allocation_is_a_job_with_the_boards_that_give_its_gpu_hours():
    assert read({"train-0": allocation()}) == [
        {
            "cluster": "kube-a",
            "job_id": "train-0",
            "partition": None,
            "qos": None,
            "account": "research",
            "user_name": None,
            "job_name": "train",
            "state": "COMPLETED",
            "submitted_at": at(0),
            "started_at": at(6),
            "ended_at": at(18),
            "elapsed_s": 43_200,
            "suspended_s": None,
            "node_count": 1,
            "gpu_count": 2,
            "node_list": "gpu-node-1",
            "consumed_energy_j": None,
            "comment": None,
            "reject_reason": None,
            LEFT_OUT_REASON: None,
        }
    ]


def test_of_pods_that_kueue_queued_the_queue_and_the_priority_class_are_told():
    labels = {
        "app": "train",
        "kueue_x_k8s_io_queue_name": "team-a",
        "kueue_x_k8s_io_priority_class": "deferrable",
    }
    rows = read(
        {
            "a": allocation(properties={"cluster": "kube-a", "labels": labels}),
            "b": allocation(properties={"cluster": "kube-a", "labels": "app"}),
        }
    )
    assert [(row["partition"], row["qos"]) for row in rows] == [
        ("team-a", "deferrable"),
        (None, None),
    ]


def test_the_real_answer_is_three_namespaces_without_gpus():
    content = real_file("opencost", "opencost_allocation_example.json")
    rows = opencost.read(content, file_name="a.json", context=Context(ZONES))["jobs"]
    columns = ("cluster", "job_id", "account", "elapsed_s", "gpu_count", "node_list")
    node = "ip-192-168-20-42.ap-southeast-2.compute.internal"
    assert rows.select(columns).rows() == [
        ("default-cluster", "kube-system", "kube-system", 604_754, 0, None),
        ("default-cluster", "opencost", "opencost", 604_754, 0, node),
        ("default-cluster", "prometheus", "prometheus", 604_754, 0, None),
    ]
    assert rows["reject_reason"].to_list() == [None] * 3


def test_what_nobody_held_is_left_out():
    rows = read(
        {
            "__idle__": allocation(),
            "kube-a/__idle__": allocation(gpuHours=0),
            "__unmounted__": allocation(gpuHours=0),
            "__unallocated__": allocation(gpuHours=0),
        },
        None,
        {"__unallocated__": allocation(properties={"cluster": "kube-a"})},
    )
    assert [(row[LEFT_OUT_REASON], row["account"]) for row in rows] == [
        ("what nobody held", "research"),
        ("what nobody held", "research"),
        ("disks that no pod mounts", "research"),
        ("what names no holder, without GPUs", "research"),
        (None, None),
    ]
    assert (rows[4]["gpu_count"], rows[4]["reject_reason"]) == (2, None)


@pytest.mark.parametrize(
    ("name", "zones", "cluster"),
    [
        ("kube-b/a.json", ZONES, "kube-b"),
        ("a.json", {"kube-a": "UTC"}, "kube-a"),
        ("a.json", ZONES, None),
    ],
)
def test_without_a_cluster_it_is_that_of_the_folder_or_the_only_one(name, zones, cluster):
    (row,) = read({"train-0": allocation(properties={})}, name=name, zones=zones)
    assert row["cluster"] == cluster
    assert (row["reject_reason"] is None) == (cluster is not None)


@pytest.mark.parametrize(
    ("start", "end", "is_fine"),
    [
        ("2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z", True),
        ("2026-05-04T00:00:00Z", "2026-05-04T19:10:00Z", True),  # today, asked in the evening
        ("2026-05-04T00:00:00Z", "2026-05-06T00:00:00Z", False),
        ("2026-05-04T06:00:00Z", "2026-05-05T00:00:00Z", False),
    ],
)
def test_a_window_that_others_may_overlap_is_rejected_with_all_its_jobs(start, end, is_fine):
    window = {"start": start, "end": end}
    rows = read({"a": allocation(window=window), "b": allocation(window=window, gpuHours=0)})
    reason = (
        None
        if is_fine
        else (
            f"window '{start} to {end}': expected one UTC day or the first part of one, for"
            " windows that overlap tell the same GPU-hours twice: ask with window=yesterday, or"
            " step=1d from a midnight on"
        )
    )
    assert [row["reject_reason"] for row in rows] == [reason, reason]


def test_of_a_window_asked_again_the_key_stays():
    early = allocation(window=DAY | {"end": "2026-05-04T12:00:00Z"}, end="2026-05-04T12:00:00Z")
    keys = {
        (row["cluster"], row["job_id"], row["submitted_at"])
        for of_pod in (early, allocation())
        for row in read({"train-0": of_pod})
    }
    assert keys == {("kube-a", "train-0", at(0))}


def test_values_that_cannot_be_read_reject_their_allocation_alone():
    rows = read(
        {
            "a": allocation(),
            "b": allocation(gpuHours="many"),
            "c": allocation(gpuHours=-1),
            "d": allocation(end="2026-05-04T06:00:00Z"),
            "e": allocation(start="soon"),
            "f": allocation(window=7, properties="x"),
            "g": 7,
        }
    )
    assert [row["reject_reason"] for row in rows][:5] == [
        None,
        "gpuHours 'many': expected a number, at least 0",
        "gpuHours '-1': expected a number, at least 0",
        "end '2026-05-04T06:00:00Z': expected an end after the start, for it has GPU-hours",
        "start 'soon': expected a time such as 2026-04-05T12:00:00Z",
    ]
    assert None not in [row["reject_reason"] for row in rows][5:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "expected data with a list of sets"),
        (b'{"code": 200, "data": {}}', "expected data with a list of sets"),
        (b'{"code": 200, "data": [7]}', "expected data with a list of sets"),
        (b'{"code": 500, "message": "no data"}', "answered with an error, 500: no data"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        opencost.read(content, file_name="a.json", context=Context(ZONES))


def test_an_answer_without_allocations_has_no_rows():
    assert read({}, None) == []


@settings(max_examples=50, deadline=None)
@given(
    gpu_hours=st.floats(0.01, 1e5),
    start=st.integers(0, 22),
    hours=st.integers(1, 24),
)
def test_the_boards_over_the_time_are_the_gpu_hours(gpu_hours: float, start: int, hours: int):
    end = min(start + hours, 23)
    times = {"start": f"2026-05-04T{start:02}:00:00Z", "end": f"2026-05-04T{end:02}:00:00Z"}
    (row,) = read({"a": allocation(gpuHours=gpu_hours, **times)})
    assert row["gpu_count"] * row["elapsed_s"] / 3600 == pytest.approx(gpu_hours)
