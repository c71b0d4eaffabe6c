-- Returns rows (test failure) for contract months whose rows do not add up to volume times price, worked out from sums.
-- Half a cent: what a statement shows.
with

months as (

    select
        contract_id,
        local_month,
        contract_kind,
        sum(contract_amount) as contract_amount,
        sum(volume_mwh * contract_price_per_mwh) as owed_amount,
        sum(
            volume_mwh * case
                when clause_applied = 'zero_floor' and contract_settlement_price_per_mwh < 0 then 0
                else contract_settlement_price_per_mwh
            end
        ) as market_amount
    from {{ ref("fct_contract_settlements") }}
    where contract_amount is not null
    group by contract_id, local_month, contract_kind

)

select *
from months
where
    abs(
        contract_amount - owed_amount + case when contract_kind = 'vppa_cfd' then market_amount else 0 end
    ) > 0.005
