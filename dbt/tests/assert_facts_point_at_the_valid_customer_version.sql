select
    facts.order_line_key,
    facts.ordered_at,
    versions.valid_from,
    versions.valid_to
from {{ ref('fact_orders') }} as facts
inner join {{ ref('dim_customers') }} as versions on facts.customer_key = versions.customer_key
where
    facts.ordered_at < versions.valid_from
    or facts.ordered_at >= versions.valid_to
    or facts.source_system <> versions.source_system
