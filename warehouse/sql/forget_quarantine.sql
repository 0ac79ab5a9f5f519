-- Bound: 1. JSON array of {source_hash}, 2. source.
delete from ops.quarantine
where
    source_hash in (
        select file.value:source_hash::varchar
        from table(flatten(input => parse_json(?))) as file
    )
    and source = ?
