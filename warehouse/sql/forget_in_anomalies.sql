-- Bound: 1. JSON array of {id, pseudonym}, 2. source.
update quality.anomalies
set customer_id = forgotten.pseudonym
from (
    select
        item.value:id::varchar as id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
) as forgotten
where
    quality.anomalies.source_system = ?
    and quality.anomalies.customer_id = forgotten.id
