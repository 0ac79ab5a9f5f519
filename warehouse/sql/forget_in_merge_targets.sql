-- Bound: 1. JSON array of {raw_id, pseudonym}, 2. source.
update raw.customer_merges
set merged_into_customer_id = forgotten.pseudonym
from (
    select
        item.value:raw_id::varchar as raw_id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
) as forgotten
where
    raw.customer_merges._source_system = ?
    and raw.customer_merges.merged_into_customer_id = forgotten.raw_id
