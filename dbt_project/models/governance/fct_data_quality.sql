{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

{#
    What is counted of each source: the table it is called, the rows it is counted over, their date, and of a date the
    figures that can be told. A refused row has no date one could trust: it counts on the day its file became known.
#}
{% set counts = [
    {
        "table": "'meter_readings'",
        "is_by_day": true,
        "from": "readings",
        "row_count": "count(energy_kwh)",
        "estimated_row_count": "count(*) filter (where is_estimated)",
        "coverage_ratio": "max(coverage_ratio)",
    },
    {
        "table": "'battery_samples'",
        "is_by_day": true,
        "from": ref("int_battery_intervals"),
        "row_count": "sum(sample_count)",
        "coverage_ratio": "count(*) filter (where sample_count > 0) / count(*)",
    },
    {
        "table": "'market_prices'",
        "is_by_day": true,
        "from": ref("int_supply_prices"),
        "where": "price_basis = 'spot'",
        "row_count": "count(spot_price_per_mwh)",
        "coverage_ratio": "count(spot_price_per_mwh) / count(*)",
    },
    {
        "table": "'grid_carbon'",
        "is_by_day": true,
        "from": ref("int_grid_carbon"),
        "row_count": "count(location_g_per_kwh)",
        "estimated_row_count": "count(*) filter (where is_factor_estimated)",
        "coverage_ratio": "count(location_g_per_kwh) / count(*)",
    },
    {
        "table": "'gpu_samples'",
        "is_by_day": true,
        "from": ref("stg_node_intervals"),
        "row_count": "count(*)",
        "coverage_ratio": exact_sum("coverage_ratio") ~ " / count(*)",
    },
    {
        "table": "'jobs'",
        "from": ref("stg_jobs"),
        "date": "cast(ended_at as date)",
        "where": "ended_at is not null",
        "row_count": "count(*)",
    },
    {
        "table": "'jobs'",
        "from": ref("int_job_coverage"),
        "is_by_day": true,
        "coverage_ratio": "count(*) filter (where is_known) / count(*)",
    },
    {
        "table": "'cloud_charges'",
        "is_by_day": true,
        "from": ref("stg_cloud_charges"),
        "row_count": "count(*)",
    },
    {
        "table": "coalesce(tables[1], format)",
        "from": source("raw", "raw_loads"),
        "date": "cast(known_at as date)",
        "where": "status in ('partial', 'failed') and " ~ known_at_as_of(),
        "quarantined_row_count": "sum(quarantined_row_count)",
        "failed_file_count": "count(*) filter (where status = 'failed')",
    },
    {
        "table": "source_table",
        "from": "finding_days",
        "finding_count": "count(*)",
    },
] %}
{% set figures = [
    "row_count", "estimated_row_count", "quarantined_row_count", "failed_file_count", "finding_count"
] %}

with

-- A reading of a plant that no site's meter stands beside has no coverage to measure.
meter_coverage as (

    select
        utc_date,
        {{ exact_sum("coverage_ratio") }} / count(*) as coverage_ratio
    from {{ ref("int_meter_roles_pivoted") }}
    where {{ in_build_dates("utc_date") }}
    group by utc_date

),

readings as (

    select
        readings.utc_date,
        readings.energy_kwh,
        readings.is_estimated,
        meter_coverage.coverage_ratio
    from {{ ref("stg_meter_readings") }} as readings
    left join meter_coverage on readings.utc_date = meter_coverage.utc_date
    where {{ in_build_dates("readings.utc_date") }}

),

-- A finding counts on every day that it touches; one that goes on, on its first.
finding_days as (

    select
        source_table,
        cast(
            unnest(
                generate_series(
                    date_trunc('day', started_at),
                    coalesce(ended_at, started_at + interval 1 microsecond) - interval 1 microsecond,
                    interval 1 day
                )
            ) as date
        ) as utc_date
    from {{ ref("fct_findings") }}

),

counted as (

    {% for count in counts %}
    select
        {{ count["table"] }} as source_table,
        {{ count["date"] or "utc_date" }} as utc_date,
        {%- for figure in figures %}
        cast({{ count[figure] or "null" }} as bigint) as {{ figure }},
        {%- endfor %}
        cast({{ count["coverage_ratio"] or "null" }} as double) as coverage_ratio
    from {{ count["from"] }}
    where {{ count["where"] or "true" }}{% if count["is_by_day"] %} and {{ in_build_dates("utc_date") }}{% endif %}

    group by all
    {{ "union all" if not loop.last }}
    {% endfor %}
    {% if build_from() %}
    union all by name
    -- What is counted by the day, of the days before; jobs are counted anew.
    select
        source_table,
        utc_date,
        case when source_table <> 'jobs' then row_count end as row_count,
        estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        cast(null as bigint) as finding_count,
        coverage_ratio
    from {{ this }}
    where
        (row_count > 0 or coverage_ratio is not null)
        and not {{ in_build_dates("utc_date") }}
    {% endif %}

)

select
    source_table,
    utc_date,
    {%- for figure in figures %}
    cast(coalesce(sum({{ figure }}), 0) as bigint) as {{ figure }},
    {%- endfor %}
    max(coverage_ratio) as coverage_ratio
from counted
group by source_table, utc_date
