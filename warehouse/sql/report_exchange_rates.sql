-- How the orders of a source were converted. Grain: one row per currency that is not the reporting currency, most order
-- lines without a rate first. The latest rate is the one of the latest day that converts an order.
-- Bound: 1. source, 2. most rows.
select
    currency,
    max(reporting_currency) as reporting_currency,
    count(*) as order_lines,
    count_if(exchange_rate is null) as lines_without_exchange_rate,
    sum(iff(exchange_rate is null, net_amount, 0)) as net_amount_without_rate,
    max(exchange_rate_date) as last_rate_date,
    max_by(exchange_rate, exchange_rate_date) as last_rate,
    max(exchange_rate_age_days) as oldest_days,
    count_if(exchange_rate_age_days > 0) as lines_at_an_earlier_rate,
    sum(reporting_net_amount) as reporting_net_amount,
    count(*) over () as all_currencies,
    sum(count_if(exchange_rate is null)) over () as all_lines_without_exchange_rate
from marts.fact_orders
where
    source_system = ?
    and currency <> reporting_currency
group by currency
order by lines_without_exchange_rate desc, order_lines desc, currency asc
limit ?
