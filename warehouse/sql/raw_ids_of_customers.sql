-- Customers' ids as they stand in RAW, with blanks and decimal parts that staging's SQL takes off.
-- Bound: 1. source, 2. JSON array of {id, pseudonym}.
with chosen as (
    select cast(? as varchar) as source_system
),

wanted as (
    select
        item.value:id::varchar as id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
),

conventions as (
    select boolor_agg(conventions.float_formatted_ids) as float_formatted_ids
    from ops.source_conventions as conventions
    inner join chosen on conventions.source_system = chosen.source_system
),

ids as (
    select lines.customer_id as raw_id
    from raw.order_lines as lines
    inner join chosen on lines._source_system = chosen.source_system
    union
    select customers.customer_id
    from raw.customers as customers
    inner join chosen on customers._source_system = chosen.source_system
    union
    select merges.customer_id
    from raw.customer_merges as merges
    inner join chosen on merges._source_system = chosen.source_system
    union
    select merges.merged_into_customer_id
    from raw.customer_merges as merges
    inner join chosen on merges._source_system = chosen.source_system
),

cleaned as (
    select
        ids.raw_id,
        trim(translate(ids.raw_id, '\t\r\n', '   ')) as id,
        coalesce(conventions.float_formatted_ids, false) as float_formatted_ids
    from ids
    cross join conventions
)

select
    cleaned.raw_id,
    wanted.pseudonym
from cleaned
inner join wanted
    on
        wanted.id = iff(
            cleaned.float_formatted_ids and regexp_like(cleaned.id, '^[0-9]+[.]0+$'),
            split_part(cleaned.id, '.', 1),
            cleaned.id
        )
