{#
    The formulas of the KPIs, each once: aggregates over intervals of the book's 15-minute grain, for whatever
    period and whatever the model groups by. All intervals are equally long, so a mean over them is time-weighted.
    What is not known is null and absent from means; only what was counted and did not occur is 0.
#}

{# What may serve the next GPU-hour. #}
{% macro marginal_sources() -%}
    {{ return(["local_surplus", "grid", "battery", "constrained", "on_demand", "commitment"]) }}
{%- endmacro %}

{# Whether it is known what one more GPU-hour costs, or that it cannot be had. #}
{% macro is_marginal_cost_known(constrained_ratio="cast(marginal_source = 'constrained' as integer)") -%}
    (marginal_cost_per_gpu_hour is not null or coalesce({{ constrained_ratio }} = 1, false))
{%- endmacro %}

{#
    Supply and marginal cost: what a site, or all sites together, had in each interval. `source_ratio` is the share in
    which a source served the next GPU-hour of the interval.
#}
{% macro kpi_supply_aggregates(
    source_ratio="cast(marginal_source = '{}' as integer)", measured_ratio="cast(is_incremental_power_measured as integer)"
) %}
    {{ exact_sum("coverage_ratio") }} / max(expected_interval_count) as coverage_ratio,
    count(availability_ratio) / max(expected_interval_count) as availability_coverage_ratio,
    {{ mean_of("effective_it_mw") }} as mean_effective_it_mw,
    quantile_cont(effective_it_mw, 0.05) as p5_effective_it_mw,
    min(effective_it_mw) as minimum_effective_it_mw,
    {{ mean_of("committed_it_mw") }} as mean_committed_it_mw,
    {{ mean_of("headroom_it_mw") }} as mean_headroom_it_mw,
    min(headroom_it_mw) as minimum_headroom_it_mw,
    {{ mean_of("headroom_gpu_count") }} as mean_headroom_gpu_count,
    {{ mean_of("availability_ratio") }} as mean_availability_ratio,
    quantile_cont(availability_ratio, 0.05) as p5_availability_ratio,
    min(availability_ratio) as minimum_availability_ratio,
    avg(cast(is_fully_available as integer)) as fully_available_ratio,
    {{ mean_of("grid_mw") }} as mean_grid_mw,
    {{ mean_of("local_mw") }} as mean_local_mw,
    {{ mean_of("local_generation_mw") }} as mean_local_generation_mw,
    {{ mean_of("local_storage_mw") }} as mean_local_storage_mw,
    avg(cast(is_local_available as integer)) as local_time_availability_ratio,
    {{ mean_of("local_availability_ratio") }} as local_mw_availability_ratio,
    count(*) filter (where local_committed_mw > 0 and is_local_available is null) as local_excluded_interval_count,
    {{ mean_of("marginal_cost_per_gpu_hour") }} as mean_marginal_cost_per_gpu_hour,
    quantile_cont(marginal_cost_per_gpu_hour, 0.95) as p95_marginal_cost_per_gpu_hour,
    {%- for source in marginal_sources() %}
    {{ mean_of(source_ratio.format(source)) }} as marginal_{{ source }}_ratio,
    {%- endfor %}
    {{ mean_of(measured_ratio) }} as measured_power_ratio,
    count(*) filter (where {{ is_marginal_cost_known(source_ratio.format("constrained")) }})
    / max(expected_interval_count) as marginal_cost_coverage_ratio
{% endmacro %}

{# The intervals of a model with the number of intervals their week of the organization's clock should have. #}
{% macro kpi_week_intervals(relation) %}
    select
        intervals.*,
        date_trunc('week', intervals.interval_started_at at time zone organization.time_zone) as monday_at,
        {{ expected_intervals("monday_at", "(monday_at + interval 7 days)", "organization.time_zone") }}
            as expected_interval_count
    from {{ relation }} as intervals
    cross join {{ source("raw", "organization") }} as organization
    where {{ in_build_weeks("intervals.week") }}
{% endmacro %}

{# Energy, carbon, cost and work: sums over rows of a site and interval, so of any number of sites. #}
{% macro kpi_energy_aggregates() %}
    {{ exact_sum("consumption_kwh") }} as consumption_kwh,
    {{ exact_sum("facility_kwh") }} as facility_kwh,
    {{ exact_sum("it_kwh") }} as it_kwh,
    {{ exact_sum("local_kwh") }} as local_kwh,
    {{ exact_sum("contracted_kwh") }} as contracted_kwh,
    {{ exact_sum("grid_uncontracted_kwh") }} as grid_uncontracted_kwh,
    {{ ratio_of_sums("contracted_kwh", "consumption_kwh") }} as contracted_ratio,
    {{ ratio_of_sums("facility_kwh", "it_kwh") }} as pue_ratio,
    {%- for method in ["location_based", "market_based", "hourly_matched"] %}
    {{ exact_sum(method ~ "_kg") }} as {{ method }}_kg,
    {{ ratio_of_sums(method ~ "_kg", "consumption_kwh") }} * 1000 as {{ method }}_g_per_kwh,
    {{ ratio_of_sums(method ~ "_kg", "allocated_gpu_hours") }} * 1000 as {{ method }}_g_per_gpu_hour,
    {%- endfor %}
    {{ exact_sum("scope_1_kg") }} as scope_1_kg,
    {{ ratio_of_sums("carbon_free_kwh", "consumption_kwh") }} as carbon_free_ratio,
    case
        when {{ ratio_of_sums("renewable_kwh", "facility_kwh") }} > 1 then 1
        else {{ ratio_of_sums("renewable_kwh", "facility_kwh") }}
    end as ref_ratio,
    {{ ratio_of_sums("location_based_kg + scope_1_kg", "it_kwh") }} as cue_kg_per_kwh,
    {{ ratio_of_sums("location_based_kg + embodied_kg", "allocated_gpu_hours") }} * 1000 as sci_g_per_gpu_hour,
    count(location_based_kg) / nullif(count(*) filter (where is_metered), 0) as carbon_coverage_ratio,
    {{ ratio_of_sums("contract_adjusted_cost", "allocated_gpu_hours") }} as contract_adjusted_cost_per_gpu_hour,
    {{ exact_sum("allocated_gpu_hours") }} as allocated_gpu_hours,
    {{ exact_sum("allocated_gpu_hours_sensitive") }} as allocated_gpu_hours_sensitive,
    {{ exact_sum("allocated_gpu_hours_tolerant") }} as allocated_gpu_hours_tolerant,
    max(currency_code) as currency_code
{% endmacro %}

{#
    What the work of a site cost on a day with all that is paid or set aside for it, and the GPU-hours it held. What
    went into the batteries is borne when it leaves them.
#}
{% macro kpi_loaded_days() %}
    select
        site_id,
        local_date,
        {{ iso_week("local_date") }} as week,
        {{ sum_if_all_known("fully_loaded_cost") }} as fully_loaded_cost,
        coalesce({{ exact_sum("allocated_gpu_hours") }}, 0) as allocated_gpu_hours
    from {{ ref("fct_all_in_costs") }}
    where workload_id <> 'stored'
    group by site_id, local_date
{% endmacro %}

{% macro kpi_loaded_cost() -%}
    {{ ratio_of_sums("fully_loaded_cost", "allocated_gpu_hours") }} as fully_loaded_cost_per_gpu_hour
{%- endmacro %}

{# Incidents, over rows of an incident and interval. Minutes of several sites add up. #}
{% macro kpi_incident_aggregates() %}
    count(distinct incident_id) as incident_count,
    count(interval_started_at) * 15 as incident_minutes,
    {{ sum_if_all_known("lost_gpu_hours_sensitive") }} as lost_gpu_hours_sensitive,
    {{ sum_if_all_known("lost_gpu_hours_tolerant") }} as lost_gpu_hours_tolerant,
    {{ sum_if_all_known("incident_cost") }} as incident_cost,
    {{ exact_sum("interrupted_gpu_hours") }} as interrupted_gpu_hours,
    sum(interrupted_gpu_count) as interrupted_gpu_count
{% endmacro %}

{# Of a period whose effective power was known at no time nobody can say that there was no incident. #}
{% macro kpi_no_incidents() -%}
    case when figures.availability_coverage_ratio > 0 then 0 end
{%- endmacro %}

{# The figures of `kpi_incident_aggregates` in a period that may have seen no incident. #}
{% macro kpi_incident_columns() %}
    coalesce(incidents.incident_count, {{ kpi_no_incidents() }}) as incident_count,
    coalesce(incidents.incident_minutes, {{ kpi_no_incidents() }}) as incident_minutes,
    {%- for column in ["lost_gpu_hours_sensitive", "lost_gpu_hours_tolerant", "incident_cost"] %}
    case when incidents.incident_count is null then {{ kpi_no_incidents() }} else incidents.{{ column }} end
        as {{ column }}
    {{- "," if not loop.last }}
    {%- endfor %}
{% endmacro %}

{# Indices after IEEE 1366 with GPUs as customers; sustained interruptions only. #}
{% macro kpi_interruption_indices() %}
    coalesce(incidents.interrupted_gpu_hours, {{ kpi_no_incidents() }}) * 60
    / nullif(gpus.installed_gpu_count, 0) as saidi_minutes,
    coalesce(incidents.interrupted_gpu_count, {{ kpi_no_incidents() }})
    / nullif(gpus.installed_gpu_count, 0) as saifi_interruptions,
    incidents.interrupted_gpu_hours * 60 / nullif(incidents.interrupted_gpu_count, 0) as caidi_minutes
{% endmacro %}

{#
    The columns of a KPI table that are joined to those of intervals: what incidents came to, which may change later, and
    the fully loaded cost.
#}
{% macro kpi_joined_columns(has_indices=false) -%}
    fully_loaded_cost_per_gpu_hour,
    incident_count,
    incident_minutes,
    lost_gpu_hours_sensitive,
    lost_gpu_hours_tolerant,
    incident_cost
    {%- if has_indices %},
    saidi_minutes,
    saifi_interruptions,
    caidi_minutes
    {%- endif %}
{%- endmacro %}

{# Quotient of two sums over the rows that have both, so that a gap in one does not bias it. #}
{% macro ratio_of_sums(numerator, denominator) -%}
    {{ exact_sum(numerator, denominator ~ " is not null") }}
    / nullif({{ exact_sum(denominator, "(" ~ numerator ~ ") is not null") }}, 0)
{%- endmacro %}

{# Number of 15-minute intervals between two local midnights, so that days of 23 and 25 hours come out right. #}
{% macro expected_intervals(first_midnight, next_midnight, time_zone) -%}
    date_diff(
        'minute', {{ first_midnight }} at time zone {{ time_zone }}, {{ next_midnight }} at time zone {{ time_zone }}
    ) / 15
{%- endmacro %}

{# A sum over sites of which one is not known is not known: the interval is then absent from the means. #}
{% macro sum_of_sites(column) -%}
    {{ sum_if_all_known(column, of="count(*) filter (where is_metered)") }}
{%- endmacro %}

{# Mean of the known values. #}
{% macro mean_of(column) -%}
    {{ exact_sum(column) }} / nullif(count({{ column }}), 0)
{%- endmacro %}
