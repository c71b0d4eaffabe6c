with

book as (

    -- Plants may be read before their site is in the book.
    select greatest(
        (select max(interval_ended_at) from {{ ref("int_site_intervals") }}),
        (select max(interval_ended_at) from {{ ref("stg_meter_readings") }})
    ) as ended_at

),

-- Contract years begin on the anniversaries of the base date; a price that does not change has one without an end.
years as (

    select
        contracts.*,
        book.ended_at as book_ended_at,
        unnest(
            generate_series(
                0,
                case
                    when contracts.escalation_kind is null then 0
                    else greatest(0, date_diff('year', contracts.escalation_base_date, cast(book.ended_at as date)))
                end
            )
        ) as year_count
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.is_ppa
    cross join book

),

anniversaries as (

    select
        *,
        cast(escalation_base_date + to_years(year_count) as date) as anniversary_date,
        cast(escalation_base_date + to_years(year_count + 1) as date) as next_anniversary_date
    from years

),

spans as (

    select
        *,
        case
            when year_count = 0 then valid_from_at
            else greatest(valid_from_at, cast(anniversary_date as timestamp) at time zone time_zone)
        end as started_at,
        -- least() and greatest() pass over what is null: terms without an end, prices without an anniversary.
        least(valid_to_at, cast(next_anniversary_date as timestamp) at time zone time_zone) as ended_at,
        cast(date_trunc('month', anniversary_date) - to_months(escalation_lag_months) as date) as index_month
    from anniversaries

),

indexed as (

    select
        spans.*,
        indices.value / base_indices.value as index_ratio
    from spans
    left join {{ source("raw", "price_indices") }} as indices
        on
            spans.escalation_index = indices.index
            and spans.index_month = indices.month
    left join {{ source("raw", "price_indices") }} as base_indices
        on
            spans.escalation_index = base_indices.index
            and spans.escalation_base_month = base_indices.month
    where
        spans.started_at < coalesce(spans.ended_at, timestamptz 'infinity')
        and spans.started_at < spans.book_ended_at

),

escalated as (

    select
        *,
        case
            when escalation_kind is null or year_count = 0 then 1
            when escalation_kind = 'fixed' then power(1 + escalation_ratio_per_year, year_count)
            -- least() and greatest() pass over nulls: a price whose index is not known is not known.
            when index_ratio is not null
                then least(
                    greatest(index_ratio, power(1 + escalation_floor_ratio_per_year, year_count)),
                    power(1 + escalation_cap_ratio_per_year, year_count)
                )
        end as escalation_ratio
    from indexed

)

select
    contract_id,
    valid_from_at as terms_valid_from_at,
    started_at,
    ended_at,
    escalation_index,
    index_month,
    round(escalation_ratio, 12) as escalation_ratio,
    round(price_per_mwh * escalation_ratio, 9) as contract_price_per_mwh,
    round(floor_price_per_mwh * escalation_ratio, 9) as floor_price_per_mwh,
    round(cap_price_per_mwh * escalation_ratio, 9) as cap_price_per_mwh,
    currency_code as contract_currency_code
from escalated
