{{ config(materialized = "incremental", meta = {"week": "week"}) }}

{#
    Of each KPI whether it is known in a quarter of an hour, and of each of its inputs (`kpi_inputs` in dbt_project.yml)
    whether it is missing then. The first are those by which kpi_site_weekly counts its coverage.
#}
{% set known = {
    "effective_availability_ratio": "availability_ratio is not null",
    "marginal_cost_per_gpu_hour": is_marginal_cost_known(),
    "location_based_g_per_kwh": "location_based_kg is not null and coverage_ratio >= 1",
    "incident_count": "availability_ratio is not null",
} %}
{% set at_grid = "coalesce(marginal_source, 'grid') = 'grid' and venue_kind = 'own_site'" %}
{% set balance_missing = "grid_import_kwh is null or grid_export_kwh is null" %}
{% set missing = {
    "effective_availability_ratio": {
        "site_meter": "grid_mw is null",
        "other_meters": "has_generation and onsite_generation_kwh is null",
        "battery_samples": "battery_count > sustained_battery_count",
        "capacity_plan": "coalesce(committed_it_mw, 0) = 0",
    },
    "marginal_cost_per_gpu_hour": {
        "site_meter": balance_missing,
        "battery_stock": "marginal_source = 'battery' and battery_cost_per_mwh is null",
        "node_groups": "venue_kind = 'own_site' and gpu_count is null",
        "supply_tariff": at_grid ~ " and not has_tariff",
        "market_price": at_grid ~ " and is_on_spot and spot_price_per_mwh is null",
        "grid_connection": at_grid ~ " and not has_connection",
        "demand_history": "is_demand_unknown and " ~ at_grid ~ " and has_connection and marginal_source is not null",
        "hpc_allocation": "venue_kind = 'hpc_allocation' and (not has_allocation or gpu_count is null)",
        "fx_rate": "is_rate_missing",
    },
    "location_based_g_per_kwh": {
        "site_meter": balance_missing,
        "other_meters": "other_meter_count > read_other_meter_count",
        "battery_samples": "battery_count > sampled_battery_count",
        "battery_stock": "battery_count = sampled_battery_count and battery_discharge_kwh > 0"
            " and discharge_location_g is null",
        "grid_carbon": "grid_g_per_kwh is null",
        "emission_factors": "onsite_generation_kwh > 0 and upstream_g is null",
    },
} %}
{% do missing.update({"incident_count": missing["effective_availability_ratio"]}) %}
{# What a KPI that is known would be better with. #}
{% set narrowed = {
    "marginal_cost_per_gpu_hour": {
        "telemetry": "venue_kind = 'own_site' and not is_incremental_power_measured",
    },
    "incident_count": {
        "telemetry": "gpu_count > 0 and not has_telemetry",
        "jobs": "not has_jobs",
    },
} %}
{# What no input mends, and how that is said. #}
{% set other_reasons = {
    "rest_of_week": "is not in the book yet",
    "own_supply": "is the provider's alone to know: a public cloud tells what it bills",
    "nothing_to_measure": "has nothing to measure it by",
    "other": "lacks something that no input accounts for: ask who runs Wattbook",
} %}
{# Of a public cloud only what it bills can be known. #}
{% set missing_in_cloud = {"marginal_cost_per_gpu_hour": {
    "cloud_bill": "not (is_in_book and is_rate_missing)",
    "fx_rate": "is_in_book and is_rate_missing",
}} %}
{% set counts = [] %}
{% for kpi_id, inputs in missing.items() %}
{% set is_known = "is_" ~ kpi_id ~ "_known" %}
{% set accounted = "coalesce(" ~ inputs.values() | join(", false) or coalesce(") ~ ", false)" %}
{% for input_id, condition in dict(inputs, other="not (" ~ accounted ~ ")").items() %}
{% do counts.append([kpi_id, input_id, "not is_cloud and not " ~ is_known ~ " and (" ~ condition ~ ")"]) %}
{% endfor %}
{% for input_id, condition in missing_in_cloud.get(kpi_id, {"own_supply": "true"}).items() %}
{% do counts.append([kpi_id, input_id, "is_cloud and not " ~ is_known ~ " and (" ~ condition ~ ")"]) %}
{% endfor %}
{% do counts.append([kpi_id, "nothing_to_measure", is_known]) %}
{% for input_id, condition in narrowed.get(kpi_id, {}).items() %}
{% do counts.append([kpi_id, input_id, "not is_cloud and " ~ is_known ~ " and (" ~ condition ~ ")"]) %}
{% endfor %}
{% endfor %}
{% set wordings = [] %}
{% for input in var("kpi_inputs") %}
{% set wording = "is without " ~ input.name ~ (": " ~ input.without if input.without else "") %}
{% set folders = input.landing_formats | map("replace", "", "landing/", 1) | join(", ") %}
{% set comes_from = folders ~ "; " ~ input.reference_field if folders else input.reference_field %}
{% do wordings.append([input.input_id, wording, comes_from, input.without is defined]) %}
{% endfor %}
{% for input_id, wording in other_reasons.items() %}
{% do wordings.append([input_id, wording, "", false]) %}
{% endfor %}
{# The week that the first day to build lies in begins before it. #}
{% set days_before = 8 %}

with

organization as (

    select *
    from {{ source("raw", "organization") }}

),

scores as (

    select
        week,
        site_id,
        rank as kpi_rank,
        kpi_id,
        kpi_name,
        kpi_value,
        coverage_ratio
    from {{ ref("governance_scorecard") }}
    where
        scope = 'site'
        and kpi_id in ('{{ known | join("', '") }}')
        and {{ in_build_weeks() }}

),

intervals as (

    select *
    from {{ ref("calc_site_kpi_intervals") }}
    where {{ in_build_weeks() }}

),

mondays as (

    select distinct
        week,
        {{ monday() }} as monday_at
    from scores

),

weeks as (

    select
        mondays.week,
        mondays.monday_at at time zone organization.time_zone as started_at,
        (mondays.monday_at + interval 7 days) at time zone organization.time_zone as ended_at,
        {{ expected_intervals("mondays.monday_at", "(mondays.monday_at + interval 7 days)", "organization.time_zone") }}
            as interval_count
    from mondays
    cross join organization

),

book as (

    select max(interval_started_at) + interval 15 minutes as ended_at
    from intervals

),

-- Up to where the book goes.
quarters as (

    select
        weeks.week,
        unnest(
            generate_series(
                weeks.started_at, least(weeks.ended_at, book.ended_at) - interval 15 minutes, interval 15 minutes
            )
        ) as interval_started_at
    from weeks
    cross join book

),

sites as (

    select *
    from {{ source("raw", "sites") }}

),

site_quarters as (

    select
        quarters.week,
        quarters.interval_started_at,
        cast(quarters.interval_started_at as date) as utc_date,
        sites.site_id,
        sites.venue_kind,
        sites.bidding_zone,
        sites.price_market,
        sites.price_sequence,
        sites.carbon_zone,
        sites.currency_code,
        cast(date_trunc('month', quarters.interval_started_at at time zone sites.time_zone) as date) as local_month,
        organization.emission_factor_basis
    from quarters
    inner join sites on {{ is_valid_at("sites", "quarters.interval_started_at") }}
    cross join organization

),

gpus as (

    select
        site_id,
        nullif(sum(gpu_count), 0) as gpu_count
    from {{ source("raw", "nodes") }}
    group by site_id

),

-- Terms of what is paid: whether there are any, and in which currency.
payments as (

    select
        site_id,
        valid_from_at,
        valid_to_at,
        'tariff' as paid_for,
        price_basis = 'spot_plus' as is_on_spot,
        currency_code
    from {{ source("raw", "tariffs") }}

    union all

    select
        site_id,
        valid_from_at,
        valid_to_at,
        'connection' as paid_for,
        false as is_on_spot,
        currency_code
    from {{ source("raw", "grid_connections") }}

    union all

    select
        site_id,
        valid_from_at,
        valid_to_at,
        'allocation' as paid_for,
        false as is_on_spot,
        currency_code
    from {{ source("raw", "contracts") }}
    where kind = 'hpc_allocation'

    union all

    select
        site_id,
        valid_from_at,
        valid_to_at,
        'site' as paid_for,
        false as is_on_spot,
        currency_code
    from sites

),

paid as (

    select
        quarters.site_id,
        quarters.interval_started_at,
        bool_or(payments.paid_for = 'tariff') as has_tariff,
        bool_or(payments.paid_for = 'connection') as has_connection,
        bool_or(payments.paid_for = 'allocation') as has_allocation,
        bool_or(payments.is_on_spot) as is_on_spot,
        bool_or(fx_rates.rate_to_reporting is null) as is_rate_missing
    from site_quarters as quarters
    inner join payments
        on
            quarters.site_id = payments.site_id
            and {{ is_valid_at("payments", "quarters.interval_started_at") }}
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            payments.currency_code = fx_rates.currency_code
            and quarters.utc_date = fx_rates.rate_date
    group by quarters.site_id, quarters.interval_started_at

),

batteries as (

    select
        quarters.site_id,
        quarters.interval_started_at,
        count(*) as battery_count,
        count(samples.sustained_kw) as sustained_battery_count,
        count(*) filter (where samples.sample_count > 0) as sampled_battery_count,
        max(ledger.average_cost_per_mwh) as battery_cost_per_mwh
    from site_quarters as quarters
    inner join {{ source("raw", "batteries") }} as batteries
        on
            quarters.site_id = batteries.site_id
            and {{ is_valid_at("batteries", "quarters.interval_started_at") }}
    left join {{ ref("int_battery_intervals") }} as samples
        on
            batteries.battery_id = samples.battery_id
            and quarters.interval_started_at = samples.interval_started_at
            and {{ in_build_dates("samples.utc_date", days_before=days_before) }}
    left join {{ ref("fct_battery_ledger") }} as ledger
        on
            batteries.battery_id = ledger.battery_id
            and quarters.interval_started_at = ledger.interval_started_at
            and {{ in_build_dates("ledger.utc_date", days_before=days_before) }}
    group by quarters.site_id, quarters.interval_started_at

),

other_meters as (

    select
        quarters.site_id,
        quarters.interval_started_at,
        count(*) as meter_count,
        count(readings.energy_kwh) as read_meter_count,
        bool_or(meters.role = 'onsite_generation') as has_generation
    from site_quarters as quarters
    inner join {{ source("raw", "meters") }} as meters
        on
            quarters.site_id = meters.site_id
            and {{ is_valid_at("meters", "quarters.interval_started_at") }}
            and meters.role not in ('grid_import', 'grid_export', 'ppa_generation')
    left join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and quarters.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date", days_before=days_before) }}
    group by quarters.site_id, quarters.interval_started_at

),

joined as (

    select
        quarters.*,
        quarters.venue_kind = 'public_cloud' as is_cloud,
        intervals.site_id is not null as is_in_book,
        intervals.availability_ratio,
        intervals.marginal_source,
        intervals.marginal_cost_per_gpu_hour,
        intervals.is_incremental_power_measured,
        intervals.location_based_kg,
        intervals.coverage_ratio,
        balance.grid_import_kwh,
        balance.grid_export_kwh,
        balance.onsite_generation_kwh,
        balance.battery_discharge_kwh,
        intervals.grid_mw,
        plan.committed_it_mw,
        gpus.gpu_count,
        coalesce(paid.has_tariff, false) as has_tariff,
        coalesce(paid.has_connection, false) as has_connection,
        coalesce(paid.has_allocation, false) as has_allocation,
        coalesce(paid.is_on_spot, false) as is_on_spot,
        coalesce(paid.is_rate_missing, false) as is_rate_missing,
        spot.price_per_mwh as spot_price_per_mwh,
        marginal.incremental_kwh_per_gpu_hour is not null
        and marginal.demand_charge_cost_per_gpu_hour is null as is_demand_unknown,
        coalesce(batteries.battery_count, 0) as battery_count,
        coalesce(batteries.sustained_battery_count, 0) as sustained_battery_count,
        coalesce(batteries.sampled_battery_count, 0) as sampled_battery_count,
        batteries.battery_cost_per_mwh,
        coalesce(other_meters.meter_count, 0) as other_meter_count,
        coalesce(other_meters.read_meter_count, 0) as read_other_meter_count,
        coalesce(other_meters.has_generation, false) as has_generation,
        discharges.discharge_location_g,
        generation.upstream_g,
        case quarters.emission_factor_basis
            when 'direct' then zone_carbon.direct_g_per_kwh
            when 'life_cycle' then zone_carbon.life_cycle_g_per_kwh
        end as grid_g_per_kwh,
        telemetry.site_id is not null as has_telemetry,
        coalesce(jobs.is_known, false) as has_jobs
    from site_quarters as quarters
    {{ left_join_interval("intervals", "quarters") }}
    {{ left_join_interval("paid", "quarters") }}
    {{ left_join_interval("batteries", "quarters") }}
    {{ left_join_interval("other_meters", "quarters") }}
    {{ left_join_interval("balance", "quarters", ref("fct_energy_balance"), days_before) }}
    {{ left_join_interval("marginal", "quarters", ref("fct_marginal_cost"), days_before) }}
    {{ left_join_interval("discharges", "quarters", ref("calc_site_discharges"), days_before) }}
    {{ left_join_interval("generation", "quarters", ref("int_generation_carbon"), days_before) }}
    {{ left_join_interval("telemetry", "quarters", ref("int_site_telemetry_intervals"), days_before) }}
    {{ left_join_interval("jobs", "quarters", ref("int_job_coverage"), days_before) }}
    left join {{ source("raw", "capacity_plan") }} as plan
        on
            quarters.site_id = plan.site_id
            and quarters.local_month = plan.month
    left join gpus on quarters.site_id = gpus.site_id
    left join {{ ref("int_market_prices") }} as spot
        on
            quarters.bidding_zone = spot.zone
            and quarters.price_market = spot.market
            and quarters.price_sequence = spot.sequence
            and quarters.interval_started_at = spot.interval_started_at
            and {{ in_build_dates("spot.utc_date", days_before=days_before) }}
    left join {{ ref("stg_grid_carbon") }} as zone_carbon
        on
            quarters.carbon_zone = zone_carbon.zone
            and quarters.interval_started_at = zone_carbon.interval_started_at
            and {{ in_build_dates("zone_carbon.utc_date", days_before=days_before) }}

),

judged as (

    select
        {%- for kpi_id, condition in known.items() %}
        coalesce({{ condition }}, false) as is_{{ kpi_id }}_known,
        {%- endfor %}
        *
    from joined

),

counted as (

    select
        site_id,
        week,
        {%- for _, _, condition in counts %}
        count(*) filter (where {{ condition }}) as count_{{ loop.index }},
        {%- endfor %}
        count(*) as interval_count
    from judged
    group by site_id, week

),

-- What the book has of each week, whether the site was there or not.
book_weeks as (

    select
        weeks.week,
        weeks.interval_count,
        count(quarters.interval_started_at) as book_interval_count
    from weeks
    left join quarters on weeks.week = quarters.week
    group by weeks.week, weeks.interval_count

),

gaps as (

    {% for kpi_id, input_id, _ in counts -%}
    select
        site_id,
        week,
        '{{ kpi_id }}' as kpi_id,
        '{{ input_id }}' as input_id,
        count_{{ loop.index }} as missing_count
    from counted

    union all

    {% endfor -%}
    select
        scores.site_id,
        scores.week,
        scores.kpi_id,
        'site_terms' as input_id,
        book_weeks.book_interval_count - coalesce(counted.interval_count, 0) as missing_count
    from scores
    inner join book_weeks on scores.week = book_weeks.week
    left join counted
        on
            scores.site_id = counted.site_id
            and scores.week = counted.week

    union all

    select
        scores.site_id,
        scores.week,
        scores.kpi_id,
        'rest_of_week' as input_id,
        book_weeks.interval_count - book_weeks.book_interval_count as missing_count
    from scores
    inner join book_weeks on scores.week = book_weeks.week

),

inputs as (

    {% for input_id, wording, comes_from, is_only_narrowing in wordings -%}
    select
        {{ loop.index }} as input_rank,
        '{{ input_id }}' as input_id,
        '{{ wording | replace("'", "''") }}' as wording,
        nullif('{{ comes_from | replace("'", "''") }}', '') as comes_from,
        {{ is_only_narrowing | lower }} as is_only_narrowing
    {{ "union all" if not loop.last }}
    {% endfor %}

),

measured as (

    select
        scores.*,
        inputs.*,
        gaps.missing_count / book_weeks.interval_count as missing_ratio,
        -- What is less than a tenth of a percent is still something.
        case
            when gaps.missing_count = book_weeks.interval_count then 'The whole week'
            when missing_ratio < 0.001 then 'Less than 0.1 % of the week'
            when missing_ratio > 0.999 then 'More than 99.9 % of the week'
            else format('{:.3g} % of the week', missing_ratio * 100)
        end as extent
    from scores
    inner join book_weeks on scores.week = book_weeks.week
    inner join gaps
        on
            scores.site_id = gaps.site_id
            and scores.week = gaps.week
            and scores.kpi_id = gaps.kpi_id
    inner join inputs on gaps.input_id = inputs.input_id
    where
        gaps.missing_count > 0
        -- All is known, and there is no figure.
        and (
            gaps.input_id <> 'nothing_to_measure'
            or (scores.kpi_value is null and gaps.missing_count = book_weeks.interval_count)
        )

)

select
    site_id,
    week,
    kpi_id,
    kpi_name,
    input_id,
    case
        when is_only_narrowing then 'narrowed'
        when kpi_value is null then 'absent'
        else 'partial'
    end as effect,
    missing_ratio,
    extent || ' ' || wording as reason,
    comes_from,
    cast(row_number() over (partition by site_id, week order by kpi_rank, input_rank) as bigint) as rank
from measured
where
    not is_only_narrowing
    or kpi_value is not null
