-- Per line, and therefore per order, day and currency; gross being quantity times price, to four places.
select
    order_line_key,
    quantity,
    unit_price,
    gross_amount,
    discount_amount,
    net_amount
from {{ ref('fact_orders') }}
where
    net_amount <> gross_amount - discount_amount
    or gross_amount <> round(quantity::number(38, 4) * unit_price, 4)
