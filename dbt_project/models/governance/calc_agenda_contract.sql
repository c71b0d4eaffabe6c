{# A contract that ends within so many weeks has to be renewed or replaced. #}
{% set expiry_weeks = 26 %}
{# A commitment of which less than this share lies idle is well used. #}
{% set unused_ratio = 0.1 %}

with

weeks as (

    select *
    from {{ ref("calc_weeks") }}

),

book as (

    select min(monday_date) as first_date
    from weeks

),

-- ppa_under_delivery: the last whole month, which the book has to know from its first day on.
delivered_months as (

    select
        weeks.week,
        contract_values.contract_id,
        contract_values.site_id,
        contract_values.local_month,
        contract_values.volume_mwh,
        expected.expected_p50_mwh,
        expected.expected_p90_mwh,
        contract_values.contract_saving_value / nullif(contract_values.volume_mwh, 0) as saving_per_mwh,
        contract_values.coverage_ratio,
        weeks.currency_code
    from weeks
    cross join book
    inner join {{ ref("fct_contract_values") }} as contract_values
        on
            book.first_date <= contract_values.local_month
            and contract_values.local_month + interval 1 month <= weeks.monday_date + interval 7 days
    inner join {{ ref("int_expected_contract_volumes") }} as expected
        on
            contract_values.contract_id = expected.contract_id
            and contract_values.local_month = expected.local_month
    qualify
        row_number() over (
            partition by weeks.week, contract_values.contract_id
            order by contract_values.local_month desc
        ) = 1

),

short_months as (

    select
        *,
        expected_p50_mwh - volume_mwh as missing_mwh,
        case
            when saving_per_mwh > 0
                then
                    saving_per_mwh * (expected_p50_mwh - volume_mwh) * 7
                    / date_diff('day', local_month, cast(local_month + interval 1 month as date))
        end as weekly_value
    from delivered_months
    where volume_mwh < expected_p90_mwh

),

ppa_under_delivery as (

    select
        week,
        'ppa_under_delivery' as rule_id,
        contract_id as subject,
        'energy' as owner,
        site_id,
        contract_id,
        contract_id || ' delivered ' || {{ in_percent("volume_mwh / expected_p50_mwh") }} || ' of what was expected in '
        || strftime(local_month, '%B') as title,
        'Ask the counterparty of ' || contract_id || ' why ' || strftime(local_month, '%B') || ' brought '
        || {{ in_words("volume_mwh") }} || ' MWh against ' || {{ in_words("expected_p50_mwh") }}
        || ' MWh expected, less than nine years of ten would (' || {{ in_words("expected_p90_mwh") }}
        || ' MWh), and check the volume clauses.' as proposal,
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
        round(missing_mwh / date_diff('hour', local_month, cast(local_month + interval 1 month as date)), 6)
            as capacity_mw,
        coverage_ratio,
        'select contract_id, local_month, volume_mwh, contract_saving_value, currency_code'
        || ' from marts.fct_contract_values'
        || ' where contract_id = ' || {{ sql_literal("contract_id") }} || ' order by local_month' as evidence_sql,
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

-- cloud_commitment_unused
commitment_weeks as (

    select
        weeks.week,
        settlements.contract_id,
        settlements.site_id,
        any_value(weeks.started_at) as started_at,
        any_value(weeks.ended_at) as ended_at,
        any_value(weeks.currency_code) as currency_code,
        {{ exact_sum("settlements.quantity", "settlements.line = 'commitment_unused'") }} as unused_gpu_hours,
        {{ exact_sum("settlements.quantity") }} as committed_gpu_hours,
        {{ if_all_known(
            "settlements.amount", exact_sum("settlements.amount", "settlements.line = 'commitment_unused'")
        ) }} as unused_cost,
        date_diff('hour', max(weeks.started_at), max(weeks.ended_at)) as week_hours,
        count(distinct time_bucket(interval 1 hour, settlements.interval_started_at)) as settled_hours
    from weeks
    inner join {{ ref("fct_contract_settlements") }} as settlements
        on
            weeks.started_at <= settlements.interval_started_at
            and weeks.ended_at > settlements.interval_started_at
            and settlements.line in ('commitment_used', 'commitment_unused')
    group by weeks.week, settlements.contract_id, settlements.site_id

),

cloud_commitment_unused as (

    select
        week,
        'cloud_commitment_unused' as rule_id,
        contract_id as subject,
        'finance' as owner,
        site_id,
        contract_id,
        {{ in_percent("unused_gpu_hours / committed_gpu_hours") }}
        || ' of '
        || contract_id
        || ' was paid for and not used'
            as title,
        'Move tolerant work of ' || {{ in_words("unused_gpu_hours") }} || ' GPU-hours a week into ' || contract_id
        || ', where it costs nothing more, or commit to less at renewal.' as proposal,
        coalesce(
            {{ in_words("unused_cost") }} || ' ' || currency_code || ' a week go on being paid for idle GPUs.',
            'Idle GPUs go on being paid for; how much is not known.'
        ) as inaction,
        unused_cost as weekly_value,
        cast(null as double) as capacity_mw,
        settled_hours / week_hours as coverage_ratio,
        'select local_date, line, sum(quantity) as gpu_hours, sum(amount) as amount, min(currency_code) as currency'
        || ' from marts.fct_contract_settlements where contract_id = ' || {{ sql_literal("contract_id") }}
        || ' and interval_started_at >= ' || {{ sql_literal("started_at") }}
        || ' and interval_started_at < ' || {{ sql_literal("ended_at") }}
        || ' group by local_date, line order by local_date, line' as evidence_sql,
        true as is_confidential,
        currency_code
    from commitment_weeks
    where unused_gpu_hours > {{ unused_ratio }} * committed_gpu_hours

)

{{ proposals_of(
    ["ppa_under_delivery", "contract_expiry", "cloud_commitment_unused"],
    {
        "kind": "'contract'",
        "workload_id": "cast(null as varchar)",
        "incident_id": "cast(null as varchar)",
        "weekly_inaction_cost": "weekly_value",
        "weekly_saved_location_based_kg": "cast(null as double)",
    },
) }}
