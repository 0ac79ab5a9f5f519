-- In each row gross - discount - returned = net, in the orders' currency and in the shop's.
select
    'sales_trends' as mart,
    order_date::varchar as place,
    currency
from {{ ref('sales_trends') }}
where
    gross_amount - discount_amount - returned_amount <> net_amount
    or reporting_gross_amount - reporting_discount_amount - reporting_returned_amount <> reporting_net_amount

union all

select
    'product_performance' as mart,
    product_id as place,
    currency
from {{ ref('product_performance') }}
where
    gross_amount - discount_amount - returned_amount <> net_amount
    or reporting_gross_amount - reporting_discount_amount - reporting_returned_amount <> reporting_net_amount
