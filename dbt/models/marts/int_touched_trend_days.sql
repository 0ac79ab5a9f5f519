{{ config(schema='INTERMEDIATE', materialized='table') }}

-- A day is in the windows of the 27 days after it, and, for the comparison with the year before, of the days 364 to 391
-- days after it. Only days with rows have to be written anew; those of the touched days themselves may be gone.
with touched as (
    select order_date
    from {{ ref('int_touched_days') }}
),

days as (
    select distinct order_date
    from {{ ref('int_sales_days') }}
)

select order_date
from touched

union

select days.order_date
from days
inner join touched
    on days.order_date between touched.order_date and dateadd('day', 27, touched.order_date)

union

select days.order_date
from days
inner join touched
    on days.order_date between dateadd('day', 364, touched.order_date) and dateadd('day', 391, touched.order_date)
