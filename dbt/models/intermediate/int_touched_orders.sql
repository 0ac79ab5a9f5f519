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
        abs(quantity) as units,
        currency,
        is_returned and quantity < 0 as is_return_line,
        returned_order_id,
        ordered_at,
        order_date,
        is_readable,
        rate_source,
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
),

changed_rates as (
    select
        rate_source,
        currency,
        valid_from,
        valid_to
    from {{ ref('int_fx_rates') }}
    where is_touched
),

-- Returns whose links may change, and with them the lines they point at or pointed at.
touched_return_lines as (
    select lines.*
    from lines
    inner join {{ ref('int_touched_returns') }} as touched_returns
        on
            lines.source_system = touched_returns.source_system
            and lines.order_id = touched_returns.return_order_id
    where lines.is_readable and lines.is_return_line
),

match_groups as (
    select distinct
        source_system,
        customer_id,
        product_id,
        units,
        currency
    from touched_return_lines
    where returned_order_id is null
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

union

select
    source_system,
    order_id
from touched_return_lines

union

select
    source_system,
    returned_order_id
from touched_return_lines
where returned_order_id is not null

union

select
    lines.source_system,
    lines.order_id
from lines
inner join match_groups
    on
        lines.source_system = match_groups.source_system
        and lines.customer_id = match_groups.customer_id
        and lines.product_id = match_groups.product_id
        and lines.units = match_groups.units
        and lines.currency = match_groups.currency
where lines.is_readable

union

select
    source_system,
    order_id
from {{ ref('int_gate_changes') }}

union

select
    lines.source_system,
    lines.order_id
from lines
inner join changed_rates
    on
        lines.rate_source = changed_rates.rate_source
        and lines.currency = changed_rates.currency
        and lines.order_date >= changed_rates.valid_from
        and (changed_rates.valid_to is null or lines.order_date < changed_rates.valid_to)
