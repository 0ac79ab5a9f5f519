-- Customers by what their orders say of them (RFM). Grain: one row per segment, the most valuable first.
-- Bound: 1. source.
select
    segment,
    count_if(is_main_currency) as customers,
    sum(order_count) as orders,
    sum(reporting_net_amount) as net_amount,
    max(reporting_currency) as reporting_currency,
    max(as_of_date) as as_of_date,
    median(iff(is_main_currency, days_since_last_order, null)) as median_days_since_last_order
from marts.customer_segments
where source_system = ?
group by segment
order by net_amount desc nulls last, segment asc
