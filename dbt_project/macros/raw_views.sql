{#
    Show the lake as schema raw: one view per table of sources.yml. `meta.lake_path` is the glob below lake_dir,
    `meta.roll_up_path` that below roll_up_dir, where a book as of an instant has its own. A table of which the lake
    holds no file yet is shown with its declared columns and no rows, so that a book without, say, telemetry builds.
    Rows of files that are out of the book are left out, unless it is built as it was known before.
#}
{% macro create_raw_views() %}
    {% if execute and flags.WHICH in ("run", "build", "test", "run-operation") %}
        {% do run_query("create schema if not exists raw") %}
        {% do run_query(
            "create table if not exists raw.built_loads (load_id varchar primary key, built_at timestamptz)"
        ) %}
        {% if flags.WHICH in ("run", "build") %}
            {% do run_query(
                "create table if not exists raw.builds"
                " (build_id varchar primary key, started_at timestamptz, is_finished boolean)"
            ) %}
            {% do run_query("alter table raw.builds add column if not exists build_from date") %}
            {% set is_whole = flags.FULL_REFRESH or not var("build_from") %}
            {% set first = "null" if is_whole else "date '" ~ var("build_from") ~ "'" %}
            {% do run_query(
                "insert into raw.builds by name select '" ~ invocation_id ~ "' as build_id,"
                " current_timestamp as started_at, false as is_finished, " ~ first ~ " as build_from"
            ) %}
        {% endif %}
        {# In a bucket, what is listed here is not looked up again, file by file, by every model that reads it. #}
        {% set reference = (var("lake_dir") ~ "/reference/*") | replace("'", "''") %}
        {% do run_query("select count(*) from glob('" ~ reference ~ "')") %}
        {% set withdrawn = withdrawn_loads() %}
        {% for source_table in graph.sources.values() if source_table.source_name == "raw" %}
            {% set meta = source_table.config.meta or source_table.meta %}
            {% if "lake_path" in meta %}
                {% do run_query(raw_view_sql(source_table, var("lake_dir") ~ "/" ~ meta.lake_path, withdrawn)) %}
            {% elif "roll_up_path" in meta %}
                {% set folder = var("roll_up_dir", var("lake_dir")) %}
                {% do run_query(raw_view_sql(source_table, folder ~ "/" ~ meta.roll_up_path, withdrawn)) %}
            {% endif %}
        {% endfor %}
    {% endif %}
{% endmacro %}

{# Loads that are out of the book: withdrawn an odd number of times, by now or by `as_of`. #}
{% macro withdrawn_loads() %}
    {% set path = (var("lake_dir") ~ "/loads/*.parquet") | replace("'", "''") %}
    {% if run_query("select count(*) from glob('" ~ path ~ "')").rows[0][0] == 0 %}{{ return([]) }}{% endif %}
    {% set by_then %}
        {%- if var("as_of") -%}list_filter(withdrawn_at, lambda change: change <= timestamptz '{{ var("as_of") }}')
        {%- else -%}withdrawn_at
        {%- endif -%}
    {% endset %}
    {% set loads = run_query(
        "select load_id from read_parquet('" ~ path ~ "', union_by_name = true) where len(" ~ by_then ~ ") % 2 = 1"
    ) %}
    {{ return(loads.columns[0].values() | list) }}
{% endmacro %}

{#
    A roll-up has a file per UTC day, named by it, and all in the same columns: of the days that nobody asks
    for not even the files are opened.
#}
{% macro raw_view_sql(source_table, path, withdrawn) %}
    {%- set meta = source_table.config.meta or source_table.meta -%}
    {%- set file_count = run_query("select count(*) from glob('" ~ path | replace("'", "''") ~ "')").rows[0][0] -%}
    create or replace view raw.{{ source_table.identifier }} as
    {% if file_count > 0 and "roll_up_path" in meta -%}
        select * exclude (filename), try_cast(parse_filename(filename, true) as date) as utc_date
        from read_parquet('{{ path | replace("'", "''") }}', filename = true)
    {%- elif file_count > 0 -%}
        select *
        from read_parquet('{{ path | replace("'", "''") }}', union_by_name = {{ not meta.has_one_schema }})
        {%- if withdrawn and "load_id" in source_table.columns and source_table.identifier != "raw_loads" %}
        where load_id not in ('{{ withdrawn | join("', '") }}')
        {%- endif %}
    {%- else -%}
        select
            {%- for column in source_table.columns.values() %}
            cast(null as {{ column.data_type }}) as {{ column.name }}{{ "," if not loop.last }}
            {%- endfor %}
        where false
    {%- endif %}
{% endmacro %}

{#
    After a run without any error or failed test: the build is one that may be published. Remember which loads the
    book now holds; the days of all other loads still have to be built.
#}
{% macro record_build(results) %}
    {% if execute and flags.WHICH in ("run", "build") %}
        {% set failed = results | selectattr("status", "in", ["error", "fail", "runtime error"]) | list %}
        {% if not failed %}
            {% if var("load_ids") %}
                insert or ignore into raw.built_loads
                select
                    load_id,
                    current_timestamp as built_at
                from unnest(['{{ var("load_ids") | join("', '") }}']) as loads (load_id);
            {% endif %}
            update raw.builds set is_finished = true where build_id = '{{ invocation_id }}'
        {% endif %}
    {% endif %}
{% endmacro %}
