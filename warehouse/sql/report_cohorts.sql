-- Of those who first ordered in a month, the share who ordered in each month after. Grain: one row per month of first
-- order and months since, the latest months. Bound: 1. source, 2. months of first orders, 3. months since.
with
cohorts as (
    select
        cohort_month,
        months_since_first_order,
        is_partial_month,
        customer_count,
        active_customer_count,
        retention_rate,
        dense_rank() over (order by cohort_month desc) as place
    from marts.customer_cohorts
    where source_system = ?
)

select
    cohort_month,
    months_since_first_order,
    is_partial_month,
    customer_count,
    active_customer_count,
    retention_rate
from cohorts
where
    place <= ?
    and months_since_first_order <= ?
order by cohort_month, months_since_first_order
