-- Returns rows (test failure) for whole local months whose billed demand is not the greater of the month's peak and
-- the ratchet's floor. A millionth of a kW: the part beyond the peak is spread over the month's intervals.
with

months as (

    select
        peaks.contract_id,
        peaks.local_month,
        sum(peaks.billed_kw) as billed_kw,
        count(peaks.billed_kw) as billed_interval_count,
        max(peaks.demand_kw) as peak_kw,
        max(peaks.ratchet_floor_kw) filter (where peaks.is_month_peak) as floor_kw,
        any_value(contracts.time_zone) as time_zone
    from {{ ref("int_demand_peaks") }} as peaks
    inner join {{ source("raw", "contracts") }} as contracts
        on
            peaks.contract_id = contracts.contract_id
            and peaks.billed_terms_valid_from_at = contracts.valid_from_at
    where {{ in_build_months("peaks.local_month") }}
    group by peaks.contract_id, peaks.local_month

)

select *
from months
where
    billed_interval_count = {{ month_intervals("local_month", "time_zone") }}
    and abs(billed_kw - greatest(peak_kw, floor_kw)) > 0.000001
