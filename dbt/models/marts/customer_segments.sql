{{ config(materialized='table') }}

with facts as (
    select * from {{ ref('fact_orders') }}
),

customers as (
    select
        customer_key,
        customer_id
    from {{ ref('dim_customers') }}
    where customer_id is not null
),

calendar as (
    select
        date_key,
        date_day
    from {{ ref('dim_date') }}
),

lines as (
    select
        facts.source_system,
        customers.customer_id,
        facts.currency,
        facts.order_id,
        facts.is_returned,
        facts.net_amount,
        calendar.date_day as order_date
    from facts
    inner join customers on facts.customer_key = customers.customer_key
    inner join calendar on facts.order_date_key = calendar.date_key
),

-- "Today" is the last day the source has orders of: the same on every engine, whenever it runs.
last_days as (
    select
        source_system,
        max(order_date) as as_of_date
    from lines
    group by source_system
),

measured as (
    select
        lines.source_system,
        lines.customer_id,
        lines.currency,
        last_days.as_of_date,
        min(iff(lines.is_returned, null, lines.order_date)) as first_order_date,
        max(iff(lines.is_returned, null, lines.order_date)) as last_order_date,
        count(distinct iff(lines.is_returned, null, lines.order_id)) as order_count,
        sum(lines.net_amount) as net_amount
    from lines
    inner join last_days on lines.source_system = last_days.source_system
    group by lines.source_system, lines.customer_id, lines.currency, last_days.as_of_date
),

-- Fifths by rank, in whole numbers so that every engine cuts at the same place; equal values share a score.
ranked as (
    select
        *,
        5 * (rank() over (partition by source_system, currency order by last_order_date asc nulls first) - 1)
            as recency_rank,
        5 * (rank() over (partition by source_system, currency order by order_count) - 1) as frequency_rank,
        5 * (rank() over (partition by source_system, currency order by net_amount) - 1) as monetary_rank,
        count(*) over (partition by source_system, currency) as customer_count
    from measured
),

scored as (
    select
        *,
        (recency_rank - mod(recency_rank, customer_count)) / customer_count + 1 as recency_score,
        (frequency_rank - mod(frequency_rank, customer_count)) / customer_count + 1 as frequency_score,
        (monetary_rank - mod(monetary_rank, customer_count)) / customer_count + 1 as monetary_score
    from ranked
),

valued as (
    select
        *,
        ceil((frequency_score + monetary_score) / 2) as value_score
    from scored
)

select
    source_system::varchar as source_system,
    customer_id::varchar as customer_id,
    currency::varchar(3) as currency,
    as_of_date,
    first_order_date,
    last_order_date,
    datediff('day', last_order_date, as_of_date)::number(38, 0) as days_since_last_order,
    order_count::number(38, 0) as order_count,
    net_amount::number(18, 4) as net_amount,
    recency_score::number(1, 0) as recency_score,
    frequency_score::number(1, 0) as frequency_score,
    monetary_score::number(1, 0) as monetary_score,
    case
        when order_count = 0 then 'returns only'
        when recency_score >= 4 and value_score >= 4 then 'champion'
        when recency_score >= 3 and value_score >= 4 then 'loyal'
        when recency_score >= 4 and order_count = 1 then 'new'
        when recency_score >= 4 then 'promising'
        when recency_score = 3 then 'needs attention'
        when value_score >= 5 then 'must not be lost'
        when value_score >= 4 then 'at risk'
        when recency_score = 2 then 'hibernating'
        else 'lost'
    end::varchar as segment
from valued
