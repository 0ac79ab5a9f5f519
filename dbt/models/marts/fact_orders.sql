{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system', 'order_id'], 'touched': 'int_touched_orders'},
    )
}}

-- depends_on: {{ ref('int_files_to_transform') }}
-- depends_on: {{ ref('dim_date') }}
with touched as (
    select
        source_system,
        order_id
    from {{ ref('int_touched_orders') }}
),

lines as (
    select lines.*
    from {{ ref('int_order_lines') }} as lines
    inner join touched
        on
            lines.source_system = touched.source_system
            and lines.order_id = touched.order_id
    where lines.reject_reason is null
),

-- The last known rate, unless it is too old.
rates as (
    select
        rate_source,
        currency,
        valid_from,
        least(
            coalesce(valid_to, '9999-12-31'::date),
            dateadd('day', {{ var('exchange_rate_max_age_days') | int }} + 1, rate_date)::date
        ) as ends_before,
        rate,
        rate_date
    from {{ ref('int_fx_rates') }}
    where rate is not null
),

return_links as (
    select
        return_line_key,
        sale_line_key,
        return_match,
        returned_quantity
    from {{ ref('int_return_links') }}
),

held as (
    select
        order_line_key,
        quantity,
        unit_price,
        currency
    from {{ ref('int_held_order_lines') }}
),

returned as (
    select
        sale_line_key,
        sum(returned_quantity) as returned_quantity
    from return_links
    where sale_line_key is not null
    group by sale_line_key
),

customers as (
    select
        customer_key,
        source_system,
        customer_id,
        valid_from,
        valid_to
    from {{ ref('dim_customers') }}
),

products as (
    select
        product_key,
        source_system,
        product_id,
        valid_from,
        valid_to
    from {{ ref('dim_products') }}
)

-- A line whose customer or product has no member violates NOT NULL and fails the run: it is never pointed elsewhere.
select
    lines.order_line_key::varchar(32) as order_line_key,
    lines.order_id::varchar as order_id,
    lines.line_number::number(38, 0) as line_number,
    iff(lines.customer_id is null, {{ unknown_key() }}, customers.customer_key)::varchar(32) as customer_key,
    products.product_key::varchar(32) as product_key,
    lines.order_date_key::number(8, 0) as order_date_key,
    lines.ordered_at::timestamp_ntz as ordered_at,
    lines.quantity::number(18, 4) as quantity,
    lines.unit_price::number(18, 4) as unit_price,
    lines.gross_amount::number(18, 4) as gross_amount,
    lines.discount_amount::number(18, 4) as discount_amount,
    lines.order_discount_amount::number(18, 4) as order_discount_amount,
    lines.returned_amount::number(18, 4) as returned_amount,
    lines.net_amount::number(18, 4) as net_amount,
    lines.currency::varchar(3) as currency,
    '{{ var("reporting_currency") }}'::varchar(3) as reporting_currency,
    iff(lines.currency = '{{ var("reporting_currency") }}', 1, rates.rate)::number(20, 12) as exchange_rate,
    iff(lines.currency = '{{ var("reporting_currency") }}', lines.order_date, rates.rate_date)::date
        as exchange_rate_date,
    datediff('day', exchange_rate_date, lines.order_date)::number(38, 0) as exchange_rate_age_days,
    round(lines.gross_amount::number(18, 4) * exchange_rate, 4)::number(18, 4) as reporting_gross_amount,
    round(lines.discount_amount::number(18, 4) * exchange_rate, 4)::number(18, 4) as reporting_discount_amount,
    round(lines.returned_amount::number(18, 4) * exchange_rate, 4)::number(18, 4) as reporting_returned_amount,
    (reporting_gross_amount - reporting_discount_amount - reporting_returned_amount)::number(18, 4)
        as reporting_net_amount,
    lines.order_status::varchar as order_status,
    lines.is_returned::boolean as is_returned,
    lines.is_merchandise::boolean as is_merchandise,
    lines.country::varchar as country,
    lines.sales_channel::varchar as sales_channel,
    lines.payment_method::varchar as payment_method,
    lines.promotion_code::varchar as promotion_code,
    lines.returned_order_id::varchar as returned_order_id,
    lines.returned_line_number::number(38, 0) as returned_line_number,
    return_links.sale_line_key::varchar(32) as returned_order_line_key,
    return_links.return_match::varchar as return_match,
    coalesce(returned.returned_quantity, 0)::number(18, 4) as returned_quantity,
    lines.delivery_count::number(38, 0) as delivery_count,
    (held.order_line_key is not null)::boolean as is_held,
    lines.source_system::varchar as source_system,
    lines._source_file::varchar as source_file,
    lines._source_row::number(38, 0) as source_row
from lines
left join customers on {{ is_version_at('customers', 'lines', 'customer_id', 'ordered_at') }}
left join products on {{ is_version_at('products', 'lines', 'product_id', 'ordered_at') }}
left join return_links on lines.order_line_key = return_links.return_line_key
left join returned on lines.order_line_key = returned.sale_line_key
left join held
    on
        lines.order_line_key = held.order_line_key
        and lines.quantity::number(18, 4) = held.quantity
        and lines.unit_price::number(18, 4) = held.unit_price
        and lines.currency = held.currency
left join rates
    on
        lines.rate_source = rates.rate_source
        and lines.currency = rates.currency
        and lines.order_date >= rates.valid_from
        and lines.order_date < rates.ends_before
