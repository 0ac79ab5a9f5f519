-- Order lines that no exchange rate converts, of all sources. Grain: one row per source and currency. last_rate_date is
-- the day of the latest rate known up to the last of these lines, too old for it; NULL where there is none.
with
missing as (
    select
        facts.source_system,
        facts.currency,
        max(facts.reporting_currency) as reporting_currency,
        count(*) as order_lines,
        count(distinct facts.order_date_key) as days,
        min(dates.date_day) as first_day,
        max(dates.date_day) as last_day,
        sum(facts.net_amount) as net_amount
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    where facts.exchange_rate is null
    group by facts.source_system, facts.currency
),

sourced as (
    select
        missing.*,
        coalesce(conventions.exchange_rates_from, missing.source_system) as rate_source
    from missing
    left join ops.source_conventions as conventions on missing.source_system = conventions.source_system
),

known as (
    select
        sourced.source_system,
        sourced.currency,
        max(rates.rate_date) as last_rate_date
    from sourced
    inner join intermediate.int_fx_rates as rates
        on
            sourced.rate_source = rates.rate_source
            and sourced.currency = rates.currency
            and sourced.last_day >= rates.valid_from
    group by sourced.source_system, sourced.currency
)

select
    sourced.source_system,
    sourced.currency,
    sourced.reporting_currency,
    sourced.rate_source,
    sourced.order_lines,
    sourced.days,
    sourced.first_day,
    sourced.last_day,
    sourced.net_amount,
    known.last_rate_date
from sourced
left join known
    on
        sourced.source_system = known.source_system
        and sourced.currency = known.currency
order by sourced.source_system, sourced.currency
