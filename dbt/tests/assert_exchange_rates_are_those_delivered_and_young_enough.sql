-- An amount is converted by the last rate known on its day, or not at all; only the reporting currency itself is worth 1.
with facts as (
    select
        facts.order_line_key,
        facts.currency,
        facts.reporting_currency,
        dates.date_day as order_date,
        coalesce(conventions.exchange_rates_from, facts.source_system) as rate_source,
        facts.exchange_rate,
        facts.exchange_rate_date,
        facts.exchange_rate_age_days,
        facts.reporting_net_amount
    from {{ ref('fact_orders') }} as facts
    inner join {{ ref('dim_date') }} as dates on facts.order_date_key = dates.date_key
    left join {{ source('ops', 'source_conventions') }} as conventions
        on facts.source_system = conventions.source_system
),

expected as (
    select
        facts.*,
        iff(facts.currency = facts.reporting_currency, 1, rates.rate) as expected_rate,
        iff(facts.currency = facts.reporting_currency, facts.order_date, rates.rate_date) as expected_date
    from facts
    left join {{ ref('int_fx_rates') }} as rates
        on
            facts.rate_source = rates.rate_source
            and facts.currency = rates.currency
            and facts.order_date >= rates.valid_from
            and (rates.valid_to is null or facts.order_date < rates.valid_to)
            and datediff('day', rates.rate_date, facts.order_date) <= {{ var('exchange_rate_max_age_days') | int }}
)

select
    order_line_key,
    currency,
    order_date,
    exchange_rate,
    exchange_rate_date,
    expected_rate,
    expected_date
from expected
where
    not equal_null(exchange_rate, expected_rate)
    or not equal_null(exchange_rate_date, expected_date)
    or not equal_null(exchange_rate_age_days, datediff('day', expected_date, order_date))
    or exchange_rate_age_days > {{ var('exchange_rate_max_age_days') | int }}
    or (exchange_rate is null) <> (reporting_net_amount is null)
