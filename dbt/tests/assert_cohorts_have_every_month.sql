-- A cohort has a row for each month from its own to that of the last day of the data, and everybody is there in the first.
select
    source_system,
    cohort_month,
    count(*) as months,
    max(months_since_first_order) as last_month,
    max(iff(months_since_first_order = 0, retention_rate, null)) as first_retention_rate
from {{ ref('customer_cohorts') }}
group by source_system, cohort_month
having
    months <> datediff('month', cohort_month, max(as_of_date)) + 1
    or last_month <> months - 1
    or not equal_null(first_retention_rate, 1)
    or max(active_customer_count) > max(customer_count)
    or count(distinct customer_count) > 1
