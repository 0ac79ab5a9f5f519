-- The funnel by channel and device, of sessions of people, largest first; the all_ columns count every channel and
-- device. Bound: 1. source, 2. first and 3. last day as yyyymmdd, 4. most rows.
with
summed as (
    select
        channel,
        device,
        sum(sessions) as sessions,
        sum(sessions_with_product_view) as sessions_with_product_view,
        sum(sessions_with_cart) as sessions_with_cart,
        sum(sessions_with_checkout) as sessions_with_checkout,
        sum(sessions_with_purchase) as sessions_with_purchase,
        sum(bounced_sessions) as bounced_sessions
    from marts.conversion_funnel
    where
        source_system = ?
        and date_key >= ?
        and date_key <= ?
    group by channel, device
    having sum(sessions) > 0
)

select
    *,
    sum(sessions) over () as all_sessions,
    sum(sessions_with_product_view) over () as all_sessions_with_product_view,
    sum(sessions_with_cart) over () as all_sessions_with_cart,
    sum(sessions_with_checkout) over () as all_sessions_with_checkout,
    sum(sessions_with_purchase) over () as all_sessions_with_purchase,
    sum(bounced_sessions) over () as all_bounced_sessions,
    count(*) over () as all_rows
from summed
order by sessions desc, channel asc, device asc
limit ?
