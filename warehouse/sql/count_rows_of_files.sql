-- The table is filled in by warehouse.loading. Bound: 1. source, 2. JSON array of content hashes.
select
    _source_hash as content_hash,
    count(*) as rows_found
from identifier($target_table) -- noqa: PRS
where
    _source_system = ?
    and _source_hash in (select file.value::varchar from table(flatten(input => parse_json(?))) as file)
group by _source_hash
