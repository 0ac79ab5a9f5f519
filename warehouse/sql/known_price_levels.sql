-- Prices that somebody said are right: of the lines whose incident was dismissed. Bound: 1. source.
select distinct
    products.product_id,
    facts.unit_price,
    facts.currency
from quality.incidents as incidents
inner join quality.incident_findings as members on incidents.incident_id = members.incident_id
inner join marts.fact_orders as facts on members.order_line_key = facts.order_line_key
inner join marts.dim_products as products on facts.product_key = products.product_key
where
    incidents.source_system = ?
    and incidents.state = 'dismissed'
    and facts.unit_price > 0
order by products.product_id, facts.unit_price, facts.currency
