-- FACT_ORDERS, without the lines that are held, against the business marts. One row per mart and currency (the reporting
-- currency's is of the converted amounts), as in reconcile_files.sql. Bound: 1. source.
with
chosen as (select cast(? as varchar) as source_system),

facts as (
    select
        fact.source_system,
        fact.customer_key,
        fact.currency,
        fact.net_amount,
        fact.reporting_net_amount,
        fact.exchange_rate is null as has_no_rate,
        chosen.source_system is not null as is_chosen
    from marts.fact_orders as fact
    left join chosen on fact.source_system = chosen.source_system
    where not coalesce(fact.is_held, false)
),

unknown as (
    select customer_key
    from marts.dim_customers
    where customer_id is null
),

fact_totals as (
    select
        facts.currency,
        sum(facts.net_amount) as net_amount,
        sum(facts.reporting_net_amount) as reporting_net_amount,
        count_if(facts.has_no_rate) as lines_without_exchange_rate,
        sum(iff(facts.is_chosen, facts.net_amount, 0)) as net_amount_of_source,
        sum(iff(facts.is_chosen, facts.reporting_net_amount, 0)) as reporting_net_amount_of_source,
        count_if(facts.is_chosen and facts.has_no_rate) as lines_without_exchange_rate_of_source,
        count_if(facts.is_chosen) as lines_of_source,
        sum(iff(facts.is_chosen and unknown.customer_key is null, facts.net_amount, 0)) as known_net_amount,
        sum(iff(facts.is_chosen and unknown.customer_key is null, facts.reporting_net_amount, 0))
            as known_reporting_net_amount,
        count_if(facts.is_chosen and unknown.customer_key is null and facts.has_no_rate)
            as known_lines_without_exchange_rate,
        count_if(facts.is_chosen and unknown.customer_key is null) as known_lines
    from facts
    left join unknown on facts.customer_key = unknown.customer_key
    group by facts.currency
),

upstream as (
    select
        'SALES_TRENDS' as mart,
        'all sources' as scope,
        currency,
        net_amount,
        reporting_net_amount,
        lines_without_exchange_rate
    from fact_totals
    union all
    select
        'PRODUCT_PERFORMANCE',
        'the source',
        currency,
        net_amount_of_source,
        reporting_net_amount_of_source,
        lines_without_exchange_rate_of_source
    from fact_totals
    where lines_of_source > 0
    union all
    select
        'CUSTOMER_SEGMENTS',
        'known customers of the source',
        currency,
        known_net_amount,
        known_reporting_net_amount,
        known_lines_without_exchange_rate
    from fact_totals
    where known_lines > 0
),

downstream as (
    select
        'SALES_TRENDS' as mart,
        currency,
        sum(net_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from marts.sales_trends
    group by currency
    union all
    select
        'PRODUCT_PERFORMANCE',
        products.currency,
        sum(products.net_amount),
        sum(products.reporting_net_amount),
        sum(products.lines_without_exchange_rate)
    from marts.product_performance as products
    inner join chosen on products.source_system = chosen.source_system
    group by products.currency
    union all
    select
        'CUSTOMER_SEGMENTS',
        segments.currency,
        sum(segments.net_amount),
        sum(segments.reporting_net_amount),
        sum(segments.lines_without_exchange_rate)
    from marts.customer_segments as segments
    inner join chosen on segments.source_system = chosen.source_system
    group by segments.currency
),

compared as (
    select
        coalesce(upstream.mart, downstream.mart) as mart,
        coalesce(upstream.currency, downstream.currency) as currency,
        coalesce(upstream.scope, 'the source') as scope,
        coalesce(upstream.net_amount, 0) as expected_net,
        coalesce(downstream.net_amount, 0) as actual_net,
        coalesce(upstream.reporting_net_amount, 0) as expected_reporting,
        coalesce(downstream.reporting_net_amount, 0) as actual_reporting,
        coalesce(upstream.lines_without_exchange_rate, 0) as expected_missing,
        coalesce(downstream.lines_without_exchange_rate, 0) as actual_missing
    from upstream
    full outer join downstream
        on
            upstream.mart = downstream.mart
            and upstream.currency = downstream.currency
    -- Products that were viewed and never ordered have a row without amounts.
    where upstream.mart is not null or downstream.net_amount <> 0
),

lifetimes as (
    select
        coalesce(sum(lifetimes.reporting_net_amount), 0) as reporting_net_amount,
        coalesce(sum(lifetimes.lines_without_exchange_rate), 0) as lines_without_exchange_rate
    from marts.customer_lifetime as lifetimes
    inner join chosen on lifetimes.source_system = chosen.source_system
)

select
    'FACT_ORDERS = ' || mart as check_name,
    'net amount, ' || currency as measure,
    expected_net::number(38, 8) as expected_value,
    actual_net::number(38, 8) as actual_value,
    'net_amount of MARTS.FACT_ORDERS, ' || scope || ', against MARTS.' || mart as detail
from compared
union all
select
    'FACT_ORDERS = ' || mart,
    'net amount, in reporting currency',
    sum(expected_reporting)::number(38, 8),
    sum(actual_reporting)::number(38, 8),
    'reporting_net_amount of MARTS.FACT_ORDERS, ' || min(scope) || ', against MARTS.' || mart
from compared
group by mart
union all
select
    'FACT_ORDERS = ' || mart,
    'lines without an exchange rate',
    sum(expected_missing)::number(38, 8),
    sum(actual_missing)::number(38, 8),
    'lines of MARTS.FACT_ORDERS without exchange_rate, ' || min(scope) || ', against MARTS.' || mart
from compared
group by mart
having sum(expected_missing) + sum(actual_missing) > 0
union all
select
    'FACT_ORDERS = CUSTOMER_LIFETIME',
    'net amount, in reporting currency',
    coalesce(sum(fact_totals.known_reporting_net_amount), 0)::number(38, 8),
    max(lifetimes.reporting_net_amount)::number(38, 8),
    'reporting_net_amount of MARTS.FACT_ORDERS, known customers of the source, against MARTS.CUSTOMER_LIFETIME'
from lifetimes
left join fact_totals on fact_totals.known_lines > 0
