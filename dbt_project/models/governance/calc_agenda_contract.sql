{# A contract that ends within so many weeks has to be renewed or replaced. #}
{% set expiry_weeks = 26 %}

with

weeks as (

    select *
    from {{ ref("calc_weeks") }}

),

book as (

    select min(monday_date) as first_date
    from weeks

),

-- ppa_under_delivery: what the plant made, whatever a clause then takes out, on the days that are known whole.
produced_days as (

    select
        volumes.contract_id,
        volumes.local_month,
        volumes.local_date,
        {{ sum_if_all_known(
            kwh_to_mwh("volumes.metered_kwh * terms.share_of_plant"), known="volumes.metered_kwh"
        ) }} as produced_mwh
    from {{ ref("int_contract_volumes") }} as volumes
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            volumes.contract_kind = kinds.contract_kind
            and kinds.volume_basis = 'plant'
    inner join {{ source("raw", "contracts") }} as terms
        on
            volumes.contract_id = terms.contract_id
            and volumes.terms_valid_from_at is not distinct from terms.valid_from_at
    group by volumes.contract_id, volumes.local_month, volumes.local_date

),

produced_months as (

    select
        contract_id,
        local_month,
        {{ exact_sum("produced_mwh") }} as produced_mwh,
        count(produced_mwh) as known_days
    from produced_days
    group by contract_id, local_month

),

-- The last whole month, which the book has to know from its first day on.
delivered_months as (

    select
        weeks.week,
        expected.contract_id,
        expected.site_id,
        expected.local_month,
        produced.produced_mwh,
        expected.in_force_hours / 24 as in_force_days,
        produced.known_days,
        expected.expected_p50_mwh * produced.known_days / in_force_days as expected_p50_mwh,
        expected.expected_p90_mwh * produced.known_days / in_force_days as expected_p90_mwh,
        contract_values.contract_saving_value / nullif(contract_values.volume_mwh, 0) as saving_per_mwh,
        weeks.currency_code
    from weeks
    cross join book
    inner join {{ ref("int_expected_contract_volumes") }} as expected
        on
            book.first_date <= expected.local_month
            and expected.local_month + interval 1 month <= weeks.monday_date + interval 7 days
    inner join produced_months as produced
        on
            expected.contract_id = produced.contract_id
            and expected.local_month = produced.local_month
    left join {{ ref("fct_contract_values") }} as contract_values
        on
            expected.contract_id = contract_values.contract_id
            and expected.local_month = contract_values.local_month
    qualify
        row_number() over (
            partition by weeks.week, expected.contract_id
            order by expected.local_month desc
        ) = 1

),

short_months as (

    select
        *,
        expected_p50_mwh - produced_mwh as missing_mwh,
        case when saving_per_mwh > 0 then saving_per_mwh * (expected_p50_mwh - produced_mwh) * 7 / known_days end
            as weekly_value
    from delivered_months
    where produced_mwh < expected_p90_mwh

),

ppa_under_delivery as (

    select
        week,
        'ppa_under_delivery' as rule_id,
        contract_id as subject,
        'energy' as owner,
        site_id,
        contract_id,
        'The plant of ' || contract_id || ' made ' || {{ in_percent("produced_mwh / expected_p50_mwh") }}
        || ' of what was expected in ' || strftime(local_month, '%B') as title,
        'Ask the counterparty of ' || contract_id || ' why ' || strftime(local_month, '%B') || ' brought '
        || {{ in_words("produced_mwh") }} || ' MWh on ' || known_days || ' days against '
        || {{ in_words("expected_p50_mwh") }} || ' MWh expected, less than nine years of ten would ('
        || {{ in_words("expected_p90_mwh") }} || ' MWh), and check the volume clauses.' as proposal,
        case
            when weekly_value is not null
                then
                    'The missing ' || {{ in_words("missing_mwh") }} || ' MWh are bought at the market, '
                    || {{ in_words("weekly_value") }} || ' ' || currency_code || ' a week dearer.'
            else
                'The missing ' || {{ in_words("missing_mwh") }}
                || ' MWh bring no certificates; in money nothing was lost, as the market was cheaper.'
        end as inaction,
        weekly_value,
        cast(null as double) as weekly_saved_location_based_kg,
        round(missing_mwh / (known_days * 24), 6) as capacity_mw,
        known_days / in_force_days as coverage_ratio,
        'select contract_id, local_date, sum(metered_kwh) as metered_kwh, sum(volume_mwh) as volume_mwh'
        || ' from marts.fct_contract_settlements where contract_id = ' || {{ sql_literal("contract_id") }}
        || ' and local_month = ' || {{ sql_literal("local_month") }}
        || ' and line in (''energy'', ''difference'') group by contract_id, local_date order by local_date'
            as evidence_sql,
        true as is_confidential,
        currency_code
    from short_months

),

-- contract_expiry
contract_ends as (

    select
        contract_id,
        any_value(contract_kind) as contract_kind,
        any_value(site_id) as site_id,
        {{ if_all_known("valid_to_at", "max(valid_to_at)") }} as ended_at
    from {{ ref("dim_contracts") }}
    group by contract_id

),

contract_expiry as (

    select
        weeks.week,
        'contract_expiry' as rule_id,
        ends.contract_id as subject,
        kinds.owner,
        ends.site_id,
        ends.contract_id,
        ends.contract_id || ' ends in ' || date_diff('week', weeks.ended_at, ends.ended_at) || ' weeks' as title,
        'Decide whether to renew, replace or end ' || ends.contract_id || ' before '
        || strftime(ends.ended_at at time zone 'UTC', '%-d %B %Y') || '.' as proposal,
        replace(kinds.after_end, '{site_id}', ends.site_id) as inaction,
        cast(null as double) as weekly_value,
        cast(null as double) as weekly_saved_location_based_kg,
        cast(null as double) as capacity_mw,
        cast(null as double) as coverage_ratio,
        'select contract_id, name, contract_kind, counterparty, valid_from_at, valid_to_at from marts.dim_contracts'
        || ' where contract_id = '
        || {{ sql_literal("ends.contract_id") }}
        || ' order by valid_from_at' as evidence_sql,
        false as is_confidential,
        weeks.currency_code
    from weeks
    inner join contract_ends as ends
        on
            weeks.ended_at < ends.ended_at
            and ends.ended_at <= weeks.ended_at + to_days({{ 7 * expiry_weeks }})
    inner join {{ source("raw", "contract_kinds") }} as kinds on ends.contract_kind = kinds.contract_kind

),

-- cloud_commitment_unused: what is paid for either way is worth what filling it saves elsewhere.
cloud_commitment_unused as (

    select
        commitments.week,
        'cloud_commitment_unused' as rule_id,
        commitments.contract_id as subject,
        'finance' as owner,
        commitments.site_id,
        commitments.contract_id,
        {{ in_percent("commitments.unused_gpu_hours / commitments.committed_gpu_hours") }}
        || ' of '
        || commitments.contract_id
        || ' was paid for and not used'
            as title,
        'Move up to ' || commitments.moved || ' into ' || commitments.contract_id
        || ', which costs nothing more there and saves ' || {{ in_words("commitments.weekly_value") }} || ' '
        || weeks.currency_code || ' a week where they run, or commit to less at renewal: '
        || {{ in_words("commitments.unused_gpu_hours") }} || ' GPU-hours a week were idle.' as proposal,
        'It goes on costing ' || {{ in_words("commitments.weekly_value") }} || ' ' || weeks.currency_code
        || ' a week elsewhere what is paid for here.' as inaction,
        commitments.weekly_value,
        commitments.weekly_saved_location_based_kg,
        cast(null as double) as capacity_mw,
        commitments.coverage_ratio,
        'select workload_id, from_site_ids, spare_gpu_hours, movable_gpu_hours, move_saving_value, currency_code'
        || ' from marts.fct_placement_options where site_id = ' || {{ sql_literal("commitments.site_id") }}
        || ' and week = ' || {{ sql_literal("commitments.week") }}
        || ' and movable_gpu_hours > 0 order by move_saving_value desc nulls last, workload_id' as evidence_sql,
        false as is_confidential,
        weeks.currency_code
    from {{ ref("calc_agenda_commitments") }} as commitments
    inner join weeks on commitments.week = weeks.week
    where commitments.moved is not null

)

{{ proposals_of(
    ["ppa_under_delivery", "contract_expiry", "cloud_commitment_unused"],
    {
        "kind": "'contract'",
        "workload_id": "cast(null as varchar)",
        "incident_id": "cast(null as varchar)",
    },
) }}
