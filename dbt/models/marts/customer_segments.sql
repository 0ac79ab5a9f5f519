{{
    config(
        materialized='replace_touched',
        meta={'replaces_all': true},
    )
}}

with orders as (
    select * from {{ ref('int_person_orders') }}
),

-- A source with one currency needs no exchange rates to compare its customers.
sources as (
    select
        source_system,
        count(distinct currency) as currency_count
    from orders
    group by source_system
),

persons as (
    select
        orders.source_system,
        orders.person_id,
        max(iff(orders.is_order_start, orders.order_date, null)) as last_order_date,
        count_if(orders.is_order_start) as order_count,
        coalesce(
            sum(iff(sources.currency_count = 1, orders.net_amount, orders.reporting_net_amount)), 0
        ) as value_amount
    from orders
    inner join sources on orders.source_system = sources.source_system
    group by orders.source_system, orders.person_id
),

-- Fifths by rank, in whole numbers so that every engine cuts at the same place. Equal values share a score: the better
-- one of recency, so that who ordered last is recent however many did, the lower one of the others.
ranked as (
    select
        source_system,
        person_id,
        order_count,
        5 * (rank() over (partition by source_system order by last_order_date desc) - 1) as recency_rank,
        5 * (rank() over (partition by source_system order by order_count) - 1) as frequency_rank,
        5 * (rank() over (partition by source_system order by value_amount) - 1) as monetary_rank,
        count(*) over (partition by source_system) as person_count
    from persons
    where order_count > 0
),

scored as (
    select
        source_system,
        person_id,
        order_count,
        5 - (recency_rank - mod(recency_rank, person_count)) / person_count as recency_score,
        (frequency_rank - mod(frequency_rank, person_count)) / person_count + 1 as frequency_score,
        (monetary_rank - mod(monetary_rank, person_count)) / person_count + 1 as monetary_score,
        ceil((frequency_score + monetary_score) / 2) as value_score
    from ranked
),

segments as (
    select
        source_system,
        person_id,
        recency_score,
        frequency_score,
        monetary_score,
        case
            when recency_score >= 4 and value_score >= 4 then 'champion'
            when recency_score >= 3 and value_score >= 4 then 'loyal'
            when recency_score >= 4 and order_count = 1 then 'new'
            when recency_score >= 4 then 'promising'
            when recency_score = 3 then 'needs attention'
            when value_score >= 5 then 'must not be lost'
            when value_score >= 4 then 'at risk'
            when recency_score = 2 then 'hibernating'
            else 'lost'
        end as segment
    from scored
),

measured as (
    select
        source_system,
        person_id,
        currency,
        min(as_of_date) as as_of_date,
        min(iff(is_order_start, order_date, null)) as first_order_date,
        max(iff(is_order_start, order_date, null)) as last_order_date,
        count_if(is_order_start) as order_count,
        sum(gross_amount) as gross_amount,
        sum(discount_amount) as discount_amount,
        sum(returned_amount) as returned_amount,
        sum(net_amount) as net_amount,
        min(reporting_currency) as reporting_currency,
        sum(reporting_gross_amount) as reporting_gross_amount,
        sum(reporting_discount_amount) as reporting_discount_amount,
        sum(reporting_returned_amount) as reporting_returned_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from orders
    group by source_system, person_id, currency
)

select
    measured.source_system::varchar as source_system,
    measured.person_id::varchar as customer_id,
    measured.currency::varchar(3) as currency,
    row_number() over (
        partition by measured.source_system, measured.person_id
        order by measured.order_count desc, measured.last_order_date desc nulls last, measured.currency asc
    ) = 1 as is_main_currency,
    measured.as_of_date::date as as_of_date,
    measured.first_order_date::date as first_order_date,
    measured.last_order_date::date as last_order_date,
    datediff('day', measured.last_order_date, measured.as_of_date)::number(38, 0) as days_since_last_order,
    measured.order_count::number(38, 0) as order_count,
    measured.gross_amount::number(18, 4) as gross_amount,
    measured.discount_amount::number(18, 4) as discount_amount,
    measured.returned_amount::number(18, 4) as returned_amount,
    measured.net_amount::number(18, 4) as net_amount,
    measured.reporting_currency::varchar(3) as reporting_currency,
    measured.reporting_gross_amount::number(18, 4) as reporting_gross_amount,
    measured.reporting_discount_amount::number(18, 4) as reporting_discount_amount,
    measured.reporting_returned_amount::number(18, 4) as reporting_returned_amount,
    measured.reporting_net_amount::number(18, 4) as reporting_net_amount,
    measured.lines_without_exchange_rate::number(38, 0) as lines_without_exchange_rate,
    coalesce(segments.recency_score, 1)::number(1, 0) as recency_score,
    coalesce(segments.frequency_score, 1)::number(1, 0) as frequency_score,
    coalesce(segments.monetary_score, 1)::number(1, 0) as monetary_score,
    coalesce(segments.segment, 'returns only')::varchar as segment
from measured
left join segments
    on
        measured.source_system = segments.source_system
        and measured.person_id = segments.person_id
