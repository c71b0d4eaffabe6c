-- Returns a line that a contract settles and its kind does not declare: it would have no place on the statement and
-- no component in the all-in cost.
select distinct
    settlements.contract_kind,
    settlements.line
from {{ ref("fct_contract_settlements") }} as settlements
anti join {{ source("raw", "contract_lines") }} as kind_lines
    on
        settlements.contract_kind = kind_lines.contract_kind
        and settlements.line = kind_lines.line
where {{ in_build_dates("settlements.utc_date") }}
