"""Which single changes are tried on Python and SQL, and which tests are asked about them."""

from tests import mutate

PYTHON = '''"""A module."""

def is_late(days: int = 3, *, is_strict: bool = True) -> bool:
    """Whether."""
    if is_strict and not days < 4:
        print("late")
    with lock():
        return days + 1 in (2,)
'''
SQL = """-- not changed: a < b
{# nor this: a and b #}
select
    site_id,
    coalesce(max(cost), 0) as cost,
    sum(kwh) filter (where kwh > 0) as kwh,
    row_number() over (partition by site_id, day order by known_at desc) as n
from {{ ref("fct_x") }}
inner join sites using (site_id)
where
    kind = 'a < b'
    and ended_at is not null
"""


def changes(path: str, source: str) -> list[str]:
    return [f"{mutant.line_number}: {mutant.change}" for mutant in mutate.candidates(path, source)]


def test_changes_of_python_are_of_what_it_decides_and_not_of_its_words():
    assert changes("pipelines/late.py", PYTHON) == [
        "3: 3 -> 4",
        "3: True -> False",
        "5: is_strict and not days < 4 -> is_strict or not days < 4",
        "5: not days < 4 -> days < 4",
        "5: days < 4 -> days <= 4",
        "5: 4 -> 5",
        '6: print("late") -> pass',
        "7: lock() -> __import__('contextlib').nullcontext()",
        "8: days + 1 -> days - 1",
        "8: days + 1 in (2,) -> None",
        "8: days + 1 in (2,) -> days + 1 not in (2,)",
        "8: 1 -> 2",
        "8: 2 -> 3",
    ]


def test_changes_of_sql_leave_comments_and_literals_alone():
    assert changes("dbt_project/models/x.sql", SQL) == [
        "5: coalesce(max(cost), 0) -> max(cost)",
        "5: max( -> min(",
        "5: 0 -> 1",
        "6: sum( -> avg(",
        "6: filter (where kwh > 0) ->",
        "6: > -> >=",
        "6: 0 -> 1",
        "7: partition by site_id, day -> partition by site_id",
        "7: desc ->",
        "9: inner join -> left join",
        "11: = -> !=",
        "12: and -> or",
        "12: and ended_at is not null ->",
        "12: is not null -> is null",
    ]


def test_a_mutant_is_the_file_with_one_place_changed():
    mutant = mutate.candidates("pipelines/é.py", "é = f('é', 1) + 1\n")[0]
    assert mutant.change == "f('é', 1) + 1 -> f('é', 1) - 1"
    assert mutant.text == "é = f('é', 1) - 1\n"


def test_changes_that_read_the_same_are_told_apart_by_their_order():
    mutants = mutate.candidates("pipelines/x.py", "x = [1, 1]\nx = [1, 1]\n")
    assert [mutant.key for mutant in mutants] == [
        ("pipelines/x.py", "x = [1, 1]", f"1 -> 2{nth}") for nth in ("", " #2", " #3", " #4")
    ]


def test_a_python_module_is_tested_by_its_mirror_and_by_those_that_import_it(tmp_path):
    for name, text in {
        "lake/test_rollup.py": "",
        "lake/test_loading.py": "from pipelines.lake import batch",
        "test_cli.py": "from pipelines.lake.rollup import roll_up",
    }.items():
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).write_text(text)
    assert {
        module: mutate.python_tests(tmp_path, f"pipelines/lake/{module}.py")
        for module in ("rollup", "batch")
    } == {
        "rollup": [
            "tests/lake/test_rollup.py",
            "tests/lake/test_loading.py",
            "tests/test_cli.py",
        ],
        "batch": ["tests/lake/test_loading.py", "tests/lake/test_rollup.py"],
    }


def test_a_macro_is_tested_by_the_models_that_it_is_part_of():
    manifest = {
        "macros": {
            "macro.wattbook.inner": {"depends_on": {"macros": []}},
            "macro.wattbook.outer": {"depends_on": {"macros": ["macro.wattbook.inner"]}},
        },
        "nodes": {
            name: {
                "name": name,
                "resource_type": "model",
                "depends_on": {"macros": [f"macro.wattbook.{macro}"]},
            }
            for name, macro in {"b": "outer", "a": "inner", "c": "other"}.items()
        },
    }
    assert mutate.models_with_macro(manifest, "inner") == ["a", "b"]
    assert mutate.models_with_macro(manifest, "outer") == ["b"]
    source = "{% macro one(a) %}\n1\n{% endmacro %}\n{% macro two() %}\n2\n{% endmacro %}\n"
    mutants = mutate.candidates("dbt_project/macros/x.sql", source)
    assert [mutate.macro_at(mutant) for mutant in mutants] == ["one", "two"]


def test_python_tests_that_build_a_model_are_asked_about_it(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text('build("fct_x")')
    (tmp_path / "tests/test_two.py").write_text('build("fct_x_daily")')
    assert mutate.tests_that_name(tmp_path, ["fct_x"]) == ["tests/test_one.py"]


def test_changes_that_are_said_to_alter_nothing_are_those_that_would_be_tried():
    named = set(mutate.equivalents())
    tried = {mutant.key for mutant in mutate.mutants_of(sorted({path for path, *_ in named}))}
    assert named - tried == set()
