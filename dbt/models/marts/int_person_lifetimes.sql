{{ config(materialized='table', schema='INTERMEDIATE') }}

with orders as (
    select * from {{ ref('int_person_orders') }}
),

starts as (
    select
        source_system,
        person_id,
        order_id,
        sold_at
    from orders
    where is_order_start
),

ends as (
    select
        source_system,
        person_id,
        count(*) as order_count,
        min(sold_at) as first_ordered_at,
        max(sold_at) as last_ordered_at
    from starts
    group by source_system, person_id
),

-- Of orders in one instant the first by number is the first, the last by number the last.
named_ends as (
    select
        ends.source_system,
        ends.person_id,
        ends.order_count,
        ends.first_ordered_at,
        ends.last_ordered_at,
        min(iff(starts.sold_at = ends.first_ordered_at, starts.order_id, null)) as first_order_id,
        max(iff(starts.sold_at = ends.last_ordered_at, starts.order_id, null)) as last_order_id
    from ends
    inner join starts
        on
            ends.source_system = starts.source_system
            and ends.person_id = starts.person_id
    group by ends.source_system, ends.person_id, ends.order_count, ends.first_ordered_at, ends.last_ordered_at
),

days as (
    select
        source_system,
        person_id,
        order_date,
        min(as_of_date) as as_of_date,
        min(reporting_currency) as reporting_currency,
        count_if(is_order_start) > 0 as is_order_day,
        sum(reporting_gross_amount) as reporting_gross_amount,
        sum(reporting_discount_amount) as reporting_discount_amount,
        sum(reporting_returned_amount) as reporting_returned_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from orders
    group by source_system, person_id, order_date
),

persons as (
    select
        source_system,
        person_id,
        min(as_of_date) as as_of_date,
        min(iff(is_order_day, order_date, null)) as first_order_date,
        max(iff(is_order_day, order_date, null)) as last_order_date,
        count_if(is_order_day) as order_day_count,
        min(reporting_currency) as reporting_currency,
        sum(reporting_gross_amount) as reporting_gross_amount,
        sum(reporting_discount_amount) as reporting_discount_amount,
        sum(reporting_returned_amount) as reporting_returned_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate,
        count_if(is_order_day and reporting_net_amount > 0) as valued_day_count,
        sum(iff(is_order_day and reporting_net_amount > 0, reporting_net_amount, null)) as valued_day_amount,
        sum(
            iff(is_order_day and reporting_net_amount > 0, sqrt(reporting_net_amount::float), null)::number(18, 4)
        ) as valued_day_roots
    from days
    group by source_system, person_id
)

select
    persons.source_system,
    persons.person_id,
    persons.as_of_date,
    persons.first_order_date,
    named_ends.first_ordered_at,
    named_ends.first_order_id,
    persons.last_order_date,
    named_ends.last_ordered_at,
    named_ends.last_order_id,
    coalesce(named_ends.order_count, 0)::number(38, 0) as order_count,
    persons.order_day_count::number(38, 0) as order_day_count,
    greatest(persons.order_day_count - 1, 0)::number(38, 0) as repeat_day_count,
    datediff('day', persons.first_order_date, persons.last_order_date)::number(38, 0) as active_days,
    datediff('day', persons.first_order_date, persons.as_of_date)::number(38, 0) as age_days,
    persons.reporting_currency,
    persons.reporting_gross_amount::number(18, 4) as reporting_gross_amount,
    persons.reporting_discount_amount::number(18, 4) as reporting_discount_amount,
    persons.reporting_returned_amount::number(18, 4) as reporting_returned_amount,
    persons.reporting_net_amount::number(18, 4) as reporting_net_amount,
    persons.lines_without_exchange_rate::number(38, 0) as lines_without_exchange_rate,
    persons.valued_day_count::number(38, 0) as valued_day_count,
    persons.valued_day_amount::number(38, 4) as valued_day_amount,
    persons.valued_day_roots::number(38, 4) as valued_day_roots
from persons
left join named_ends
    on
        persons.source_system = named_ends.source_system
        and persons.person_id = named_ends.person_id
