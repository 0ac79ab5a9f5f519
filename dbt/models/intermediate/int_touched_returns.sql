with files as (
    select
        source_system,
        content_hash
    from {{ ref('int_files_to_transform') }}
    where entity = 'order_lines'
),

-- Superseded lines too: what they said held until this run.
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
        _source_hash
    from {{ ref('int_order_lines') }}
    where is_readable
),

return_lines as (
    select *
    from lines
    where is_return_line
),

arrived as (
    select distinct
        lines.source_system,
        lines.order_id
    from lines
    inner join files
        on
            lines.source_system = files.source_system
            and lines._source_hash = files.content_hash
),

-- An order that an arrived return names: its lines that are named are no longer there to be matched.
named as (
    select
        source_system,
        order_id
    from arrived
    union
    select
        return_lines.source_system,
        return_lines.returned_order_id as order_id
    from return_lines
    inner join arrived
        on
            return_lines.source_system = arrived.source_system
            and return_lines.order_id = arrived.order_id
    where return_lines.returned_order_id is not null
),

matchable as (
    select distinct
        lines.source_system,
        lines.customer_id,
        lines.product_id,
        lines.units,
        lines.currency
    from lines
    inner join named
        on
            lines.source_system = named.source_system
            and lines.order_id = named.order_id
)

select
    return_lines.source_system,
    return_lines.order_id as return_order_id
from return_lines
inner join arrived
    on
        return_lines.source_system = arrived.source_system
        and return_lines.order_id = arrived.order_id

union

select
    return_lines.source_system,
    return_lines.order_id as return_order_id
from return_lines
inner join arrived
    on
        return_lines.source_system = arrived.source_system
        and return_lines.returned_order_id = arrived.order_id

union

select
    return_lines.source_system,
    return_lines.order_id as return_order_id
from return_lines
inner join matchable
    on
        return_lines.source_system = matchable.source_system
        and return_lines.customer_id = matchable.customer_id
        and return_lines.product_id = matchable.product_id
        and return_lines.units = matchable.units
        and return_lines.currency = matchable.currency
where return_lines.returned_order_id is null
