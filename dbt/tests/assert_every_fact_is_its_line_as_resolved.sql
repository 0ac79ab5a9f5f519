-- A fact differs from the working table only while a run is between the two layers; after it they agree.
with lines as (
    select
        order_line_key,
        order_id,
        line_number,
        net_amount
    from {{ ref('int_order_lines') }}
    where reject_reason is null
)

select
    coalesce(facts.order_line_key, lines.order_line_key) as order_line_key,
    facts.net_amount as fact_amount,
    lines.net_amount as line_amount
from {{ ref('fact_orders') }} as facts
full outer join lines on facts.order_line_key = lines.order_line_key
where
    facts.order_line_key is null
    or lines.order_line_key is null
    or facts.net_amount <> lines.net_amount
    or facts.order_id <> lines.order_id
    or facts.line_number <> lines.line_number
