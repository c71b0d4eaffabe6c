with

movements as (

    select
        site_id,
        workload_id,
        moved_at,
        kind,
        gpu_hours,
        saved_cost,
        saved_location_based_kg
    from {{ ref("calc_deferral_movements") }}

    union all

    select
        site_id,
        workload_id,
        due_at as moved_at,
        'lapsed' as kind,
        gpu_count * lost_s / 3600 as gpu_hours,
        cast(null as double) as saved_cost,
        cast(null as double) as saved_location_based_kg
    from {{ ref("calc_deferred_jobs") }}
    where lost_s > 0

),

days as (

    select
        movements.workload_id,
        movements.site_id,
        cast(movements.moved_at at time zone sites.time_zone as date) as local_date,
        {%- for kind in ["deferred", "caught_up", "lapsed"] %}
        coalesce({{ exact_sum("movements.gpu_hours", "movements.kind = '" ~ kind ~ "'") }}, 0) as {{ kind }}_gpu_hours,
        {%- endfor %}
        {%- for saved in ["saved_cost", "saved_location_based_kg"] %}
        {{ sum_if_all_known("movements." ~ saved, condition="movements.kind = 'caught_up'", empty=0) }} as {{ saved }},
        {%- endfor %}
        {{ exact_sum("movements.gpu_hours", "movements.saved_cost is not null") }} as known_gpu_hours
    from movements
    inner join {{ source("raw", "sites") }} as sites
        on
            movements.site_id = sites.site_id
            and {{ is_valid_at("sites", "movements.moved_at") }}
    group by all

)

select
    days.workload_id,
    days.site_id,
    days.local_date,
    days.deferred_gpu_hours,
    days.caught_up_gpu_hours,
    days.lapsed_gpu_hours,
    {{ exact_sum(
        "days.deferred_gpu_hours - days.caught_up_gpu_hours - days.lapsed_gpu_hours",
        over="(partition by days.workload_id, days.site_id order by days.local_date)",
        decimals=6
    ) }} as outstanding_gpu_hours,
    days.saved_cost,
    days.saved_location_based_kg,
    case
        when days.caught_up_gpu_hours > 0 then coalesce(days.known_gpu_hours, 0) / days.caught_up_gpu_hours
    end as coverage_ratio,
    organization.reporting_currency as currency_code
from days
cross join {{ source("raw", "organization") }} as organization
