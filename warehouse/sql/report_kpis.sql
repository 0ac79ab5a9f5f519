-- What a shop's owner asks first, in the reporting currency: merchandise of a stretch of whole days, of the stretch
-- before it, and of the same weekdays a year before. Grain: one row per stretch (0, 1, 2). Amounts follow the rule of the
-- business marts: a line that takes back what another one sold is all return.
-- is_covered: the source had orders by its first day, so that nothing is compared with days before the shop.
-- Bound: 1. last day as yyyymmdd, 2. days, 3. source, 4. source.
with
bounds as (
    select
        to_date(cast(? as varchar), 'YYYYMMDD') as last_day,
        cast(? as integer) as days
),

stretches as (
    select
        0 as stretch,
        dateadd('day', 1 - days, last_day)::date as first_day,
        last_day
    from bounds
    union all
    select
        1,
        dateadd('day', 1 - 2 * days, last_day)::date,
        dateadd('day', -days, last_day)::date
    from bounds
    union all
    select
        2,
        dateadd('day', -363 - days, last_day)::date,
        dateadd('day', -364, last_day)::date
    from bounds
),

lines as (
    select
        stretches.stretch,
        facts.order_id,
        facts.exchange_rate is null as has_no_rate,
        facts.is_returned and facts.returned_amount = 0 as is_reversal,
        facts.reporting_currency,
        facts.reporting_gross_amount,
        facts.reporting_discount_amount,
        facts.reporting_returned_amount,
        facts.reporting_net_amount
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    inner join stretches on dates.date_day between stretches.first_day and stretches.last_day
    where
        facts.source_system = ?
        and facts.is_merchandise
        and not coalesce(facts.is_held, false)
),

beginning as (
    select min(dates.date_day) as first_day
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    where facts.source_system = ?
)

select
    stretches.stretch,
    stretches.first_day,
    stretches.last_day,
    coalesce(beginning.first_day <= stretches.first_day, false) as is_covered,
    max(lines.reporting_currency) as reporting_currency,
    sum(iff(lines.is_reversal, 0, lines.reporting_gross_amount)) as gross_amount,
    sum(iff(lines.is_reversal, 0, lines.reporting_discount_amount)) as discount_amount,
    sum(iff(lines.is_reversal, -lines.reporting_net_amount, lines.reporting_returned_amount)) as returned_amount,
    sum(lines.reporting_net_amount) as net_amount,
    count(distinct iff(lines.is_reversal, null, lines.order_id)) as orders,
    round(
        sum(iff(lines.is_reversal, 0, lines.reporting_net_amount))::float
        / nullif(count(distinct iff(lines.is_reversal or lines.has_no_rate, null, lines.order_id)), 0),
        4
    )::number(18, 4) as average_basket,
    count_if(lines.has_no_rate) as lines_without_exchange_rate,
    count(lines.order_id) as order_lines
from stretches
cross join beginning
left join lines on stretches.stretch = lines.stretch
group by stretches.stretch, stretches.first_day, stretches.last_day, beginning.first_day
order by stretches.stretch
