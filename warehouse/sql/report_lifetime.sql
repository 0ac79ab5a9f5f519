-- What the known customers came to, and are estimated to come to. One row; as_of_date is NULL without customers.
-- Bound: 1. source.
select
    max(as_of_date) as as_of_date,
    max(reporting_currency) as reporting_currency,
    max(horizon_days) as horizon_days,
    count(*) as customers,
    count_if(order_count > 1) as returning_customers,
    round(sum(probability_alive), 0) as active_customers,
    sum(reporting_net_amount) as net_amount,
    sum(expected_net_amount) as expected_net_amount
from marts.customer_lifetime
where
    source_system = ?
    and order_count > 0
