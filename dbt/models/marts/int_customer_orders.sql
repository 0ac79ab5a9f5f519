{{
    config(
        materialized='replace_touched',
        schema='INTERMEDIATE',
        meta={
            'keys': ['source_system', 'order_id'],
            'touched': 'int_touched_orders',
            'is_working': true,
        },
    )
}}

with touched as (
    select
        source_system,
        order_id
    from {{ ref('int_touched_orders') }}
),

facts as (
    select facts.*
    from {{ ref('fact_orders') }} as facts
    left join touched
        on
            facts.source_system = touched.source_system
            and facts.order_id = touched.order_id
    where touched.order_id is not null or {{ not has_rows_to_keep() }}
),

customers as (
    select
        customer_key,
        customer_id
    from {{ ref('dim_customers') }}
),

calendar as (
    select
        date_key,
        date_day
    from {{ ref('dim_date') }}
),

-- A line that takes back what another sold is negative itself; one returned in place says what it takes back.
lines as (
    select
        facts.*,
        customers.customer_id,
        calendar.date_day as order_date,
        facts.is_returned and facts.returned_amount = 0 as is_reversal
    from facts
    inner join customers on facts.customer_key = customers.customer_key
    inner join calendar on facts.order_date_key = calendar.date_key
)

select
    source_system,
    order_id,
    customer_id,
    currency,
    order_date,
    min(iff(is_returned, null, ordered_at)) as sold_at,
    count(*) as line_count,
    sum(iff(is_reversal, 0, gross_amount))::number(18, 4) as gross_amount,
    sum(iff(is_reversal, 0, discount_amount))::number(18, 4) as discount_amount,
    sum(iff(is_reversal, -net_amount, returned_amount))::number(18, 4) as returned_amount,
    sum(net_amount)::number(18, 4) as net_amount,
    min(reporting_currency) as reporting_currency,
    sum(iff(is_reversal, 0 * reporting_gross_amount, reporting_gross_amount))::number(18, 4)
        as reporting_gross_amount,
    sum(iff(is_reversal, 0 * reporting_discount_amount, reporting_discount_amount))::number(18, 4)
        as reporting_discount_amount,
    sum(iff(is_reversal, -reporting_net_amount, reporting_returned_amount))::number(18, 4)
        as reporting_returned_amount,
    sum(reporting_net_amount)::number(18, 4) as reporting_net_amount,
    count_if(reporting_net_amount is null) as lines_without_exchange_rate
from lines
group by source_system, order_id, customer_id, currency, order_date
