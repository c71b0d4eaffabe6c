with

revisions as (

    {{ latest_revision(source("raw", "register_reads"), ["meter_id", "flow", "meter_serial", "read_at"]) }}

)

select
    meter_id,
    flow,
    read_at,
    meter_serial,
    {{ to_kwh("index_read", "unit") }} as index_kwh,
    {{ to_kwh("1", "unit") }} as resolution_kwh,
    known_at,
    source_file
from revisions
