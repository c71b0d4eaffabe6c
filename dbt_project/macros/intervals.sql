{#
    The book's grain is 15 minutes. These macros bring rows with their own intervals to it.
#}

{% macro interval_start(expression) -%} time_bucket(interval 15 minutes, {{ expression }}) {%- endmacro %}

{# The first border of the grain at or after an instant. #}
{% macro interval_end(expression) -%}
    {{ interval_start(expression ~ " + interval 15 minutes - interval 1 microsecond") }}
{%- endmacro %}

{#
    The rows of `relation` with a `span_number`, the same within a key for all that follow on from one another: a span
    ends where more than `gap` passes after the latest end so far.
#}
{% macro number_spans(
    relation, key, started_at="interval_started_at", ended_at="interval_ended_at", gap="interval 0 minutes"
) %}
    {%- set in_order = "partition by " ~ key | join(", ") ~ " order by " ~ started_at ~ ", " ~ ended_at -%}
    select
        *,
        count(*) filter (where is_first) over ({{ in_order }} rows unbounded preceding) as span_number
    from (
        select
            *,
            coalesce(
                {{ started_at }} > max({{ ended_at }}) over (
                    {{ in_order }} rows between unbounded preceding and 1 preceding
                ) + {{ gap }},
                true
            ) as is_first
        from {{ relation }}
    )
{% endmacro %}

{#
    Cut the rows of `relation` at the borders of the 15-minute grain: one row per source row and 15-minute
    interval it overlaps, with `slice_started_at`, the seconds of overlap `overlap_s` and those of the source row
    `duration_s`. In microseconds since 1970, of which a quarter of an hour has 900 million: there are many slices, and
    arithmetic with time stamps asks the calendar each time.
#}
{% macro cut_to_intervals(relation) %}
    select
        * exclude (started_us, ended_us, slice_us),
        (ended_us - started_us) / 1e6 as duration_s,
        (least(ended_us, slice_us + 900000000) - greatest(started_us, slice_us)) / 1e6 as overlap_s,
        make_timestamptz(slice_us) as slice_started_at
    from (
        select
            *,
            unnest(range(started_us - started_us % 900000000, ended_us, 900000000)) as slice_us
        from (
            select
                *,
                epoch_us(interval_started_at) as started_us,
                epoch_us(interval_ended_at) as ended_us
            from {{ relation }}
        )
    )
{% endmacro %}

{# Whether a version of reference terms holds at an instant; a missing bound is open. #}
{% macro is_valid_at(terms, instant) -%}
    {{ instant }} >= coalesce({{ terms }}.valid_from_at, timestamptz '-infinity')
    and {{ instant }} < coalesce({{ terms }}.valid_to_at, timestamptz 'infinity')
{%- endmacro %}

{# Whether a value lies in a window from a to b, b exclusive, that may run across the end of the day. #}
{% macro is_in_hours(hour, hour_from, hour_to) -%}
    case
        when {{ hour_from }} < {{ hour_to }} then {{ hour }} >= {{ hour_from }} and {{ hour }} < {{ hour_to }}
        else {{ hour }} >= {{ hour_from }} or {{ hour }} < {{ hour_to }}
    end
{%- endmacro %}

{# Whether a month lies in a season from a to b, b inclusive, that may run across the end of the year. #}
{% macro is_in_months(month, month_from, month_to) -%}
    case
        when {{ month_from }} <= {{ month_to }} then {{ month }} between {{ month_from }} and {{ month_to }}
        else {{ month }} >= {{ month_from }} or {{ month }} <= {{ month_to }}
    end
{%- endmacro %}

{#
    Start of the period of so many minutes that an instant lies in, counted from local midnight: the hours of a zone
    that is half an hour off UTC begin at half past.
#}
{% macro period_start(instant, time_zone, minutes) -%}
    {{ instant }} - (
        ({{ instant }} at time zone {{ time_zone }})
        - time_bucket(to_minutes({{ minutes }}), {{ instant }} at time zone {{ time_zone }})
    )
{%- endmacro %}

{# The first and the last date of which a book may have figures. #}
{% macro first_and_last_date() -%} date '2000-01-01', date '2099-12-31' {%- endmacro %}

{#
    Joins what a relation has of the same site and interval, under a name of its own; of one by the day, the days to
    rebuild and so many before.
#}
{% macro left_join_interval(name, to, relation=none, days_before=0) -%}
    left join {{ relation ~ " as " ~ name if relation else name }}
        on
            {{ to }}.site_id = {{ name }}.site_id
            and {{ to }}.interval_started_at = {{ name }}.interval_started_at
            {%- if relation %}
            and {{ in_build_dates(name ~ ".utc_date", days_before) }}
            {%- endif %}
{%- endmacro %}
