-- Visitors and sessions of events that name customers, and whether others are named by them too. $customer_path,
-- $visitor_path and $session_path: where the payload has each. Bound: 1. source, 2. stream, 3. JSON array of
-- {raw_id, pseudonym}.
with events as (
    select
        nullif(trim(get_path(payload, $customer_path)::varchar, ' \t\r\n'), '') as customer_id,
        nullif(trim(get_path(payload, $visitor_path)::varchar, ' \t\r\n'), '') as visitor_id,
        nullif(trim(get_path(payload, $session_path)::varchar, ' \t\r\n'), '') as session_id
    from raw.click_events
    where
        _source_system = ?
        and _topic = ?
),

wanted as (
    select
        item.value:raw_id::varchar as raw_id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
),

ids as (
    select
        'visitor' as kind,
        visitor_id as device_id,
        customer_id
    from events
    where visitor_id is not null and customer_id is not null
    union
    select
        'session' as kind,
        session_id as device_id,
        customer_id
    from events
    where session_id is not null and customer_id is not null
)

select
    ids.kind,
    ids.device_id,
    min(wanted.pseudonym) as pseudonym,
    count(distinct coalesce(wanted.pseudonym, 'customer ' || ids.customer_id)) > 1 as is_shared
from ids
left join wanted on ids.customer_id = wanted.raw_id
group by ids.kind, ids.device_id
having count(wanted.pseudonym) > 0
