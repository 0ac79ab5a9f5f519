-- What the funnel's purchases came to, by currency; amounts of different currencies are never added.
-- Bound: 1. source, 2. first and 3. last day as yyyymmdd, 4. most rows.
select
    currency,
    sum(purchases) as purchases,
    sum(orders) as orders,
    sum(purchases_without_order) as purchases_without_order,
    sum(net_amount)::number(38, 4) as net_amount,
    sum(orders_without_clicks) as orders_without_clicks,
    sum(net_amount_without_clicks)::number(38, 4) as net_amount_without_clicks,
    count(*) over () as all_currencies
from marts.conversion_funnel
where
    source_system = ?
    and date_key >= ?
    and date_key <= ?
group by currency
having sum(purchases) > 0 or sum(orders_without_clicks) > 0
order by purchases desc, currency asc
limit ?
