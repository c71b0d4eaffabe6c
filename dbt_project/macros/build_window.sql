{#
    Which days a run rebuilds.

    var build_dates names the UTC dates that new data touched. Some figures remember: a battery's average cost
    carries over to every later interval, a demand charge knows the month's peak, and an instrument's
    market-based share is that of the whole local month. So a run rebuilds the days from the start of the month of the first touched
    date to the end, in every interval model alike, and the result is the same as a full refresh. Its cost
    does not grow with the history; that of a late correction grows with how late it is.

    The local month may begin up to a day before the UTC month, and the first touched date may still belong to
    the local month before: hence the two days of margin.

    An interval model is declared like this:

        {{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}
        select ... from {{ ref("...") }} where {{ in_build_dates("utc_date") }}
#}

{# First date to rebuild as an SQL literal; none when everything is rebuilt. #}
{% macro build_from() %}
    {% if not var("build_dates") or not is_incremental() %}{{ return(none) }}{% endif %}
    {% set days = modules.datetime.timedelta %}
    {% set touched = modules.datetime.date.fromisoformat(var("build_dates") | map("string") | min) %}
    {% set first = [(touched - days(days=1)).replace(day=1) - days(days=1)] %}
    {# In a unit test `this` is no relation that could be queried while compiling. #}
    {% if execute and this is not string %}
        {# Days between the last one built and the first touched one had no data, and belong to the book too. #}
        {% set last_built = run_query("select max(utc_date) from " ~ this).rows[0][0] %}
        {% if last_built is not none %}
            {% do first.append(last_built + days(days=1)) %}
        {% endif %}
    {% endif %}
    {{ return("date '" ~ first | min ~ "'") }}
{% endmacro %}

{#
    Condition that holds for the days this run rebuilds. `expression` is a date, or an instant in UTC. The first
    days of the window belong to the month before: a model that looks at a whole month reads from `days_before`
    earlier and filters its result without.
#}
{% macro in_build_dates(expression, days_before=0) %}
    {%- set first = build_from() -%}
    {%- if first -%}{{ expression }} >= {{ first }}{{ " - interval " ~ days_before ~ " days" if days_before }}
    {%- else -%}true{%- endif -%}
{% endmacro %}

{# Pre-hook of an incremental model: take out what the run will append again. #}
{% macro delete_build_dates(column="utc_date") %}
    {%- if is_incremental() -%}
        delete from {{ this }} where {{ in_build_dates(column) }}
    {%- endif -%}
{% endmacro %}
