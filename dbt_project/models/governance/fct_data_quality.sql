with

-- A reading of a plant that no site's meter stands beside has no coverage to measure.
meter_coverage as (

    select
        utc_date,
        {{ exact_sum("coverage_ratio") }} / count(*) as coverage_ratio
    from {{ ref("int_meter_roles_pivoted") }}
    group by utc_date

),

meter_rows as (

    select
        'meter_readings' as source_table,
        readings.utc_date,
        count(readings.energy_kwh) as row_count,
        count(*) filter (where readings.is_estimated) as estimated_row_count,
        max(meter_coverage.coverage_ratio) as coverage_ratio
    from {{ ref("stg_meter_readings") }} as readings
    left join meter_coverage on readings.utc_date = meter_coverage.utc_date
    group by readings.utc_date

),

battery_coverage as (

    select
        'battery_samples' as source_table,
        utc_date,
        count(*) filter (where sample_count > 0) / count(*) as coverage_ratio,
        sum(sample_count) as row_count
    from {{ ref("int_battery_intervals") }}
    group by utc_date

),

price_coverage as (

    select
        'market_prices' as source_table,
        prices.utc_date,
        count(prices.spot_price_per_mwh) / count(*) as coverage_ratio,
        count(prices.spot_price_per_mwh) as row_count
    from {{ ref("int_supply_prices") }} as prices
    where prices.price_basis = 'spot'
    group by prices.utc_date

),

carbon_coverage as (

    select
        'grid_carbon' as source_table,
        utc_date,
        count(location_g_per_kwh) / count(*) as coverage_ratio,
        count(location_g_per_kwh) as row_count,
        count(*) filter (where is_factor_estimated) as estimated_row_count
    from {{ ref("int_grid_carbon") }}
    group by utc_date

),

node_rows as (

    select
        'gpu_samples' as source_table,
        utc_date,
        count(*) as row_count,
        {{ exact_sum("coverage_ratio") }} / count(*) as coverage_ratio
    from {{ ref("stg_node_intervals") }}
    group by utc_date

),

job_rows as (

    select
        'jobs' as source_table,
        cast(ended_at as date) as utc_date,
        count(*) as row_count
    from {{ ref("stg_jobs") }}
    where ended_at is not null
    group by cast(ended_at as date)

),

charge_rows as (

    select
        'cloud_charges' as source_table,
        utc_date,
        count(*) as row_count
    from {{ ref("stg_cloud_charges") }}
    group by utc_date

),

-- A refused row has no date one could trust: it counts on the day its file became known.
refused_rows as (

    select
        coalesce(tables[1], format) as source_table,
        cast(known_at as date) as utc_date,
        sum(quarantined_row_count) as quarantined_row_count,
        count(*) filter (where status = 'failed') as failed_file_count
    from {{ source("raw", "raw_loads") }}
    where
        {{ known_at_as_of() }}
        and status <> 'loaded'
    group by coalesce(tables[1], format), cast(known_at as date)

),

counted as (

    select
        source_table,
        utc_date,
        row_count,
        estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        coverage_ratio
    from meter_rows

    union all

    select
        source_table,
        utc_date,
        row_count,
        cast(null as bigint) as estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        coverage_ratio
    from battery_coverage

    union all

    select
        source_table,
        utc_date,
        row_count,
        cast(null as bigint) as estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        coverage_ratio
    from price_coverage

    union all

    select
        source_table,
        utc_date,
        row_count,
        estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        coverage_ratio
    from carbon_coverage

    union all

    select
        source_table,
        utc_date,
        row_count,
        cast(null as bigint) as estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        coverage_ratio
    from node_rows

    union all

    select
        source_table,
        utc_date,
        row_count,
        cast(null as bigint) as estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        cast(null as double) as coverage_ratio
    from job_rows

    union all

    select
        source_table,
        utc_date,
        row_count,
        cast(null as bigint) as estimated_row_count,
        cast(null as bigint) as quarantined_row_count,
        cast(null as bigint) as failed_file_count,
        cast(null as double) as coverage_ratio
    from charge_rows

    union all

    select
        source_table,
        utc_date,
        cast(null as bigint) as row_count,
        cast(null as bigint) as estimated_row_count,
        quarantined_row_count,
        failed_file_count,
        cast(null as double) as coverage_ratio
    from refused_rows

)

select
    source_table,
    utc_date,
    cast(coalesce(sum(row_count), 0) as bigint) as row_count,
    cast(coalesce(sum(estimated_row_count), 0) as bigint) as estimated_row_count,
    cast(coalesce(sum(quarantined_row_count), 0) as bigint) as quarantined_row_count,
    cast(coalesce(sum(failed_file_count), 0) as bigint) as failed_file_count,
    max(coverage_ratio) as coverage_ratio
from counted
group by source_table, utc_date
