-- Merchandise sold, by currency, most order lines first. Amounts are in the row's own currency. The shares of the last
-- day decide where charts end: the run's own day, or the latest day of all where everything is later.
-- Bound: 1. source, 2. last day as yyyymmdd, 3. most rows.
with
facts as (
    select
        facts.currency,
        facts.net_amount,
        facts.order_date_key
    from marts.fact_orders as facts
    where
        facts.source_system = ?
        and facts.is_merchandise
        and not coalesce(facts.is_held, false)
),

ends as (
    select
        coalesce(
            max(iff(order_date_key <= cast(? as number(8, 0)), order_date_key, null)), max(order_date_key)
        ) as last_date_key
    from facts
)

select
    facts.currency,
    count(*) as order_lines,
    sum(facts.net_amount) as net_amount,
    count_if(facts.order_date_key > ends.last_date_key) as later_lines,
    max(ends.last_date_key) as last_date_key,
    count(*) over () as all_currencies
from facts
cross join ends
group by facts.currency
order by order_lines desc, facts.currency asc
limit ?
