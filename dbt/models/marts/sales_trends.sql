{{
    config(
        materialized='replace_touched',
        meta={'keys': ['order_date'], 'touched': 'int_touched_trend_days'},
    )
}}

-- depends_on: {{ ref('int_files_to_transform') }}
with touched as (
    select order_date
    from {{ ref('int_touched_trend_days') }}
),

all_days as (
    select distinct order_date
    from {{ ref('int_sales_days') }}
),

-- The touched days and all that they look back on.
needed_days as (
    select all_days.order_date
    from all_days
    inner join touched
        on all_days.order_date between dateadd('day', -27, touched.order_date) and touched.order_date
    union
    select all_days.order_date
    from all_days
    inner join touched
        on
            all_days.order_date between dateadd('day', -391, touched.order_date)
            and dateadd('day', -364, touched.order_date)
),

days as (
    select days.*
    from {{ ref('int_sales_days') }} as days
    inner join needed_days on days.order_date = needed_days.order_date
),

windowed as (
    select
        *,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '6 days' preceding and current row
        ) as net_amount_7_days,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '27 days' preceding and current row
        ) as net_amount_28_days,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '364 days' preceding and interval '364 days' preceding
        ) as net_amount_year_before,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '391 days' preceding and interval '364 days' preceding
        ) as net_amount_28_days_year_before
    from days
)

select
    windowed.order_date::date as order_date,
    windowed.country::varchar as country,
    windowed.category::varchar as category,
    windowed.currency::varchar(3) as currency,
    windowed.gross_amount::number(18, 4) as gross_amount,
    windowed.discount_amount::number(18, 4) as discount_amount,
    windowed.returned_amount::number(18, 4) as returned_amount,
    windowed.net_amount::number(18, 4) as net_amount,
    windowed.reporting_currency::varchar(3) as reporting_currency,
    windowed.reporting_gross_amount::number(18, 4) as reporting_gross_amount,
    windowed.reporting_discount_amount::number(18, 4) as reporting_discount_amount,
    windowed.reporting_returned_amount::number(18, 4) as reporting_returned_amount,
    windowed.reporting_net_amount::number(18, 4) as reporting_net_amount,
    windowed.lines_without_exchange_rate::number(38, 0) as lines_without_exchange_rate,
    windowed.order_count::number(38, 0) as order_count,
    windowed.units_sold::number(18, 4) as units_sold,
    windowed.units_returned::number(18, 4) as units_returned,
    round(windowed.kept_amount / nullif(windowed.order_count, 0), 4)::number(18, 4) as average_basket,
    round(windowed.net_amount_7_days / 7, 4)::number(18, 4) as net_amount_average_7_days,
    round(windowed.net_amount_28_days / 28, 4)::number(18, 4) as net_amount_average_28_days,
    windowed.net_amount_year_before::number(18, 4) as net_amount_year_before,
    round(windowed.net_amount_28_days_year_before / 28, 4)::number(18, 4) as net_amount_average_28_days_year_before,
    iff(
        windowed.net_amount_28_days_year_before > 0,
        round(
            (windowed.net_amount_28_days - windowed.net_amount_28_days_year_before)
            / nullif(windowed.net_amount_28_days_year_before, 0),
            4
        ),
        null
    )::number(18, 4) as net_amount_average_28_days_change
from windowed
inner join touched on windowed.order_date = touched.order_date
