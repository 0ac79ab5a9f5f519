-- FACT_ORDERS marks the lines that an incident holds and no others. What was entered since the marts were filled is not
-- looked at.
with gate as (
    select
        order_line_key,
        quantity,
        unit_price,
        currency,
        boolor_agg(released_at is null) as is_held,
        boolor_agg(applied_at is null) as is_changing
    from {{ source('quality', 'held_order_lines') }}
    group by order_line_key, quantity, unit_price, currency
)

select
    facts.order_line_key,
    facts.is_held,
    gate.is_held as is_held_by_the_gate
from {{ ref('fact_orders') }} as facts
left join gate
    on
        facts.order_line_key = gate.order_line_key
        and facts.quantity = gate.quantity
        and facts.unit_price = gate.unit_price
        and facts.currency = gate.currency
where
    coalesce(facts.is_held, false) <> coalesce(gate.is_held, false)
    and not coalesce(gate.is_changing, false)
