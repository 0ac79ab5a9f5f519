-- Events that name customers, or nobody and one of their devices. $customer_path, $visitor_path and $session_path: where
-- the payload has each. Bound: 1. source, 2. stream, 3. JSON array of {kind, raw_id, pseudonym}.
with events as (
    select
        payload,
        _epoch,
        _partition,
        _offset,
        nullif(trim(get_path(payload, $customer_path)::varchar, ' \t\r\n'), '') as customer_id,
        nullif(trim(get_path(payload, $visitor_path)::varchar, ' \t\r\n'), '') as visitor_id,
        nullif(trim(get_path(payload, $session_path)::varchar, ' \t\r\n'), '') as session_id
    from raw.click_events
    where
        _source_system = ?
        and _topic = ?
),

owned as (
    select
        *,
        case
            when customer_id is not null then 'customer'
            when visitor_id is not null then 'visitor'
            else 'session'
        end as kind,
        coalesce(customer_id, visitor_id, session_id) as raw_id
    from events
),

wanted as (
    select
        item.value:kind::varchar as kind,
        item.value:raw_id::varchar as raw_id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
)

select
    to_json(owned.payload) as payload,
    owned._epoch as epoch,
    owned._partition as partition_id,
    owned._offset as record_position,
    wanted.pseudonym
from owned
inner join wanted
    on
        owned.kind = wanted.kind
        and owned.raw_id = wanted.raw_id
