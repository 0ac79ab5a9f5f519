-- Net amount of merchandise by business day and currency, days without sales included. trailing_amount is the sum of
-- the seven days that end with the day; trailing_days how many of them the chart's window holds.
-- Bound: 1. last day as yyyymmdd, 2. days, 3. source, 4. JSON array of currencies.
with
bounds as (
    select
        to_date(cast(? as varchar), 'YYYYMMDD') as last_day,
        cast(? as integer) as days
),

calendar as (
    select
        dates.date_key,
        dates.date_day,
        dates.is_holiday,
        dates.holiday_name
    from marts.dim_date as dates
    inner join bounds
        on
            dates.date_day <= bounds.last_day
            and dates.date_day > dateadd('day', -bounds.days, bounds.last_day)
),

sales as (
    select
        facts.currency,
        facts.order_date_key,
        sum(facts.net_amount) as net_amount,
        count(*) as order_lines
    from marts.fact_orders as facts
    where
        facts.source_system = ?
        and facts.is_merchandise
        and not coalesce(facts.is_held, false)
        and facts.currency in (
            select currency.value::varchar
            from table(flatten(input => parse_json(?))) as currency
        )
    group by facts.currency, facts.order_date_key
),

spans as (
    select
        sales.currency,
        min(calendar.date_day) as first_day
    from sales
    inner join calendar on sales.order_date_key = calendar.date_key
    group by sales.currency
)

select
    spans.currency,
    calendar.date_day,
    coalesce(calendar.is_holiday, false) as is_holiday,
    coalesce(sales.net_amount, 0)::number(38, 4) as net_amount,
    coalesce(sales.order_lines, 0) as order_lines,
    sum(coalesce(sales.net_amount, 0)) over (
        partition by spans.currency
        order by calendar.date_day
        rows between 6 preceding and current row
    )::number(38, 4) as trailing_amount,
    count(*) over (
        partition by spans.currency
        order by calendar.date_day
        rows between 6 preceding and current row
    ) as trailing_days
from spans
inner join calendar on spans.first_day <= calendar.date_day
left join sales
    on
        calendar.date_key = sales.order_date_key
        and spans.currency = sales.currency
order by spans.currency, calendar.date_day
