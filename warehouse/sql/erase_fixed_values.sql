-- Bound: 1. JSON array of entry ids.
update ops.replays
set fixed_value = null
where
    entry_id in (
        select item.value::varchar
        from table(flatten(input => parse_json(?))) as item
    )
