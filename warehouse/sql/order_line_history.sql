-- The latest order lines before a moment: what detectors learn from, without those that somebody confirmed are wrong.
-- Bound: 1. source, 2. moment, 3. most rows.
select
    facts.order_id,
    facts.line_number,
    products.product_id,
    customers.customer_id,
    facts.quantity,
    facts.unit_price,
    facts.currency,
    facts.country,
    facts.ordered_at,
    facts.source_file,
    -- By what the source says of the line: a negative quantity of a line that is said to be sold contradicts it. A
    -- sale that was cancelled or returned in place still has the quantity of a sale.
    (
        facts.is_returned
        and facts.returned_amount = 0
        and facts.order_status in ('returned', 'cancelled', 'adjusted')
    ) as is_returned
from marts.fact_orders as facts
inner join marts.dim_products as products on facts.product_key = products.product_key
inner join marts.dim_customers as customers on facts.customer_key = customers.customer_key
where
    facts.source_system = ?
    and facts.ordered_at < cast(? as timestamp_ntz)
    and facts.is_merchandise
    and facts.order_line_key not in (
        select members.order_line_key
        from quality.incident_findings as members
        inner join quality.incidents as incidents on members.incident_id = incidents.incident_id
        where
            incidents.is_confirmed
            and members.order_line_key is not null
    )
order by facts.ordered_at desc, facts.order_line_key asc
limit ?
