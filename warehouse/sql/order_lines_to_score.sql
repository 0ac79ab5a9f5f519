-- Order lines of a span of time that no detector has seen. Bound: 1. source, 2. from (inclusive), 3. to (exclusive).
select
    facts.order_line_key,
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
    facts.exchange_rate,
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
inner join ops.files as files
    on
        facts.source_system = files.source_system
        and facts.source_file = files.file_key
        and files.entity = 'order_lines'
        and files.state = 'loaded'
left join quality.scored_files as scored
    on
        files.source_system = scored.source_system
        and files.content_hash = scored.content_hash
where
    facts.source_system = ?
    and facts.ordered_at >= cast(? as timestamp_ntz)
    and facts.ordered_at < cast(? as timestamp_ntz)
    and facts.is_merchandise
    and scored.content_hash is null
order by facts.ordered_at, facts.order_line_key
