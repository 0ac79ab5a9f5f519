{{ config(schema='INTERMEDIATE', materialized='table') }}

with lines as (
    select
        source_system,
        order_id,
        product_id,
        ordered_at,
        order_date,
        order_date_key
    from {{ ref('int_order_lines') }}
    where is_readable and order_date is not null
),

-- A first version holds from the beginning of time. When what it says has changed, so has the category of older lines,
-- though their facts point where they pointed before.
changed_first_versions as (
    select
        touched.source_system,
        touched.product_id,
        touched.changed_from
    from {{ ref('int_touched_products') }} as touched
    inner join {{ ref('dim_products') }} as products
        on
            touched.source_system = products.source_system
            and touched.product_id = products.product_id
    where
        products.valid_from = {{ beginning_of_time() }}
        and (products.valid_to is null or touched.changed_from < products.valid_to)
)

-- Also the days that an order was on before this run: int_order_lines has every line as it was delivered.
select
    lines.order_date,
    lines.order_date_key
from lines
inner join {{ ref('int_touched_orders') }} as touched
    on
        lines.source_system = touched.source_system
        and lines.order_id = touched.order_id

union

select
    lines.order_date,
    lines.order_date_key
from lines
inner join changed_first_versions as changed
    on
        lines.source_system = changed.source_system
        and lines.product_id = changed.product_id
        and lines.ordered_at < changed.changed_from
