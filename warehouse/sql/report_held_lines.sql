-- Order lines of a source that are held out of the business marts. Grain: one row per incident and currency.
-- Bound: 1. source.
select
    held.incident_id,
    facts.currency,
    count(*) as order_lines,
    sum(facts.net_amount) as net_amount
from quality.held_order_lines as held
inner join marts.fact_orders as facts
    on
        held.order_line_key = facts.order_line_key
        and held.quantity = facts.quantity
        and held.unit_price = facts.unit_price
        and held.currency = facts.currency
where
    held.source_system = ?
    and held.released_at is null
group by held.incident_id, facts.currency
order by held.incident_id, facts.currency
