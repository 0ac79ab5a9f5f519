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
    where (touched.order_id is not null or {{ not has_rows_to_keep() }}) and {{ is_let_in('facts') }}
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

lines as (
    select
        facts.*,
        customers.customer_id,
        calendar.date_day as order_date,
        {{ is_reversal('facts') }} as is_reversal
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
    min(reporting_currency) as reporting_currency,
    {{ money_sums() }}
from lines
group by source_system, order_id, customer_id, currency, order_date
