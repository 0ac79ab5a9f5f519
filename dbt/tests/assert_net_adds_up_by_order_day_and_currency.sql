-- gross - discount - returned = net, by the rule of the business marts: what one line sold and another takes back is all
-- return. In the order's currency and in the reporting currency.
with lines as (
    select
        source_system,
        order_id,
        order_date_key,
        currency,
        iff(is_returned and returned_amount = 0, 0, 1) as is_sale,
        gross_amount,
        discount_amount,
        returned_amount,
        net_amount,
        reporting_gross_amount,
        reporting_discount_amount,
        reporting_returned_amount,
        reporting_net_amount
    from {{ ref('fact_orders') }}
),

sums as (
    select
        source_system,
        order_id,
        order_date_key,
        currency,
        sum(is_sale * gross_amount) as gross_amount,
        sum(is_sale * discount_amount) as discount_amount,
        sum(iff(is_sale = 1, returned_amount, -net_amount)) as returned_amount,
        sum(net_amount) as net_amount,
        sum(is_sale * reporting_gross_amount) as reporting_gross_amount,
        sum(is_sale * reporting_discount_amount) as reporting_discount_amount,
        sum(iff(is_sale = 1, reporting_returned_amount, -reporting_net_amount)) as reporting_returned_amount,
        sum(reporting_net_amount) as reporting_net_amount
    from lines
    group by grouping sets (
        (source_system, order_id, currency),
        (order_date_key, currency),
        (currency)
    )
)

select
    source_system,
    order_id,
    order_date_key,
    currency,
    gross_amount,
    discount_amount,
    returned_amount,
    net_amount
from sums
where
    net_amount <> gross_amount - discount_amount - returned_amount
    or reporting_net_amount <> reporting_gross_amount - reporting_discount_amount - reporting_returned_amount
