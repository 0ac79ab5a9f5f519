{{
    config(
        materialized='replace_touched',
        meta={'replaces_all': true},
    )
}}

{%- set start_month = var('fiscal_year_start_month') | int %}

-- A hundred years of days, cut to the calendar: a generator's size must be a constant.
with numbers as (
    select row_number() over (order by seq4()) - 1 as day_number
    from table(generator(rowcount => 36600))
),

days as (
    select dateadd('day', day_number, '{{ var("calendar_start") }}'::date)::date as date_day
    from numbers
    where dateadd('day', day_number, '{{ var("calendar_start") }}'::date)::date <= '{{ var("calendar_end") }}'::date
),

holidays as (
    select
        holiday_date,
        holiday_name
    from {{ source('ops', 'holidays') }}
    where country = '{{ var("shop_country") }}'
),

described as (
    select
        days.date_day,
        dayofweekiso(days.date_day) as day_of_week_iso,
        -- months since the fiscal year began: 0 in its first month
        mod(month(days.date_day) + 12 - {{ start_month }}, 12) as fiscal_months_before,
        holidays.holiday_name
    from days
    left join holidays on days.date_day = holidays.holiday_date
)

select
    {{ date_key('date_day') }} as date_key,
    date_day,
    year(date_day)::number(4, 0) as year_number,
    quarter(date_day)::number(1, 0) as quarter_number,
    month(date_day)::number(2, 0) as month_number,
    decode(
        month(date_day),
        1, 'January', 2, 'February', 3, 'March', 4, 'April', 5, 'May', 6, 'June',
        7, 'July', 8, 'August', 9, 'September', 10, 'October', 11, 'November', 12, 'December'
    )::varchar as month_name,
    date_trunc('month', date_day)::date as month_start_date,
    day(date_day)::number(2, 0) as day_of_month,
    dayofyear(date_day)::number(3, 0) as day_of_year,
    day_of_week_iso::number(1, 0) as day_of_week_iso,
    decode(
        day_of_week_iso,
        1, 'Monday', 2, 'Tuesday', 3, 'Wednesday', 4, 'Thursday', 5, 'Friday', 6, 'Saturday', 7, 'Sunday'
    )::varchar as day_name,
    weekiso(date_day)::number(2, 0) as iso_week_number,
    yearofweekiso(date_day)::number(4, 0) as iso_year_number,
    dateadd('day', 1 - day_of_week_iso, date_day)::date as week_start_date,
    year(dateadd('month', 11 - fiscal_months_before, date_trunc('month', date_day)))::number(4, 0)
        as fiscal_year_number,
    (floor(fiscal_months_before / 3) + 1)::number(1, 0) as fiscal_quarter_number,
    (fiscal_months_before + 1)::number(2, 0) as fiscal_month_number,
    day_of_week_iso >= 6 as is_weekend,
    date_day = last_day(date_day) as is_month_end,
    holiday_name is not null as is_holiday,
    holiday_name::varchar as holiday_name,
    day_of_week_iso < 6 and holiday_name is null as is_business_day
from described
