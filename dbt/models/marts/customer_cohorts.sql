{{
    config(
        materialized='replace_touched',
        meta={'replaces_all': true},
    )
}}

with orders as (
    select
        *,
        date_trunc('month', order_date)::date as order_month,
        min(iff(is_order_start, order_date, null)) over (partition by source_system, person_id) as first_order_date,
        date_trunc('month', first_order_date)::date as cohort_month
    from {{ ref('int_person_orders') }}
),

months as (
    select distinct month_start_date
    from {{ ref('dim_date') }}
),

cohorts as (
    select
        source_system,
        cohort_month,
        min(as_of_date) as as_of_date,
        min(reporting_currency) as reporting_currency,
        count(distinct person_id) as customer_count
    from orders
    where cohort_month is not null
    group by source_system, cohort_month
),

activity as (
    select
        source_system,
        cohort_month,
        order_month,
        count(distinct iff(is_order_start, person_id, null)) as active_customer_count,
        count_if(is_order_start) as order_count,
        sum(reporting_gross_amount) as reporting_gross_amount,
        sum(reporting_discount_amount) as reporting_discount_amount,
        sum(reporting_returned_amount) as reporting_returned_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from orders
    where order_month >= cohort_month
    group by source_system, cohort_month, order_month
)

-- Every month has a row, also one in which nobody came: amounts are 0 there, and NULL where rates are missing.
select
    cohorts.source_system::varchar as source_system,
    cohorts.cohort_month::date as cohort_month,
    datediff('month', cohorts.cohort_month, months.month_start_date)::number(38, 0) as months_since_first_order,
    months.month_start_date::date as activity_month,
    cohorts.as_of_date < last_day(months.month_start_date) as is_partial_month,
    cohorts.as_of_date::date as as_of_date,
    cohorts.customer_count::number(38, 0) as customer_count,
    coalesce(activity.active_customer_count, 0)::number(38, 0) as active_customer_count,
    round(coalesce(activity.active_customer_count, 0) / cohorts.customer_count, 4)::number(18, 4) as retention_rate,
    coalesce(activity.order_count, 0)::number(38, 0) as order_count,
    cohorts.reporting_currency::varchar(3) as reporting_currency,
    iff(activity.cohort_month is null, 0, activity.reporting_gross_amount)::number(18, 4) as reporting_gross_amount,
    iff(activity.cohort_month is null, 0, activity.reporting_discount_amount)::number(18, 4)
        as reporting_discount_amount,
    iff(activity.cohort_month is null, 0, activity.reporting_returned_amount)::number(18, 4)
        as reporting_returned_amount,
    iff(activity.cohort_month is null, 0, activity.reporting_net_amount)::number(18, 4) as reporting_net_amount,
    coalesce(activity.lines_without_exchange_rate, 0)::number(38, 0) as lines_without_exchange_rate
from cohorts
inner join months
    on
        cohorts.cohort_month <= months.month_start_date
        and cohorts.as_of_date >= months.month_start_date
left join activity
    on
        cohorts.source_system = activity.source_system
        and cohorts.cohort_month = activity.cohort_month
        and months.month_start_date = activity.order_month
