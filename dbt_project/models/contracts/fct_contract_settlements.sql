{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# Every settlement model has these columns; they are named so that their lineage can be read. #}
{% set columns = [
    "contract_id",
    "site_id",
    "contract_kind",
    "line",
    "interval_started_at",
    "interval_ended_at",
    "utc_date",
    "local_date",
    "local_month",
    "terms_valid_from_at",
    "metered_kwh",
    "volume_mwh",
    "quantity",
    "quantity_unit",
    "unit_price",
    "is_floating_price",
    "contract_settlement_price_per_mwh",
    "settlement_price_per_mwh",
    "clause_applied",
    "contract_amount",
    "contract_currency_code",
    "is_shadow",
    "quality",
] %}

with

settled as (

    {% for model in [
        "int_ppa_settlements",
        "int_grid_settlements",
        "int_tolling_settlements",
        "int_commitment_settlements",
    ] %}
    select {{ columns | join(", ") }}
    from {{ ref(model) }}
    where {{ in_build_dates("utc_date") }}
    {{ "union all" if not loop.last }}
    {% endfor %}

),

exchanged as (

    select
        settled.*,
        fx_rates.rate_to_reporting as exchange_rate,
        organization.reporting_currency as currency_code
    from settled
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            settled.contract_currency_code = fx_rates.currency_code
            and settled.utc_date = fx_rates.rate_date
    cross join {{ source("raw", "organization") }} as organization

)

select
    {{ columns | join(", ") }},
    round(contract_amount * exchange_rate, 9) as amount,
    currency_code
from exchanged
