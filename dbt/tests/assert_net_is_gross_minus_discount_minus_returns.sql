-- Per line, and so for every order, day and currency.
select
    order_line_key,
    gross_amount,
    discount_amount,
    returned_amount,
    net_amount
from {{ ref('fact_orders') }}
where
    net_amount <> gross_amount - discount_amount - returned_amount
    or gross_amount <> round(quantity::number(38, 4) * unit_price, 4)
    or reporting_net_amount <> reporting_gross_amount - reporting_discount_amount - reporting_returned_amount
