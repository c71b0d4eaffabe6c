with

signalled as (

    select distinct
        site_id,
        interval_started_at,
        interval_ended_at
    from {{ ref("calc_energy_constraint_signals") }}

),

-- An incident begins where more than a quarter of an hour passed since the last signal.
numbered as ({{ number_spans("signalled", ["site_id"], gap="interval 15 minutes") }}),

spans as (

    select
        site_id,
        min(interval_started_at) as started_at,
        max(interval_ended_at) as ended_at
    from numbered
    group by site_id, span_number

),

book_ends as (

    select
        site_id,
        max(interval_ended_at) as ended_at
    from {{ ref("int_site_intervals") }}
    group by site_id

)

select
    md5(spans.site_id || '|' || strftime(spans.started_at at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ')) as incident_id,
    spans.site_id,
    spans.started_at,
    spans.ended_at,
    spans.ended_at >= book_ends.ended_at as is_ongoing
from spans
inner join book_ends on spans.site_id = book_ends.site_id
