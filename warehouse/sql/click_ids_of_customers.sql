-- Customers' ids as they stand in events. $customer_path: where the payload has them. Bound: 1. source, 2. stream,
-- 3. JSON array of {id, pseudonym}.
with ids as (
    select distinct
        _source_system as source_system,
        nullif(trim(get_path(payload, $customer_path)::varchar, ' \t\r\n'), '') as raw_id
    from raw.click_events
    where
        _source_system = ?
        and _topic = ?
),

wanted as (
    select
        item.value:id::varchar as id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
)

select
    ids.raw_id,
    wanted.pseudonym
from ids
left join ops.source_conventions as conventions on ids.source_system = conventions.source_system
inner join wanted
    on
        wanted.id = iff(
            coalesce(conventions.float_formatted_ids, false) and regexp_like(ids.raw_id, '^[0-9]+[.]0+$'),
            split_part(ids.raw_id, '.', 1),
            ids.raw_id
        )
