{# A view: the expanded host lists are already as they are needed, and many. #}
{{ config(materialized = "view") }}

select
    load_id,
    source_row,
    cluster,
    job_id,
    submitted_at,
    hostname,
    known_at
from {{ source("raw", "job_nodes") }}
