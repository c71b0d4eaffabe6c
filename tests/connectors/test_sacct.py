import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import sacct
from pipelines.connectors.common import LEFT_OUT_REASON, Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers.sacct import write_sacct
from tests.real_files import real_file

COLUMNS = payload_columns(RAW_TABLES["jobs"])
ZONES = {"juelich": "Europe/Berlin", "santis": "Europe/Zurich"}
HEADER = "JobID|Cluster|State|Submit|Start|End|ElapsedRaw|NNodes|AllocTRES"


def listing(content: str | bytes, name: str = "jobs", zones: dict | None = None) -> pl.DataFrame:
    data = content if isinstance(content, bytes) else content.encode()
    return sacct.read(data, file_name=name, context=Context(zones or ZONES))["jobs"]


def read(content: str | bytes, **where) -> list[dict]:
    """The jobs of a listing, its steps left out."""
    rows = listing(content, **where)
    if LEFT_OUT_REASON in rows.columns:
        rows = rows.filter(pl.col(LEFT_OUT_REASON).is_null()).drop(LEFT_OUT_REASON)
    return rows.to_dicts()


def job(line: str) -> dict:
    """The one job of a file of one line under HEADER."""
    rows = read(f"{HEADER}\n{line}\n")
    assert len(rows) == 1
    return rows[0]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_the_real_gh200_job_is_one_row_without_its_steps():
    assert read(real_file("sacct", "cscs_gh200_sacct_rows.txt")) == [
        {
            "cluster": "santis",
            "job_id": "38113",
            "partition": "normal",
            "qos": None,
            "account": None,
            "user_name": "user01",
            "job_name": "eff.slm",
            "state": "COMPLETED",
            "submitted_at": None,
            "started_at": utc(2024, 3, 15, 19, 24, 16),
            "ended_at": utc(2024, 3, 15, 19, 59, 18),
            "elapsed_s": 2102,
            "suspended_s": None,
            "node_count": 4,
            "gpu_count": None,
            "node_list": "nid[001002,001004,001012,001014]",
            "consumed_energy_j": 20_543_125,
            "comment": None,
            "reject_reason": None,
        }
    ]


def test_the_real_answer_of_slurmrestd_has_no_end_for_jobs_that_still_run():
    rows = read(real_file("sacct", "slurmrestd_24.05_0.0.41_slurm-jobs.json"))
    assert len(rows) == 14
    by_state = {row["state"]: row for row in rows}
    assert by_state["TIMEOUT"] == {
        "cluster": "hpc",
        "job_id": "649717",
        "partition": "batch",
        "qos": "normal",
        "account": "optic",
        "user_name": "ksoto",
        "job_name": "wrap",
        "state": "TIMEOUT",
        "submitted_at": utc(2025, 5, 20, 15, 21, 5),
        "started_at": utc(2025, 5, 20, 15, 21, 6),
        "ended_at": utc(2025, 5, 20, 15, 22, 29),
        "elapsed_s": 83,
        "suspended_s": 0,
        "node_count": 1,
        "gpu_count": None,
        "node_list": "cn001",
        "consumed_energy_j": None,
        "comment": None,
        "known_at": utc(2025, 5, 20, 15, 22, 45),
        "reject_reason": None,
    }
    assert {(row["state"], row["started_at"] is None, row["ended_at"] is None) for row in rows} >= {
        ("RUNNING", False, True),
        ("PENDING", True, True),
        ("COMPLETED", False, False),
    }


@pytest.mark.parametrize(
    ("times", "read_times"),
    [
        ((0, 0, 0), (None, None, None, 0)),
        ((1, 1, 0), (utc(1970, 1, 1, 0, 0, 1), utc(1970, 1, 1, 0, 0, 1), None, 99)),
        ((1, 2, 3), (utc(1970, 1, 1, 0, 0, 1), utc(1970, 1, 1, 0, 0, 2), None, 98)),
    ],
)
def test_a_time_of_0_from_slurmrestd_is_no_time(times, read_times):
    job = {
        **{"job_id": 1, "cluster": "juelich", "job_state": ["RUNNING"]},
        **dict(zip(("submit_time", "start_time", "end_time"), times, strict=True)),
    }
    answer = {"jobs": [job], "last_update": 100}
    (row,) = read(json.dumps(answer))
    names = ("submitted_at", "started_at", "ended_at", "elapsed_s")
    assert tuple(row[name] for name in names) == read_times


@pytest.mark.parametrize(
    ("tres", "gpu_count"),
    [
        ("billing=12,cpu=12,gres/gpu=2,mem=31000M,node=1", 2),
        ("cpu=12,gres/gpu:h100=4,node=1", 4),
        ("cpu=12,gres/gpu:a100=1,gres/gpu:h100=2,node=1", 3),
        ("cpu=12,gres/gpu=4,gres/gpu:h100=4,gres/gpumem=80G,node=1", 4),
        ("cpu=12,gres/gpu=4,gres/gpu:h100=2,node=1", 4),  # of a second type that is not recorded
        ("gres/gpu=0,node=1", 0),
        ("gres:gpu:2", 2),
        ("gres:gpu:a100:2", 2),
        ("gres:gpu:a100", 1),
        ("gres/gpu=1,gres/mps=50", 1),
        ("cpu=12,energy=5,node=1", None),
        ("cpu=12,gres/gpumem=80G,gres/gpuutil=5,node=1", None),
        ("", None),
    ],
)
def test_gpus_are_counted_once_typed_or_untyped(tres: str, gpu_count: int | None):
    row = job(f"1|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|{tres}")
    assert (row["gpu_count"], row["reject_reason"]) == (gpu_count, None)


@pytest.mark.parametrize(
    ("tres", "gpu_count"),
    [
        ("cpu=12,gres/gpu:1g.10gb=2,node=1", 2 / 7),
        ("cpu=12,gres/gpu=2,gres/gpu:1g.10gb=2,node=1", 2 / 7),
        ("cpu=12,gres/gpu=3,gres/gpu:h100=1,gres/gpu:a100_3g.20gb=2,node=1", 1 + 6 / 7),
        ("gres:gpu:a100_3g.20gb", 3 / 7),
        ("gres:gpu:a100_3g.20gb:2", 6 / 7),
        ("gres/gpu:1g.10gb+me=1", 1 / 7),
        ("gres/gpu:1c.3g.20gb=1", 1 / 7),  # a compute instance of one slice
        ("gres/mig:7g.80gb=1", 1),
        ("gres/mig=2,gres/mig:1g.5gb=2", 2 / 7),
        ("gres/gpu:nvidia_a30_1g.6gb=2", 2 / 4),
        ("gres/gpu:4g.24gb=1", 1),
    ],
)
def test_instances_of_a_partitioned_board_count_as_their_share_of_it(tres: str, gpu_count: float):
    row = job(f"1|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|{tres}")
    assert row["gpu_count"] == pytest.approx(gpu_count)
    assert row["reject_reason"] is None


@pytest.mark.parametrize("tres", ["cpu=1,gres/mig=2", "cpu=1,gres/mps=50", "gres/shard=4,node=1"])
def test_a_part_of_a_gpu_of_unknown_size_is_not_guessed(tres: str):
    row = job(f"1|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|{tres}")
    assert row["reject_reason"] == (
        f"AllocTRES '{tres}': expected parts of GPUs with their size: name the MIG profiles "
        "(gres/gpu:1g.10gb) in AccountingStorageTRES, and gres/gpu beside mps and shards"
    )


@pytest.mark.parametrize(
    ("suspended", "seconds"),
    [("00:00:00", 0), ("05:00:00", 18_000), ("1-02:03:04", 93_784), ("02:03", 123), ("", None)],
)
def test_the_time_a_job_was_suspended_is_read(suspended: str, seconds: int | None):
    (row,) = read(
        f"{HEADER}|Suspended\n1|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-03T00:00:00|60|1|"
        f"|{suspended}\n"
    )
    assert (row["suspended_s"], row["reject_reason"]) == (seconds, None)


def test_suspension_counts_where_the_elapsed_time_tells_the_hour():
    # Started at 02:30 of either hour, ran for half an hour, was suspended for an hour.
    (row,) = read(
        f"{HEADER}|Suspended\n"
        "1|juelich|COMPLETED||2026-10-25T02:30:00|2026-10-25T03:00:00|1800|1||01:00:00\n"
    )
    assert (row["started_at"], row["elapsed_s"]) == (utc(2026, 10, 25, 0, 30), 1800)


@pytest.mark.parametrize(
    ("state", "suspend_time", "pre_sus_time", "ran", "suspended"),
    [
        ("RUNNING", 0, 0, 900, 0),
        ("SUSPENDED", 400, 300, 300, 600),  # suspended at 400, 300 s after its start
        ("RUNNING", 700, 300, 600, 300),  # went on at 700
    ],
)
def test_slurmrestd_tells_since_when_a_job_runs_again(
    state: str, suspend_time: int, pre_sus_time: int, ran: int, suspended: int
):
    of_job = {
        **{"job_id": 1, "cluster": "juelich", "job_state": [state], "start_time": 100},
        **{"suspend_time": suspend_time, "pre_sus_time": pre_sus_time},
    }
    (row,) = read(json.dumps({"jobs": [of_job], "last_update": 1000}))
    assert (row["elapsed_s"], row["suspended_s"]) == (ran, suspended)


@pytest.mark.parametrize(
    ("state", "base"),
    [("CANCELLED by 423120", "CANCELLED"), ("CANCELLED+", "CANCELLED"), ("timeout", "TIMEOUT")],
)
def test_a_state_is_slurms_base_state(state: str, base: str):
    row = job(f"1|juelich|{state}||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|")
    assert row["state"] == base


def test_unknown_times_of_jobs_that_wait_or_run_are_null():
    rows = read(
        f"{HEADER}\n"
        "1|juelich|PENDING|2026-10-01T00:00:00|Unknown|Unknown|0|1|\n"
        "2|juelich|RUNNING|2026-10-01T00:00:00|2026-10-01T01:00:00|Unknown|60|1|\n"
    )
    assert [(row["started_at"], row["ended_at"], row["reject_reason"]) for row in rows] == [
        (None, None, None),
        (utc(2026, 9, 30, 23), None, None),
    ]


@pytest.mark.parametrize(
    ("start", "end", "elapsed", "expected"),
    [
        # The clocks of Berlin repeat 02:00 to 03:00 on 2026-10-25.
        ("02:30:00", "02:45:00", 900, (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 0, 45))),
        ("02:30:00", "02:45:00", 4500, (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 45))),
        ("02:30:00", "02:10:00", 2400, (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 10))),
        ("02:30:00", "03:00:00", 1800, (utc(2026, 10, 25, 1, 30), utc(2026, 10, 25, 2))),
        ("02:30:00", "03:00:00", 5400, (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 2))),
        ("01:00:00", "02:00:00", 7200, (utc(2026, 10, 24, 23), utc(2026, 10, 25, 1))),
    ],
)
def test_in_the_repeated_hour_the_elapsed_time_tells_which_hour_is_meant(
    start: str, end: str, elapsed: int, expected: tuple[datetime, datetime]
):
    row = job(f"1|juelich|COMPLETED||2026-10-25T{start}|2026-10-25T{end}|{elapsed}|1|")
    assert (row["started_at"], row["ended_at"], row["reject_reason"]) == (*expected, None)


def test_the_other_jobs_of_a_listing_tell_since_which_hour_a_job_runs():
    # Listed at 12:00 UTC: 2 started in the second of the two hours, 3 in the first.
    rows = read(
        f"{HEADER}\n"
        "1|juelich|RUNNING||2026-10-24T14:00:00|Unknown|86400|1|\n"
        "2|juelich|RUNNING||2026-10-25T02:30:00|Unknown|37800|1|\n"
        "3|juelich|RUNNING||2026-10-25T02:30:00|Unknown|41400|1|\n"
    )
    assert [row["started_at"] for row in rows] == [
        utc(2026, 10, 24, 12),
        utc(2026, 10, 25, 1, 30),
        utc(2026, 10, 25, 0, 30),
    ]


def test_a_time_that_the_clocks_skip_is_rejected():
    row = job("1|juelich|COMPLETED||2026-03-29T02:30:00|2026-03-29T04:00:00|3600|1|")
    assert row["reject_reason"] == (
        "Start '2026-03-29T02:30:00': expected a time that exists in the cluster's zone: "
        "the clocks skip this hour"
    )


@pytest.mark.parametrize(
    "start",
    [
        "2024-03-15-20:24:16",
        "2024/03/15-20:24:16",
        "2024-03-15T20:24:16",
        "2024-03-15T19:24:16Z",
        "2024-03-15T12:24:16-0700",
        "2024-03-15T20:24:16+01:00",
        "2024-03-15 20:24:16+01:00",
        "1710530656",
    ],
)
def test_every_form_of_time_is_the_same_instant(start: str):
    row = job(f"1|santis|RUNNING||{start}|Unknown|3600|1|")
    assert (row["started_at"], row["reject_reason"]) == (utc(2024, 3, 15, 19, 24, 16), None)


def test_a_cluster_without_a_time_zone_needs_one_unless_its_times_have_offsets():
    rows = read(
        f"{HEADER}\n"
        "1|elsewhere|RUNNING||2026-10-01T00:00:00|Unknown|60|1|\n"
        "2|elsewhere|RUNNING||2026-10-01T00:00:00Z|Unknown|60|1|\n"
    )
    assert [row["reject_reason"] for row in rows] == [
        "Cluster 'elsewhere': expected a cluster whose time zone is known, "
        "for Start has no offset: declare the cluster in reference/sites and load again",
        None,
    ]


def test_values_that_cannot_be_read_are_rejected_with_field_found_and_expected():
    rows = read(
        f"{HEADER}\n"
        "1|juelich|COMPLETED||yesterday|2026-10-01T01:00:00|1h|1|\n"
        "2|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|cpu=1|too|many\n"
        "3|a|b|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|cpu=1\n"
    )
    assert [row["reject_reason"] for row in rows] == [
        "ElapsedRaw '1h': expected whole seconds, or D-HH:MM:SS of Elapsed; "
        "Start 'yesterday': expected a time such as 2026-11-01T00:00:00, with or without an offset",
        "line '11 fields': expected 9 as in the header (a value may hold a '|')",
        "line '11 fields': expected 9 as in the header (a value may hold a '|')",
    ]


def test_the_trailing_delimiter_of_parsable_is_no_field():
    line = "1|juelich|RUNNING||2026-10-01T00:00:00|Unknown|60|1|cpu=1"
    plain, delimited = read(f"{HEADER}\n{line}\n"), read(f"{HEADER}|\n{line}|\n")
    assert plain == delimited
    assert plain[0]["reject_reason"] is None


def test_steps_are_left_out_and_counted():
    rows = listing(
        f"{HEADER}\n"
        "1|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|\n"
        "1.batch|juelich|COMPLETED||2026-10-01T00:00:00|2026-10-01T01:00:00|3600|1|\n"
        "1.0|juelich|COMPLETED||2026-10-01T00:00:00|soon|3600|1|\n"
        "1.1|juelich|COMPLETED|\n"
    )
    assert rows.select("job_id", LEFT_OUT_REASON, "reject_reason").rows() == [
        ("1", None, None),
        ("1.batch", "a step, for which its job stands", None),
        ("1.0", "a step, for which its job stands", None),
        ("1.1", None, "line '4 fields': expected 9 as in the header (a value may hold a '|')"),
    ]


JOB_OF_A_DAY = "2026-10-01T00:00:00|2026-10-02T01:02:03"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ("Start|End|ElapsedRaw", f"{JOB_OF_A_DAY}|90123"),
        ("Start|End|Elapsed", f"{JOB_OF_A_DAY}|1-01:02:03"),
        ("Start|End|ElapsedRaw|Elapsed", f"{JOB_OF_A_DAY}||1-01:02:03"),
        ("Start|End", JOB_OF_A_DAY),
        ("Elapsed|Start", "1-01:02:03|2026-10-01T00:00:00"),
    ],
)
def test_the_seconds_are_elapsed_raw_else_elapsed_else_from_start_to_end(fields: str, line: str):
    (row,) = read(f"JobIDRaw|State|NNodes|{fields}|Cluster\n7|COMPLETED|1|{line}|juelich\n")
    assert (row["job_id"], row["started_at"], row["ended_at"], row["elapsed_s"]) == (
        "7",
        utc(2026, 9, 30, 22),
        utc(2026, 10, 1, 23, 2, 3),
        90_123,
    )
    assert row["reject_reason"] is None


@pytest.mark.parametrize(
    ("elapsed", "seconds"),
    [("3-08:24:04", 289_444), ("08:24:04", 30_244), ("24:04", 1_444), ("00:00:00", 0)],
)
def test_elapsed_is_days_hours_minutes_and_seconds(elapsed: str, seconds: int):
    (row,) = read(
        f"JobID|Cluster|State|Start|Elapsed\n1|juelich|RUNNING|2026-10-01T00:00:00|{elapsed}\n"
    )
    assert (row["elapsed_s"], row["ended_at"]) == (seconds, None)


def test_without_its_seconds_a_job_has_run_up_to_the_latest_time_of_its_listing():
    rows = read(
        "JobID|Cluster|State|Start|End|Suspended\n"
        "1|juelich|RUNNING|2026-10-01T00:00:00|Unknown|00:00:00\n"
        "2|juelich|RUNNING|2026-10-01T01:00:00|Unknown|00:30:00\n"
        "3|juelich|COMPLETED|2026-10-01T02:00:00|2026-10-01T04:00:00|01:00:00\n"
        "4|juelich|PENDING|Unknown|Unknown|\n"
        "5|santis|RUNNING|2026-10-01T05:00:00|Unknown|\n"
    )
    assert [(row["elapsed_s"], row["reject_reason"]) for row in rows] == [
        (4 * 3600, None),
        (5 * 1800, None),
        (3600, None),
        (0, None),
        (0, None),
    ]


NO_CLUSTER = "JobID|State|Start|Elapsed\n1|COMPLETED|2026-10-01T00:00:00|01:00:00\n"


@pytest.mark.parametrize(
    ("name", "zones", "cluster"),
    [
        ("santis/2026/jobs.txt", ZONES, "santis"),
        ("dumps/juelich/jobs.txt", ZONES, "juelich"),
        ("2026/jobs.txt", {"juelich": "Europe/Berlin"}, "juelich"),
    ],
)
def test_a_listing_without_cluster_is_of_its_folder_or_of_the_only_one(name, zones, cluster):
    (row,) = read(NO_CLUSTER, name=name, zones=zones)
    assert row["cluster"] == cluster
    assert row["started_at"] == utc(2026, 9, 30, 22)


def test_a_listing_of_one_of_several_clusters_says_where_to_put_it():
    with pytest.raises(UnreadableFile, match="move the file to landing/sacct/<cluster>/"):
        read(NO_CLUSTER, name="2026/jobs.txt")


def test_a_cluster_that_is_told_counts_more_than_the_folder():
    told = f"{HEADER}\n1|juelich|RUNNING||2026-10-01T00:00:00|Unknown|60|1|\n"
    (row,) = read(told, name="santis/jobs.txt")
    assert row["cluster"] == "juelich"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"38113|santis|COMPLETED\n", "missing: JobID or JobIDRaw, State, Start, End or"),
        (b"", "missing: JobID"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"JobID,User\n1,a\n", "missing: State, Start, End or ElapsedRaw or Elapsed"),
        (b"38113|santis|COMPLETED\n", "put the list that --format was given as its first line"),
        (b'{"jobs": [{"job_id": 1, "time": {}}]}', "as sacct --json and /slurmdb"),
        (b'{"jobs": [{"job_id": "x", "job_state": "", "start_time": 0}]}', "another kind"),
    ],
)
def test_what_is_no_accounting_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(content)


def slurmdb_job(**told) -> dict:
    """A job as slurmrestd 25.11 answers on /slurmdb/v0.0.42/jobs, of its fields those of use."""
    return {
        "account": "biology",
        "comment": {"administrator": "", "job": "energy:curtailment_order", "system": ""},
        "allocation_nodes": 2,
        "array": {"job_id": 0, "task_id": {"set": False, "infinite": False, "number": 0}},
        "association": {"account": "biology", "cluster": "juelich", "user": "vhartman"},
        "cluster": "juelich",
        "het": {"job_id": 0, "job_offset": {"set": False, "infinite": False, "number": 0}},
        "job_id": 5646,
        "name": "wrap",
        "nodes": "gpu[1-2]",
        "partition": "gpu",
        "qos": "normal",
        "state": {"current": ["COMPLETED"], "reason": "None"},
        "steps": [{"step": {"id": "5646.batch"}, "tres": {"allocated": []}}],
        "time": {
            "elapsed": 3000,
            "end": 1762789206,
            "start": 1762785606,
            "submission": 1762785600,
            "suspended": 600,
        },
        "tres": {
            "allocated": [
                {"type": "cpu", "name": "", "id": 1, "count": 16},
                {"type": "energy", "name": "", "id": 3, "count": 7_200_000},
                {"type": "gres", "name": "gpu", "id": 1001, "count": 8},
                {"type": "gres", "name": "gpu:h100", "id": 1002, "count": 8},
            ],
            "requested": [{"type": "gres", "name": "gpu", "id": 1001, "count": 9}],
        },
        "user": "vhartman",
    } | told


def test_json_of_the_accounting_is_the_jobs_without_their_steps():
    assert read(json.dumps({"jobs": [slurmdb_job()], "meta": {}})) == [
        {
            "cluster": "juelich",
            "job_id": "5646",
            "partition": "gpu",
            "qos": "normal",
            "account": "biology",
            "user_name": "vhartman",
            "job_name": "wrap",
            "state": "COMPLETED",
            "submitted_at": utc(2025, 11, 10, 14, 40),
            "started_at": utc(2025, 11, 10, 14, 40, 6),
            "ended_at": utc(2025, 11, 10, 15, 40, 6),
            "elapsed_s": 3000,
            "suspended_s": 600,
            "node_count": 2,
            "gpu_count": 8,
            "node_list": "gpu[1-2]",
            "consumed_energy_j": 7_200_000,
            "comment": "energy:curtailment_order",
            "reject_reason": None,
        }
    ]


def test_what_the_accounting_does_not_know_yet_is_null_in_json():
    running = slurmdb_job(
        state={"current": ["RUNNING"]},
        time={"elapsed": 31, "end": {"set": True, "number": 0}, "start": 1762785606},
        tres={"allocated": [{"type": "energy", "name": "", "count": -2}]},
        comment={"job": ""},
    )
    waiting = slurmdb_job(state={"current": "PENDING"}, time={"start": 0, "submission": 1762785600})
    rows = read(json.dumps({"jobs": [running, waiting]}))
    names = ("state", "started_at", "ended_at", "elapsed_s", "gpu_count", "consumed_energy_j")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("RUNNING", utc(2025, 11, 10, 14, 40, 6), None, 31, None, None),
        ("PENDING", None, None, 0, 8, 7_200_000),
    ]
    assert [row["reject_reason"] for row in rows] == [None, None]


@pytest.mark.parametrize("path", ["time", "tres", "array", "comment", "state"])
def test_a_part_of_the_json_that_is_of_another_kind_stops_no_other_job(path: str):
    rows = read(json.dumps({"jobs": [slurmdb_job(), slurmdb_job(**{path: 7})]}))
    assert (len(rows), rows[0]["job_id"]) == (2, "5646")


def test_the_id_is_that_of_a_listing_in_every_json():
    task = {"job_id": 100, "task_id": {"set": True, "infinite": False, "number": 3}}
    part = {"job_id": 200, "job_offset": {"set": True, "infinite": False, "number": 0}}
    stored = read(json.dumps({"jobs": [slurmdb_job(array=task), slurmdb_job(het=part)]}))
    live = {"cluster": "juelich", "job_state": ["RUNNING"], "start_time": 100}
    running = [
        {"job_id": 103, "array_job_id": 100, "array_task_id": task["task_id"], **live},
        {"job_id": 200, "het_job_id": 200, "het_job_offset": part["job_offset"], **live},
        {"job_id": 104, "array_job_id": {"set": True, "number": 0}, **live},
    ]
    live_rows = read(json.dumps({"jobs": running, "last_update": 1000}))
    assert [row["job_id"] for row in stored] == ["100_3", "200+0"]
    assert [row["job_id"] for row in live_rows] == ["100_3", "200+0", "104"]


def test_json_without_cluster_is_of_its_folder():
    job = slurmdb_job(cluster="")
    (row,) = read(json.dumps({"jobs": [job]}), name="santis/jobs.json")
    assert row["cluster"] == "santis"


PLAIN = "7|juelich|COMPLETED|2026-10-01T00:00:00|2026-10-01T01:00:00|3600|2|gres/gpu=8"
NAMES = "JobID|Cluster|State|Start|End|ElapsedRaw|NNodes|AllocTRES"


@pytest.mark.parametrize(
    "names",
    [
        NAMES.lower(),
        NAMES.upper(),
        "JobID%20|Cluster%-12|State%30|Start|End|ElapsedRaw|NNodes|AllocTRES%80",
        NAMES.replace("|", " | "),
    ],
)
def test_fields_are_known_by_their_name_in_any_case_and_width(names: str):
    assert read(f"{names}\n{PLAIN}\n") == read(f"{NAMES}\n{PLAIN}\n")


@pytest.mark.parametrize("delimiter", ["\t", ";", ","])
@pytest.mark.parametrize("end", ["", "x"])
def test_fields_are_separated_as_those_of_the_header(delimiter: str, end: str):
    told = f"{NAMES}\n{PLAIN}\n".replace("|", delimiter)
    if end:
        told = told.replace("\n", f"{delimiter}\n")
    assert read(told) == read(f"{NAMES}\n{PLAIN}\n")


def test_a_value_that_holds_the_delimiter_is_told_and_not_guessed():
    line = PLAIN.replace("|", ",").replace("gres/gpu=8", "cpu=4,gres/gpu=8")
    (row,) = read(f"{NAMES.replace('|', ',')}\n{line}\n")
    assert row["reject_reason"] == (
        "line '9 fields': expected 8 as in the header (a value may hold a ',')"
    )


def test_a_csv_of_a_data_portal_has_quoted_values_and_decimals_where_it_had_gaps():
    rows = listing(
        '"JobID",cluster,State,Start,End,ElapsedRaw,NNodes,JobName,AllocTRES\r\n'
        '7,juelich,COMPLETED,2026-10-01 00:00:00,2026-10-01 01:00:00,3600.0,2.0,"a ""b"", c",'
        '"cpu=4,gres/gpu=8"\r\n'
        "8,juelich,RUNNING,2026-10-01 00:00:00,,,2,,\r\n"
        "8.0,juelich,RUNNING,,,,,,\r\n"
        ",,,,,,,,\r\n"
        "9,juelich\r\n"
    )
    names = ("job_id", "started_at", "elapsed_s", "node_count", "job_name", "gpu_count")
    assert rows.select(names).rows()[:2] == [
        ("7", utc(2026, 9, 30, 22), 3600, 2, 'a "b", c', 8),
        ("8", utc(2026, 9, 30, 22), 3600, 2, None, None),
    ]
    assert rows.select("reject_reason", LEFT_OUT_REASON).rows() == [
        (None, None),
        (None, None),
        (None, "a step, for which its job stands"),
        (None, "a row without any value"),
        ("the row has 2 fields: expected 9 as in the header", None),
    ]


def test_a_csv_whose_quotes_are_broken_is_refused_by_name():
    with pytest.raises(UnreadableFile, match=r"jobs: .*no CSV"):
        read(NAMES.replace("|", ",") + '\n7,"juelich\n')


TEXT = st.none() | st.text("abc-_,. é", min_size=1).filter(lambda text: text.strip() == text)


@st.composite
def jobs(draw: st.DrawFn) -> pl.DataFrame:
    """Ended jobs across the repeated hour, of which only the elapsed time tells when they ran."""
    rows = []
    for number in range(draw(st.integers(1, 8))):
        elapsed = draw(st.integers(0, 4 * 3600))
        suspended = draw(st.integers(0, 2 * 3600))
        started = utc(2026, 10, 24, 22) + timedelta(seconds=draw(st.integers(0, 2 * 3600 - 1)))
        rows.append(
            {
                "cluster": "juelich",
                "job_id": str(number),
                "partition": draw(TEXT),
                "qos": draw(TEXT),
                "account": draw(TEXT),
                "user_name": draw(TEXT),
                "job_name": draw(TEXT),
                "state": draw(st.sampled_from(["COMPLETED", "CANCELLED", "PREEMPTED"])),
                "submitted_at": started - timedelta(hours=6),
                "started_at": started,
                "ended_at": started + timedelta(seconds=elapsed + suspended),
                "elapsed_s": elapsed,
                "suspended_s": suspended,
                "node_count": draw(st.integers(1, 500)),
                "gpu_count": draw(st.none() | st.integers(0, 2000) | st.just(3 / 7)),
                "node_list": draw(st.none() | st.just("jwb[0001-0004,0007]")),
                "consumed_energy_j": draw(st.none() | st.integers(0, 10**12)),
                "comment": draw(st.none() | st.just("energy:curtailment_order")),
            }
        )
    schema = {name: RAW_TABLES["jobs"].schema.columns()[name].dtype for name in COLUMNS}
    return pl.DataFrame(rows, schema=schema)


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_what_the_writer_writes_is_read_back_unchanged(written: pl.DataFrame):
    content = write_sacct(written, time_zone="Europe/Berlin")
    rows = sacct.read(content, file_name="jobs", context=Context(ZONES))["jobs"]
    assert rows["reject_reason"].drop_nulls().to_list() == []
    jobs = rows.filter(pl.col(LEFT_OUT_REASON).is_null())
    assert set(jobs["job_id"].str.contains(".", literal=True)) == {False}
    back = jobs.drop("reject_reason", LEFT_OUT_REASON)
    assert_frame_equal(back, written, check_column_order=False)


def test_a_first_line_with_a_stray_line_end_in_it_is_no_header():
    with pytest.raises(UnreadableFile, match="first line is no header"):
        sacct.read(b"JobID|State\rStart\n", file_name="jobs.txt", context=Context(ZONES))
