-- Bound: 1. source, 2. JSON array of {id, pseudonym}.
select count(*) as row_count
from quality.anomalies
where
    source_system = ?
    and customer_id in (
        select item.value:id::varchar
        from table(flatten(input => parse_json(?))) as item
    )
