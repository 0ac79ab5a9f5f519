with files as (
    select
        source_system,
        content_hash
    from {{ ref('int_files_to_transform') }}
    where entity = 'order_lines'
),

lines as (
    select
        source_system,
        order_id,
        customer_id,
        product_id,
        ordered_at,
        _source_hash
    from {{ ref('int_order_lines') }}
    where order_id is not null
),

changed_customers as (
    select
        source_system,
        customer_id,
        changed_from
    from {{ ref('int_touched_customers') }}
    where changed_from is not null
),

changed_products as (
    select
        source_system,
        product_id,
        changed_from
    from {{ ref('int_touched_products') }}
    where changed_from is not null
)

select
    lines.source_system,
    lines.order_id
from lines
inner join files
    on
        lines.source_system = files.source_system
        and lines._source_hash = files.content_hash

union

select
    lines.source_system,
    lines.order_id
from lines
inner join changed_customers
    on
        lines.source_system = changed_customers.source_system
        and lines.customer_id = changed_customers.customer_id
        and lines.ordered_at >= changed_customers.changed_from

union

select
    lines.source_system,
    lines.order_id
from lines
inner join changed_products
    on
        lines.source_system = changed_products.source_system
        and lines.product_id = changed_products.product_id
        and lines.ordered_at >= changed_products.changed_from
