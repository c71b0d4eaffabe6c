{#
    What a bill in FOCUS leaves to be told: which of its files are parts of one delivery, and how long a unit lasts.
#}

{# Path of a file in landing, of a file in an archive that of the archive. #}
{% macro landed_path(source_file) -%} split_part({{ source_file }}, '!', 1) {%- endmacro %}

{#
    Path of a file with its part number taken out: the same for all parts of one delivery, which lie in one folder and
    are named alike but for the number. Part numbers are written as the exports of the large clouds and of Spark and
    BigQuery write them: `part_0_0001`, `part-00003-<uuid>`, `part 2`, `2of5`, or a counter of 5 or 12 digits at the end
    of the name that begins with 0, `-00002`. A date is none of these.
#}
{% macro delivery_path(source_file) -%}
    regexp_replace(
        regexp_replace(
            {{ landed_path(source_file) }},
            '(^|[^a-z])(part[-_ ]?\d+([-_ ]\d{1,4}\b)?|\d+[-_ ]?of[-_ ]?\d+)([^/]*)$', '\1#\4', 'i'
        ),
        '(^|\D)0(\d{4}|\d{11})(\.[^/]*)?$', '\1#\3'
    )
{%- endmacro %}

{#
    Hours in one unit of time of whole machines, of a GPU or of nothing said: Hours, Hrs, Instance-Hours, Units/Hour,
    GPU Per Hour, 100 Hours, Minutes, Seconds. Null for what is no such time: GB, vCPU-Hours, and months, which are of
    no one length.
#}
{% macro hours_per_unit(unit) -%}
    {%- set whole = "count|compute|each|gpu|host|instance|machine|node|server|unit|usage|virtual machine|vm" -%}
    case
        regexp_extract(
            lower({{ unit }}),
            '^\s*(?:\d+\s+)?(?:(?:1|(?:{{ whole }})(?:s|\(s\))?)[-_/\s]+)*(?:/\s*|per[-_\s]+)?'
            || '(h|hr|hour|min|minute|s|sec|second|ms|millisecond|microsecond|day)(?:s|\(s\))?\s*$',
            1
        )
        when 'h' then 1
        when 'hr' then 1
        when 'hour' then 1
        when 'min' then 1 / 60
        when 'minute' then 1 / 60
        when 's' then 1 / 3600
        when 'sec' then 1 / 3600
        when 'second' then 1 / 3600
        when 'ms' then 1 / 3600e3
        when 'millisecond' then 1 / 3600e3
        when 'microsecond' then 1 / 3600e6
        when 'day' then 24
    end
    * coalesce(try_cast(nullif(regexp_extract({{ unit }}, '^\s*(\d+)\s', 1), '') as double), 1)
{%- endmacro %}

{# Whether a unit of time is that of one GPU, not of a machine with its GPUs. #}
{% macro is_gpu_unit(unit) -%} regexp_matches(lower({{ unit }}), '^\s*(\d+\s+)?gpu') {%- endmacro %}
