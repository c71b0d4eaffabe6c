-- Below it a figure of the whole year from reference data cannot stand beside what the meters have counted.
{% set full_year_ratio = 0.99 %}

with

sites as (

    select distinct
        site_id,
        name,
        time_zone
    from {{ source("raw", "sites") }}
    where venue_kind <> 'public_cloud'

),

facts as (

    select *
    from {{ source("raw", "data_centre_years") }}

),

generation as (

    select
        generation.site_id,
        generation.interval_started_at,
        count(*) filter (where {{ is_renewable("meters.energy_source") }} and generation.energy_kwh is null)
            as unread_meter_count,
        coalesce({{ exact_sum("generation.energy_kwh", is_renewable("meters.energy_source")) }}, 0) as renewable_kwh,
        {{ sum_if_all_known("generation.energy_kwh", condition="meters.energy_source in ('oil', 'gas')") }}
            as backup_kwh
    from {{ ref("int_generation_meters") }} as generation
    inner join {{ source("raw", "meters") }} as meters
        on
            generation.meter_id = meters.meter_id
            and meters.role = 'onsite_generation'
            and {{ is_valid_at("meters", "generation.interval_started_at") }}
    group by generation.site_id, generation.interval_started_at

),

-- A virtual contract delivers no energy, and without its certificates energy is not renewable any more.
agreements as (

    select
        volumes.site_id,
        volumes.interval_started_at,
        {{ sum_if_all_known("volumes.volume_mwh") }} * 1000 as volume_kwh
    from {{ ref("int_contract_volumes") }} as volumes
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            volumes.contract_kind = kinds.contract_kind
            and kinds.is_delivered
    where
        volumes.are_certificates_bundled
        and {{ is_renewable("volumes.energy_source") }}
    group by volumes.site_id, volumes.interval_started_at

),

intervals as (

    select
        balance.site_id,
        cast(date_trunc('year', balance.local_date) as date) as local_year,
        balance.facility_kwh,
        balance.it_kwh,
        balance.grid_import_kwh,
        generation.backup_kwh,
        case
            when agreements.site_id is null then 0
            when agreements.volume_kwh is not null and balance.grid_supplied_kwh is not null
                then least(agreements.volume_kwh, balance.grid_supplied_kwh)
        end as agreement_kwh,
        case
            when generation.site_id is null then 0
            when generation.unread_meter_count = 0 and balance.grid_export_kwh is not null
                then greatest(generation.renewable_kwh - balance.grid_export_kwh, 0)
        end as own_renewable_kwh
    from {{ ref("fct_energy_balance") }} as balance
    left join generation
        on
            balance.site_id = generation.site_id
            and balance.interval_started_at = generation.interval_started_at
    left join agreements
        on
            balance.site_id = agreements.site_id
            and balance.interval_started_at = agreements.interval_started_at

),

metered as (

    select
        site_id,
        local_year,
        {{ exact_sum("facility_kwh") }} as total_energy_kwh,
        count(facility_kwh) as total_energy_count,
        {{ exact_sum("it_kwh") }} as it_energy_kwh,
        count(it_kwh) as it_energy_count,
        {{ exact_sum("backup_kwh") }} as backup_energy_kwh,
        count(backup_kwh) as backup_energy_count,
        {{ exact_sum("agreement_kwh") }} as agreement_kwh,
        count(agreement_kwh) as agreement_count,
        {{ exact_sum("own_renewable_kwh") }} as own_renewable_kwh,
        count(own_renewable_kwh) as own_renewable_count,
        count(grid_import_kwh) as import_count,
        {{ ratio_of_sums("facility_kwh", "it_kwh") }} as pue_ratio,
        count(facility_kwh + it_kwh) as pue_count
    from intervals
    group by site_id, local_year

),

own_generation as (

    select distinct meter_id
    from {{ source("raw", "meters") }}
    where role = 'onsite_generation'

),

-- Retired for the site, and neither of a contract nor of its own generation, which count by themselves.
certificates as (

    select
        assignments.site_id,
        cast(date_trunc('year', assignments.local_month) as date) as local_year,
        {{ exact_sum("assignments.bundle_kwh") }} as certificate_kwh
    from {{ ref("fct_certificate_assignments") }} as assignments
    left join own_generation on assignments.device_id = own_generation.meter_id
    where
        assignments.assignment_status = 'assigned'
        and assignments.registry_status in ('cancelled', 'claimed')
        and {{ is_renewable("assignments.energy_source") }}
        and own_generation.meter_id is null
    group by assignments.site_id, cast(date_trunc('year', assignments.local_month) as date)

),

reported as (

    select
        site_id,
        local_year
    from metered
    union distinct
    select
        site_id,
        local_year
    from facts

),

years as (

    select
        sites.site_id,
        sites.name,
        sites.time_zone,
        reported.local_year,
        cast(reported.local_year as timestamp) as started_at,
        cast(reported.local_year + interval 1 year as timestamp) as ended_at
    from sites
    inner join reported on sites.site_id = reported.site_id

),

-- Terms that change in the year are weighted by the time they held.
capacity as (

    select
        site_id,
        local_year,
        round({{ weighted_mean("it_capacity_mw", "held_s") }} * 1000, 6) as installed_it_kw,
        {{ exact_sum("held_s") }} / max(year_s) as installed_it_coverage_ratio
    from (
        select
            years.site_id,
            years.local_year,
            terms.it_capacity_mw,
            epoch(
                least(
                    years.ended_at at time zone years.time_zone,
                    coalesce(terms.valid_to_at, timestamptz 'infinity')
                ) - greatest(
                    years.started_at at time zone years.time_zone,
                    coalesce(terms.valid_from_at, timestamptz '-infinity')
                )
            ) as held_s,
            epoch(years.ended_at at time zone years.time_zone - years.started_at at time zone years.time_zone)
                as year_s
        from years
        inner join {{ source("raw", "sites") }} as terms
            on
                years.site_id = terms.site_id
                and (
                    terms.valid_from_at is null
                    or terms.valid_from_at < years.ended_at at time zone years.time_zone
                )
                and (
                    terms.valid_to_at is null
                    or terms.valid_to_at > years.started_at at time zone years.time_zone
                )
        where terms.it_capacity_mw is not null
    )
    group by site_id, local_year

),

counted as (

    select
        years.*,
        {{ expected_intervals("years.started_at", "years.ended_at", "years.time_zone") }} as expected_interval_count,
        metered.total_energy_kwh,
        metered.total_energy_count,
        metered.it_energy_kwh,
        metered.it_energy_count,
        metered.backup_energy_kwh,
        metered.backup_energy_count,
        metered.agreement_kwh,
        metered.agreement_count,
        metered.own_renewable_kwh,
        metered.own_renewable_count,
        metered.import_count,
        metered.pue_ratio,
        metered.pue_count,
        -- Nothing retired is a count; without any reading of the year nothing was counted.
        case when metered.import_count > 0 then coalesce(certificates.certificate_kwh, 0) end as certificate_kwh
    from years
    left join metered
        on
            years.site_id = metered.site_id
            and years.local_year = metered.local_year
    left join certificates
        on
            years.site_id = certificates.site_id
            and years.local_year = certificates.local_year

),

figures as (

    select
        *,
        {%- for name in ["total_energy", "it_energy", "backup_energy", "agreement", "own_renewable", "import", "pue"] %}
        coalesce({{ name }}_count, 0) / expected_interval_count as {{ name }}_coverage_ratio,
        {%- endfor %}
        certificate_kwh + agreement_kwh + own_renewable_kwh as renewable_kwh
    from counted

)

select
    figures.site_id,
    figures.local_year,
    figures.name,
    capacity.installed_it_kw,
    coalesce(capacity.installed_it_coverage_ratio, 0) as installed_it_coverage_ratio,
    figures.total_energy_kwh,
    figures.total_energy_coverage_ratio,
    figures.backup_energy_kwh,
    figures.backup_energy_coverage_ratio,
    figures.it_energy_kwh,
    figures.it_energy_coverage_ratio,
    figures.renewable_kwh,
    least(
        figures.import_coverage_ratio, figures.agreement_coverage_ratio, figures.own_renewable_coverage_ratio
    ) as renewable_coverage_ratio,
    figures.certificate_kwh,
    figures.import_coverage_ratio as certificate_coverage_ratio,
    figures.agreement_kwh,
    figures.agreement_coverage_ratio,
    figures.own_renewable_kwh,
    figures.own_renewable_coverage_ratio,
    figures.pue_ratio,
    figures.pue_coverage_ratio,
    figures.renewable_kwh / nullif(figures.total_energy_kwh, 0) as ref_ratio,
    least(
        figures.import_coverage_ratio,
        figures.agreement_coverage_ratio,
        figures.own_renewable_coverage_ratio,
        figures.total_energy_coverage_ratio
    ) as ref_coverage_ratio,
    case
        when figures.it_energy_coverage_ratio >= {{ full_year_ratio }}
            then facts.water_input_m3 / nullif({{ kwh_to_mwh("figures.it_energy_kwh") }}, 0)
    end as wue_m3_per_mwh,
    case
        when figures.total_energy_coverage_ratio >= {{ full_year_ratio }}
            then facts.waste_heat_reused_kwh / nullif(figures.total_energy_kwh, 0)
    end as erf_ratio,
    facts.operator,
    facts.lau_code,
    facts.data_centre_type,
    facts.in_operation_since,
    facts.electrical_redundancy,
    facts.cooling_redundancy,
    facts.total_floor_area_m2,
    facts.computer_room_area_m2,
    facts.grid_functions,
    facts.battery_offered_kw,
    facts.water_input_m3,
    facts.potable_water_input_m3,
    facts.waste_heat_reused_kwh,
    facts.waste_heat_celsius,
    facts.intake_setpoint_celsius,
    facts.refrigerants,
    facts.cooling_degree_days,
    facts.server_capacity_sert,
    facts.storage_capacity_pb,
    facts.incoming_bandwidth_gb_per_s,
    facts.outgoing_bandwidth_gb_per_s,
    facts.incoming_traffic_eb,
    facts.outgoing_traffic_eb
from figures
left join capacity
    on
        figures.site_id = capacity.site_id
        and figures.local_year = capacity.local_year
left join facts
    on
        figures.site_id = facts.site_id
        and figures.local_year = facts.local_year
