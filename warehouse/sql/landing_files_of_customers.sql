-- Landed files that RAW has customers' rows of. Bound: 1. source, 2. JSON array of ids and pseudonyms as in RAW.
with chosen as (
    select cast(? as varchar) as source_system
),

wanted as (
    select item.value::varchar as raw_id
    from table(flatten(input => parse_json(?))) as item
),

named as (
    select customers._source_hash as content_hash
    from raw.customers as customers
    inner join chosen on customers._source_system = chosen.source_system
    inner join wanted on customers.customer_id = wanted.raw_id
    union
    select lines._source_hash
    from raw.order_lines as lines
    inner join chosen on lines._source_system = chosen.source_system
    inner join wanted on lines.customer_id = wanted.raw_id
    union
    select merges._source_hash
    from raw.customer_merges as merges
    inner join chosen on merges._source_system = chosen.source_system
    inner join wanted on wanted.raw_id in (merges.customer_id, merges.merged_into_customer_id)
)

select distinct
    files.landing_url,
    files.file_key
from ops.files as files
inner join chosen on files.source_system = chosen.source_system
inner join named on files.content_hash = named.content_hash
where files.landing_url <> ''
order by files.landing_url, files.file_key
