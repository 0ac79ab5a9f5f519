-- Bound: 1. time, 2. source, 3. JSON array of pseudonyms.
update ops.forgotten_customers
set finished_at = cast(? as timestamp_ntz)
where
    finished_at is null
    and source_system = ?
    and pseudonym in (
        select item.value::varchar
        from table(flatten(input => parse_json(?))) as item
    )
