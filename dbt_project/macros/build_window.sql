{#
    Which days a run rebuilds: those from var build_from on, which `pipelines/warehouse/planning.py` works out of the
    UTC dates that new data touched. Some figures remember: a battery's average cost carries over to every later
    interval, a demand charge knows the month's peak, and an instrument's market-based share is that of the whole local
    month. So a run rebuilds the days from the start of the month of the first touched date to the end, in every
    interval model alike, and the result is the same as a full refresh. Its cost does not grow with the history; that of
    a late correction grows with how late it is.

    An interval model is declared like this:

        {{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}
        select ... from {{ ref("...") }} where {{ in_build_dates("utc_date") }}

    `meta.day` is the expression, and `meta.days_before` how many days earlier than other models it is rebuilt from, 0
    where it does not say; a model with rows by the week or local month says `meta.week` or `meta.month`. The run takes
    out what it gives anew (`materializations.sql`) and tests that alone, and the days before are published as they
    were (`pipelines/published/publishing.py`).

    A model that says `meta.is_rewritten` sums up the days to rebuild, takes the sums of earlier ones from its own rows
    of before, and joins to both what may change later, such as what an incident came to. All its rows are written.
#}

{# First date to rebuild as an SQL literal, for models and tests; none when everything is rebuilt. #}
{% macro build_from() %}
    {%- if var("build_from") and (is_incremental() or (model.resource_type == "test" and not flags.FULL_REFRESH)) -%}
        {{ return("date '" ~ var("build_from") ~ "'") }}
    {%- endif -%}
    {{ return(none) }}
{% endmacro %}

{#
    Condition that holds for the days this run rebuilds. `expression` is a date, or an instant in UTC. The first
    days of the window belong to the month before: a model that looks at a whole month reads from `days_before`
    earlier and filters its result without. A model of local dates is rebuilt from a day before, one that looks ahead
    from as many days before.
#}
{% macro in_build_dates(expression, days_before=0) %}
    {%- set first = build_from() -%}
    {%- if first -%}{{ expression }} >= {{ first }}{{ " - interval " ~ days_before ~ " days" if days_before }}
    {%- else -%}true{%- endif -%}
{% endmacro %}

{#
    The same for an ISO week, as `week` is written, and a local month, as its first day: those in which an instant of
    the days to rebuild may lie, by any clock.
#}
{% macro in_build_weeks(week="week") %}
    {%- set first = build_from() -%}
    {%- if first -%}{{ week }} >= {{ iso_week(first ~ " - interval 1 day") }}{%- else -%}true{%- endif -%}
{% endmacro %}

{% macro in_build_months(month="local_month") %}
    {%- set first = build_from() -%}
    {%- if first -%}{{ month }} >= date_trunc('month', {{ first }} - interval 1 day){%- else -%}true{%- endif -%}
{% endmacro %}

{# Whether a run gives a row of a model anew, by what the model's meta says. #}
{% macro in_build_window(meta) %}
    {%- if meta.day -%}{{ in_build_dates(meta.day, meta.get("days_before", 0)) }}
    {%- elif meta.week -%}{{ in_build_weeks(meta.week) }}
    {%- elif meta.month -%}{{ in_build_months(meta.month) }}
    {%- else -%}true
    {%- endif -%}
{% endmacro %}

{#
    Adds to the sums of a model that is rewritten its rows of before that this run does not rebuild, without the columns
    that are joined to them. `rebuilt` says which rows it does, `where` which of the others are such sums.
#}
{% macro union_kept(rebuilt, joined, where="true") %}
    {%- if build_from() %}
    union all by name
    select * exclude ({{ joined }})
    from {{ this }}
    where
        not {{ rebuilt }}
        and {{ where }}
    {%- endif -%}
{% endmacro %}

{#
    Instant at which the first week begins in which a figure of a delay can be another than before, for models with one
    row per week; before all time when everything is rebuilt. A job's figures rest on what its hours cost and on the
    GPUs that are free, up to two longest delays past its end, and on where the jobs before it went, which needs GPUs
    up to one longest delay past theirs: three weeks. What a job came to counts in the week that it started in.
#}
{% macro first_delayed_week() %}
    {%- set first = build_from() -%}
    {%- if first -%}
        (
            select
                date_trunc('week', min(moments.moment) at time zone any_value(organization.time_zone))
                at time zone any_value(organization.time_zone)
            from (
                select cast({{ first }} - interval 1 day as timestamptz) as moment
                union all
                select started_at as moment
                from {{ ref("stg_jobs") }}
                where
                    criticality = 'tolerant'
                    and held_until_at >= {{ first }} - interval 21 days
            ) as moments
            cross join {{ source("raw", "organization") }} as organization
        )
    {%- else -%}
        timestamptz '-infinity'
    {%- endif -%}
{% endmacro %}

{# Pre-hook of a model with one row per week: take out what the run will append again. #}
{% macro delete_delayed_weeks() %}
    {%- if is_incremental() -%}
        delete from {{ this }} where {{ monday() }} + interval 1 day >= {{ first_delayed_week() }}
    {%- endif -%}
{% endmacro %}
