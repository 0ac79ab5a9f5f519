-- Amounts of the marts on customers are those of FACT_ORDERS to the last digit: by source, currency and day where orders
-- are kept, by source and currency in CUSTOMER_SEGMENTS, by source in CUSTOMER_LIFETIME, and in CUSTOMER_COHORTS those of
-- persons with an order, from its month on.
with facts as (
    select
        facts.source_system,
        facts.currency,
        facts.order_date_key,
        facts.customer_key = {{ unknown_key() }} as is_guest,
        sum(facts.net_amount) as net_amount,
        sum(facts.reporting_net_amount) as reporting_net_amount,
        count(*) as line_count,
        count_if(facts.reporting_net_amount is null) as lines_without_exchange_rate
    from {{ ref('fact_orders') }} as facts
    where {{ is_let_in('facts') }}
    group by facts.source_system, facts.currency, facts.order_date_key, is_guest
),

orders as (
    select
        source_system,
        currency,
        {{ date_key('order_date') }} as order_date_key,
        customer_id is null as is_guest,
        sum(gross_amount - discount_amount - returned_amount) as net_amount,
        sum(reporting_gross_amount - reporting_discount_amount - reporting_returned_amount) as reporting_net_amount,
        sum(line_count) as line_count,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from {{ ref('int_customer_orders') }}
    group by source_system, currency, order_date_key, is_guest
),

known_facts as (
    select
        source_system,
        currency,
        sum(net_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount
    from facts
    where not is_guest
    group by source_system, currency
),

segments as (
    select
        source_system,
        currency,
        sum(gross_amount - discount_amount - returned_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount
    from {{ ref('customer_segments') }}
    group by source_system, currency
),

sources as (
    select
        source_system,
        sum(reporting_net_amount) as reporting_net_amount
    from known_facts
    group by source_system
),

lifetimes as (
    select
        source_system,
        sum(reporting_gross_amount - reporting_discount_amount - reporting_returned_amount) as reporting_net_amount
    from {{ ref('customer_lifetime') }}
    group by source_system
),

cohorts as (
    select
        source_system,
        cohort_month,
        sum(reporting_gross_amount - reporting_discount_amount - reporting_returned_amount) as reporting_net_amount
    from {{ ref('customer_cohorts') }}
    group by source_system, cohort_month
),

cohort_orders as (
    select
        lifetimes.source_system,
        lifetimes.cohort_month,
        sum(orders.reporting_net_amount) as reporting_net_amount
    from {{ ref('customer_lifetime') }} as lifetimes
    inner join {{ ref('int_person_orders') }} as orders
        on
            lifetimes.source_system = orders.source_system
            and lifetimes.customer_id = orders.person_id
            and lifetimes.cohort_month <= orders.order_date
    group by lifetimes.source_system, lifetimes.cohort_month
)

select
    'orders' as mart,
    coalesce(facts.source_system, orders.source_system) as source_system,
    facts.net_amount as expected,
    orders.net_amount as found
from facts
full outer join orders
    on
        facts.source_system = orders.source_system
        and facts.currency = orders.currency
        and facts.order_date_key = orders.order_date_key
        and facts.is_guest = orders.is_guest
where
    not equal_null(facts.net_amount, orders.net_amount)
    or not equal_null(facts.reporting_net_amount, orders.reporting_net_amount)
    or not equal_null(facts.line_count, orders.line_count)
    or not equal_null(facts.lines_without_exchange_rate, orders.lines_without_exchange_rate)

union all

select
    'customer_segments' as mart,
    coalesce(known_facts.source_system, segments.source_system) as source_system,
    known_facts.net_amount as expected,
    segments.net_amount as found
from known_facts
full outer join segments
    on
        known_facts.source_system = segments.source_system
        and known_facts.currency = segments.currency
where
    not equal_null(known_facts.net_amount, segments.net_amount)
    or not equal_null(known_facts.reporting_net_amount, segments.reporting_net_amount)

union all

select
    'customer_lifetime' as mart,
    coalesce(sources.source_system, lifetimes.source_system) as source_system,
    sources.reporting_net_amount as expected,
    lifetimes.reporting_net_amount as found
from sources
full outer join lifetimes on sources.source_system = lifetimes.source_system
where not equal_null(sources.reporting_net_amount, lifetimes.reporting_net_amount)

union all

select
    'customer_cohorts' as mart,
    coalesce(cohort_orders.source_system, cohorts.source_system) as source_system,
    cohort_orders.reporting_net_amount as expected,
    cohorts.reporting_net_amount as found
from cohort_orders
full outer join cohorts
    on
        cohort_orders.source_system = cohorts.source_system
        and cohort_orders.cohort_month = cohorts.cohort_month
where coalesce(cohort_orders.reporting_net_amount, 0) <> coalesce(cohorts.reporting_net_amount, 0)
